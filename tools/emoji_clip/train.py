"""Train the tiny CLIP ``emoji-clip`` on four art styles of emoji.

The model is open_clip's own ``CLIP`` class with a small ResNet and a small text tower,
trained by the usual contrastive loss on drawings and captions made of emoji names,
keywords and class names. The three test styles are never read here.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from build_images import TRAIN_STYLES, read_json
from classes import load_classes
from PIL import Image
from safetensors.torch import save_file

CONTEXT_LENGTH = 24
MODEL_CONFIG = {
    "embed_dim": 96,
    "vision_cfg": {
        "image_size": 32,
        "layers": [1, 1, 1, 1],
        "width": 16,
        "head_width": 64,
    },
    "text_cfg": {
        "context_length": CONTEXT_LENGTH,
        "vocab_size": 49408,
        "width": 96,
        "heads": 3,
        "layers": 2,
    },
}
PREPROCESS_CONFIG = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}

TEMPLATES = [
    "{}",
    "{}.",
    "a {}",
    "a {}.",
    "the {}",
    "a photo of a {}",
    "a photo of a {}.",
    "a photo of the {}.",
    "an image of a {}",
    "a picture of a {}",
    "a drawing of a {}.",
    "a cartoon of a {}",
    "an icon of a {}",
    "a {} emoji",
    "a colorful {}",
    "a small {}",
]
CAPTIONS_PER_NAME = 48


class CaptionSampler:
    """Random captions, as tokens, for emoji.

    Parameters
    ----------
    emoji : list of dict
        Names and keywords, from build_images.py.
    class_fraction : float
        Part of the captions that use the class name, for emoji that have a class.
    rng : numpy.random.Generator
        Source of randomness.

    Attributes
    ----------
    vocabulary : ndarray of shape (n_used,)
        Tokens that occur in any caption.
    """

    def __init__(self, emoji, class_fraction, rng):
        self.rng = rng
        class_of = {
            number: class_name
            for class_name, numbers in load_classes([e["name"] for e in emoji]).items()
            for number in numbers
        }
        tokenize = open_clip.SimpleTokenizer(context_length=CONTEXT_LENGTH)
        tokens = []
        for number, entry in enumerate(emoji):
            captions = [
                self._caption(entry, class_of.get(number), class_fraction)
                for _ in range(CAPTIONS_PER_NAME)
            ]
            tokens.append(tokenize(captions).numpy())
        self.vocabulary, compact = np.unique(np.array(tokens), return_inverse=True)
        self._tokens = compact.reshape(len(emoji), CAPTIONS_PER_NAME, CONTEXT_LENGTH)

    def _caption(self, entry, class_name, class_fraction):
        """Make one caption: a name in a template, sometimes with a keyword."""
        names = [entry["name"], *entry["keywords"][:1]]
        tags = [*entry["tags"], *entry["keywords"][1:5]]
        draw = self.rng.random()
        if class_name is not None and draw < class_fraction:
            name = class_name
        elif tags and self.rng.random() < 0.2:
            name = self.rng.choice(tags)
        else:
            name = self.rng.choice(names)
        caption = self.rng.choice(TEMPLATES).format(name)
        if tags and self.rng.random() < 0.2:
            caption += ", " + self.rng.choice(tags)
        return caption.lower()

    def __call__(self, numbers):
        """Draw one caption for each emoji number, cut to the longest of them."""
        choice = self.rng.integers(CAPTIONS_PER_NAME, size=len(numbers))
        tokens = torch.from_numpy(self._tokens[numbers, choice])
        # Padding, token 0, is the first of the vocabulary.
        return tokens[:, : int((tokens != 0).sum(1).max())]


def shrink(image):
    """Bring a drawing nearer to the model's size, so that sampling does not alias."""
    side = MODEL_CONFIG["vision_cfg"]["image_size"] * 3 // 2
    return np.asarray(Image.fromarray(image).resize((side, side)))


def uniform(shape, low, high):
    """Draw uniform numbers."""
    return torch.empty(shape).uniform_(low, high)


