"""Size of exported files, and time of one photo: the pipeline, its ONNX file, a loop of open_clip.

    python -m benchmarks.speed.export --model emoji-clip ViT-B-32 RN50

Each photo is a JPEG file in memory that no one has seen before; "seen before" has its embedding in
the memory of the process. The loop is the example in the documentation of open_clip: preprocessing,
image encoder, similarities to the texts. It computes in float32, as the ONNX file does. What
encodes photos takes turns, and so does what has embeddings, with the same number of threads. Models
other than emoji-clip have random weights. Prints a Markdown table with ratios to the loop.
"""

import argparse
import io
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from benchmarks.speed.machine import processor, seconds
from skcandle import make_candle_pipeline
from skcandle.clip._checkpoint import find_checkpoint
from skcandle.clip._model import load_model
from skcandle.datasets import load_emoji
from skcandle.export import resize_and_crop, to_onnx

PHOTO = Path(__file__).parents[2] / "examples/first_steps/photos/coffee.jpg"


def photos():
    """Endless copies of a photo that differ in a byte after the end of the image."""
    data, number = PHOTO.read_bytes(), 0
    while True:
        number += 1
        yield data + number.to_bytes(4, "big")


def fitted_pipeline(model_name):
    emoji = load_emoji()
    pipe = make_candle_pipeline(model_name, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # random weights
        return pipe.fit(emoji.images, emoji.target)


def session_of(estimator, path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # idle threads that keep running would slow down whoever is next
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(to_onnx(estimator, path), options)


def contestants(pipe, folder):
    """Two groups of functions of the bytes of a photo, by name, and sizes of the files in MB."""
    clip = load_model(find_checkpoint(pipe["clip"].model_name, None), "fp32", torch.device("cpu"))
    config = PreprocessCfg(**clip.module.visual.preprocess_cfg)
    preprocess = image_transform_v2(config, is_train=False)
    texts = torch.tensor(pipe["candle"].text_features_)
    session = session_of(pipe, folder / "model.onnx")
    head = session_of(pipe["candle"], folder / "head.onnx")
    geometry = json.loads(session.get_modelmeta().custom_metadata_map["preprocessing"])
    row = pipe["clip"].transform([PHOTO])

    def loop(photo):
        image = preprocess(Image.open(io.BytesIO(photo)).convert("RGB"))
        with torch.no_grad():
            features = clip.module.encode_image(image[None])
            features /= features.norm(dim=-1, keepdim=True)
            return (100 * features @ texts.T).softmax(dim=-1)

    def onnx(photo):
        pixels = resize_and_crop(Image.open(io.BytesIO(photo)), **geometry)
        return session.run(["label"], {"pixels": pixels[None]})

    new = {
        "loop of open_clip": loop,
        f"pipe.predict ({pipe['clip']._encoder().precision})": lambda photo: pipe.predict([photo]),
        "ONNX Runtime": onnx,
    }
    embedded = {
        "pipe.predict, seen before": lambda photo: pipe.predict([PHOTO]),
        "classifier alone": lambda photo: pipe["candle"].predict(row),
        "classifier alone, ONNX Runtime": lambda photo: head.run(["label"], {"embeddings": row}),
    }
    sizes = [(folder / name).stat().st_size / 1e6 for name in ("model.onnx", "head.onnx")]
    return [new, embedded], sizes


def medians(functions, n_rounds):
    """Median seconds of each function, after three rounds that do not count."""
    rounds = [
        [seconds(function, photo)[0] for function in functions.values()]
        for _, photo in zip(range(n_rounds + 3), photos(), strict=False)
    ]
    return dict(zip(functions, np.median(rounds[3:], axis=0), strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["emoji-clip", "ViT-B-32", "RN50"])
    parser.add_argument("--rounds", type=int, default=50)
    args = parser.parse_args()
    print(f"{processor()}, {torch.get_num_threads()} threads")
    print("| model | MB | MB of the head | one photo by | ms | / loop |")
    print("| --- | ---: | ---: | --- | ---: | ---: |")
    for model_name in args.model:
        with tempfile.TemporaryDirectory() as folder:
            groups, sizes = contestants(fitted_pipeline(model_name), Path(folder))
        times = {k: t for group in groups for k, t in medians(group, args.rounds).items()}
        prefix = f"{model_name} | {sizes[0]:.1f} | {sizes[1]:.1f}"
        for name, time in times.items():
            ratio = time / times["loop of open_clip"]
            print(f"| {prefix} | {name} | {1e3 * time:.1f} | {ratio:.2f} |", flush=True)
            prefix = " | | "


if __name__ == "__main__":
    main()
