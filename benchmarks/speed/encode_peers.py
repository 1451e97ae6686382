"""Other libraries with CLIP models, with random weights of the same architecture.

Each function returns a callable from paths to rows, or None if the library is not installed or does
not have the architecture.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image


def transformers_peer(name, device, batch_size):
    """`CLIPModel` with its image processor, as in the documentation of transformers."""
    model = _transformers_model(name)
    if model is None:
        return None
    from transformers import CLIPImageProcessor

    model = model.to(device)
    processor = CLIPImageProcessor()

    def encode(paths):
        rows = []
        for start in range(0, len(paths), batch_size):
            images = [Image.open(path) for path in paths[start : start + batch_size]]
            inputs = processor(images=images, return_tensors="pt").to(device)
            with torch.inference_mode():
                found = model.get_image_features(**inputs)
            features = getattr(found, "pooler_output", found)  # a tensor before version 5
            rows.append((features / features.norm(dim=-1, keepdim=True)).cpu().numpy())
        return np.concatenate(rows)

    return encode


def sentence_transformers_peer(name, device, batch_size):
    """`SentenceTransformer.encode` with such a model and a character tokenizer."""
    model = _transformers_model(name)
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        return None
    if model is None:
        return None
    from transformers import CLIPImageProcessor, CLIPProcessor

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        CLIPProcessor(CLIPImageProcessor(), _tokenizer_of_letters(folder)).save_pretrained(folder)
        loaded = SentenceTransformer(folder, device=device)

    def encode(paths):
        images = [Image.open(path) for path in paths]
        return loaded.encode(images, batch_size=batch_size, normalize_embeddings=True)

    return encode


def _transformers_model(name):
    """A vision transformer of open_clip in transformers, with a minimal text encoder."""
    try:
        from transformers import CLIPConfig, CLIPModel
    except ImportError:
        return None
    config = (open_clip.get_model_config(name) or {}).get("vision_cfg", {})
    if "patch_size" not in config:
        return None
    width = config["width"]
    vision = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": config["layers"],
        "num_attention_heads": width // config.get("head_width", 64),
        "patch_size": config["patch_size"],
        "image_size": config["image_size"],
    }
    special = {"bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
    text = {"vocab_size": 514, "num_hidden_layers": 1, **special}
    embed_dim = open_clip.get_model_config(name)["embed_dim"]
    config = CLIPConfig(vision_config=vision, text_config=text, projection_dim=embed_dim)
    return CLIPModel(config).eval()


def _tokenizer_of_letters(folder):
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(256)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    files = {"vocab.json": json.dumps(vocabulary), "merges.txt": "#version: 0.2\n"}
    for name, content in files.items():
        (Path(folder) / name).write_text(content)
    return CLIPTokenizer(*(str(Path(folder) / name) for name in files))