def augment(images, strength):
    """Move, recolour and partly hide RGBA drawings on random backgrounds.

    Parameters
    ----------
    images : ndarray of shape (n, height, width, 4), dtype uint8
        Drawings.
    strength : float
        Scale of all changes; 1 is moderate.

    Returns
    -------
    pixels : tensor of shape (n, 3, 32, 32)
        Normalised as the model expects.
    """
    n = len(images)
    rgba = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    rgba[:, :3] *= rgba[:, 3:]

    angle = torch.randn(n) * math.radians(10 * strength)
    scale = uniform(n, -0.25 * strength, 0.25 * strength).exp()
    aspect = uniform(n, -0.12 * strength, 0.12 * strength).exp()
    mirror = torch.randint(2, (n,)) * 2 - 1
    affine = torch.zeros(n, 2, 3)
    affine[:, 0, 0] = angle.cos() * scale * aspect * mirror
    affine[:, 0, 1] = -angle.sin() * scale
    affine[:, 1, 0] = angle.sin() * scale * mirror
    affine[:, 1, 1] = angle.cos() * scale / aspect
    affine[:, :, 2] = uniform((n, 2), -0.15 * strength, 0.15 * strength)
    side = MODEL_CONFIG["vision_cfg"]["image_size"]
    grid = F.affine_grid(affine, (n, 4, side, side), align_corners=False)
    rgba = F.grid_sample(rgba, grid, align_corners=False)
    colours, alpha = rgba[:, :3], rgba[:, 3:]

    mix = torch.eye(3) * uniform((n, 1, 1), 1 - 0.3 * strength, 1 + 0.2 * strength)
    mix = mix + torch.randn(n, 3, 3) * 0.1 * strength
    grey = torch.rand(n) < 0.1 * strength
    mix[grey] = mix[grey].mean(1, keepdim=True).expand(-1, 3, -1)
    colours = torch.einsum("nij,njhw->nihw", mix, colours).clamp(0, 1)

    background = torch.rand(n, 3, 1, 1)
    background[torch.rand(n) < 0.5] = 1.0
    pixels = (colours + (1 - alpha) * background).clamp(0, 1)

    for i in torch.nonzero(torch.rand(n) < 0.25 * strength).flatten().tolist():
        height, width = np.random.randint(side // 8, side * 2 // 5, size=2)
        top, left = np.random.randint(side - height), np.random.randint(side - width)
        pixels[i, :, top : top + height, left : left + width] = torch.rand(3, 1, 1)
    return pixels.sub(0.5).div(0.5)


def encode_tokens(model, tokens):
    """Encode captions shorter than the context, as ``model.encode_text`` would."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    # The end-of-text token is the largest, in the compact vocabulary too.
    last = model.ln_final(x)[torch.arange(len(x)), tokens.argmax(-1)]
    return F.normalize(last @ model.text_projection, dim=-1)


def contrastive_loss(logits, tokens):
    """Symmetric cross-entropy in which equal captions share the probability."""
    same = (tokens[:, None] == tokens[None]).all(-1).float()
    target = same / same.sum(1, keepdim=True)
    rows = F.cross_entropy(logits, target)
    columns = F.cross_entropy(logits.T, target)
    return (rows + columns) / 2


def anchor_loss(features, anchors, scale, numbers):
    """Cross-entropy of features against one learned anchor for each emoji."""
    logits = scale * features @ F.normalize(anchors, dim=-1).T
    return F.cross_entropy(logits, numbers)


def emoji_batches(images, numbers, batch_size, rng):
    """Yield batches of different emoji, each in one of its styles, for ever."""
    drawings = {i: np.flatnonzero(numbers == i) for i in np.unique(numbers)}
    emoji = np.array(list(drawings))
    while True:
        rng.shuffle(emoji)
        for start in range(0, len(emoji) - batch_size + 1, batch_size):
            batch = emoji[start : start + batch_size]
            yield images[[rng.choice(drawings[i]) for i in batch]], batch


def make_optimizer(model, learning_rate, weight_decay):
    """AdamW that decays matrices only."""
    plain, decayed = [], []
    for name, parameter in model.named_parameters():
        small = parameter.ndim < 2 or "embedding" in name
        (plain if small else decayed).append(parameter)
    groups = [
        {"params": plain, "weight_decay": 0.0},
        {"params": decayed, "weight_decay": weight_decay},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), eps=1e-6)


def update_average(average, model, step):
    """Move the exponential average of the weights towards the model."""
    decay = min(0.998, (step + 1) / (step + 10))
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value, 1 - decay)
            else:
                average[name].copy_(value)


def save_checkpoint(folder, state, vocabulary, training):
    """Write a folder that plain open_clip loads as ``local-dir:<folder>``."""
    text = MODEL_CONFIG["text_cfg"]
    embedding = torch.zeros(text["vocab_size"], text["width"])
    embedding[vocabulary] = state["token_embedding.weight"]
    state = {**state, "token_embedding.weight": embedding}
    half = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in state.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(half, folder / "open_clip_model.safetensors")
    config = {"model_cfg": MODEL_CONFIG, "preprocess_cfg": PREPROCESS_CONFIG}
    for name, content in [
        ("open_clip_config.json", config),
        ("training.json", training),
    ]:
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def load_drawings(images_file, styles):
    """Load the drawings of some styles and the number of the emoji that each shows."""
    with np.load(images_file) as data:
        chosen = np.isin(data["styles"], styles)
        images, numbers = data["images"][chosen], data["numbers"][chosen]
    return np.stack([shrink(image) for image in images]), numbers


def make_model(vocabulary):
    """Make open_clip's CLIP with an embedding of the tokens in use alone."""
    model = open_clip.CLIP(**MODEL_CONFIG).train()
    model.token_embedding = torch.nn.Embedding.from_pretrained(
        model.token_embedding.weight.detach()[vocabulary].clone(), freeze=False
    )
    model.visual.to(memory_format=torch.channels_last)
    return model


def total_loss(model, anchors, anchor_weight, pixels, tokens, numbers):
    """Contrastive loss of images and captions, and of both against the anchors."""
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    image_features = F.normalize(model.encode_image(pixels), dim=-1)
    text_features = encode_tokens(model, tokens)
    scale = model.logit_scale.exp()
    loss = contrastive_loss(scale * image_features @ text_features.T, tokens)
    for features in (image_features, text_features):
        to_anchors = anchor_loss(features, anchors, scale, numbers)
        loss = loss + anchor_weight / 2 * to_anchors
    return loss


def train(args):
    """Train one model and write its checkpoint."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    rng = np.random.default_rng(args.seed)

    styles = [style for style in TRAIN_STYLES if style != args.hold_out]
    images, numbers = load_drawings(args.images, styles)
    emoji = read_json(args.images.with_name("emoji.json"))
    captions = CaptionSampler(emoji, args.class_fraction, rng)
    vocabulary = torch.from_numpy(captions.vocabulary)
    print(f"{len(images)} drawings in {styles}, {len(vocabulary)} tokens")

    model = make_model(vocabulary)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = make_optimizer(model, args.learning_rate, args.weight_decay)
    # Anchors that both towers aim at speed up the start; they are dropped at the end.
    anchors = torch.nn.Parameter(0.1 * torch.randn(len(emoji), MODEL_CONFIG["embed_dim"]))
    optimizer.add_param_group({"params": [anchors], "weight_decay": 0.0})

    start, losses = time.time(), []
    batches = emoji_batches(images, numbers, args.batch_size, rng)
    for step in range(1, args.steps + 1):
        decay = 0.5 * (1 + math.cos(math.pi * step / args.steps))
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * decay * min(1, step / 100)
        drawings, batch = next(batches)
        pixels, tokens = augment(drawings, args.augment), captions(batch)
        loss = total_loss(
            model, anchors, args.anchor_weight, pixels, tokens, torch.from_numpy(batch)
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.logit_scale.data.clamp_(0, math.log(100))
        update_average(average, model, step)

        losses.append(loss.item())
        if step % 200 == 0:
            seconds = time.time() - start
            print(f"step {step}, {seconds:.0f} s, loss {np.mean(losses[-200:]):.3f}", flush=True)
        if step % 2000 == 0 or step == args.steps:
            training = {k: v for k, v in vars(args).items() if k not in ("images", "out")}
            training |= {"styles": styles, "steps_done": step}
            save_checkpoint(args.out, average, vocabulary, training)


def main():
    """Train the tiny CLIP."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--images", type=Path, default="build/images.npz")
    parser.add_argument("--out", type=Path, default="build/emoji-clip")
    parser.add_argument("--hold-out", choices=TRAIN_STYLES, help="style left out")
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1.4e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--anchor-weight", type=float, default=1.0)
    parser.add_argument("--augment", type=float, default=0.7)
    parser.add_argument("--class-fraction", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
