"""Measure the zero-shot accuracy of a checkpoint on chosen art styles.

Choose recipes on a training style that was held out. Look at the test styles once,
when the model is final.
"""

import argparse
from pathlib import Path

import numpy as np
import open_clip
import torch
from build_images import STYLES, read_json
from classes import load_classes
from PIL import Image

PROMPTS = {
    "name only": ["{}"],
    "photo": ["a photo of a {}."],
    "five prompts": [
        "{}",
        "a {}",
        "a picture of a {}",
        "a drawing of a {}.",
        "a photo of a {}.",
    ],
}


def on_white(image):
    """Lay an RGBA drawing on white.

    Parameters
    ----------
    image : ndarray of shape (height, width, 4), dtype uint8
        Drawing.

    Returns
    -------
    image : PIL.Image.Image
        RGB image.
    """
    drawing = Image.fromarray(image)
    white = Image.new("RGBA", drawing.size, "white")
    return Image.alpha_composite(white, drawing).convert("RGB")


def load_labelled(images_file, styles):
    """Load the drawings of some styles that belong to a class.

    Returns
    -------
    images : list of PIL.Image.Image
        Drawings on white, ordered by style and class.
    labels : ndarray of str
        Class name of each.
    image_styles : ndarray of str
        Style of each.
    """
    emoji = read_json(Path(images_file).with_name("emoji.json"))
    classes = load_classes([entry["name"] for entry in emoji])
    with np.load(images_file) as data:
        drawings, numbers, all_styles = (data[key] for key in ("images", "numbers", "styles"))
    rows, labels = [], []
    for style in styles:
        of_style = np.flatnonzero(all_styles == style)
        for class_name in sorted(classes):
            members = of_style[np.isin(numbers[of_style], classes[class_name])]
            rows.extend(members)
            labels.extend([class_name] * len(members))
    images = [on_white(drawings[row]) for row in rows]
    return images, np.array(labels), all_styles[rows]


@torch.no_grad()
def encode_images(model, preprocess, images):
    """Encode images to unit vectors, of shape (n_images, n_features)."""
    batches = [images[i : i + 256] for i in range(0, len(images), 256)]
    features = [
        model.encode_image(torch.stack([*map(preprocess, batch)]), normalize=True)
        for batch in batches
    ]
    return torch.cat(features).numpy()


@torch.no_grad()
def encode_names(model, tokenizer, names, templates):
    """Encode names to unit vectors, averaged over templates."""
    features = [
        model.encode_text(tokenizer([t.format(n) for n in names]), normalize=True)
        for t in templates
    ]
    return torch.nn.functional.normalize(torch.stack(features).mean(0), dim=-1).numpy()


def main():
    """Print zero-shot accuracies of a checkpoint."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--styles", nargs="+", choices=STYLES, required=True)
    parser.add_argument("--images", type=Path, default="build/images.npz")
    args = parser.parse_args()

    source = f"local-dir:{args.checkpoint}"
    model, _, preprocess = open_clip.create_model_and_transforms(source)
    model.eval()
    tokenizer = open_clip.get_tokenizer(source)
    images, labels, image_styles = load_labelled(args.images, args.styles)
    names = np.unique(labels)
    features = encode_images(model, preprocess, images)
    print(f"{len(names)} classes, chance {100 / len(names):.1f} %")
    for prompts, templates in PROMPTS.items():
        texts = encode_names(model, tokenizer, names, templates)
        ranked = names[np.argsort(-features @ texts.T, axis=1)]
        hits = ranked == labels[:, None]
        for style in [*args.styles, "all"]:
            rows = hits if style == "all" else hits[image_styles == style]
            top1, top5 = (100 * rows[:, :k].any(1).mean() for k in (1, 5))
            print(
                f"{prompts}, {style} ({len(rows)} images): top-1 {top1:.1f} %, top-5 {top5:.1f} %"
            )


if __name__ == "__main__":
    main()
