"""Train ``emoji-clip`` on drawings of emoji and icons of the same things.

The model is open_clip's ``CLIP`` class with a small ResNet and a small text tower. The losses pull
both towers towards a learned anchor for each emoji and each class, and towards each other with the
contrastive loss. The three test styles are never read here.
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
from augment import augment
from build_images import TRAIN_STYLES, read_json
from classes import load_classes
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, IterableDataset

CONTEXT_LENGTH = 24
PREPROCESS_CONFIG = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}
# Icon sets by the artists of a style, which are held out together with it.
RELATED_SETS = {"emojione": ["emojione-monotone"]}

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


def model_config(image_size, width, layers):
    """Configuration of the model in open_clip's format."""
    return {
        "embed_dim": 128,
        "vision_cfg": {
            "image_size": image_size,
            "layers": layers,
            "width": width,
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


class Drawings:
    """Drawings of emoji and icons, each with the number of an emoji and of a class.

    Attributes
    ----------
    images : list of ndarray
        RGBA drawings, or the opacity of monochrome icons.
    numbers, classes : ndarray of int
        Emoji and class of each, -1 where there is none.
    weights : ndarray of float
        Probability of each to be drawn.
    """

    def __init__(self, folder, class_names, hold_out, icon_weight, class_weight):
        emoji = read_json(folder / "emoji.json")
        classes = load_classes([entry["name"] for entry in emoji])
        class_of = np.full(len(emoji), -1)
        for c, name in enumerate(class_names):
            class_of[classes[name]] = c
        with np.load(folder / "images.npz") as data:
            kept = np.isin(data["styles"], [s for s in TRAIN_STYLES if s != hold_out])
            self.images = list(data["images"][kept])
            self.numbers = data["numbers"][kept]
        self.classes = class_of[self.numbers]
        weights = np.ones(len(self.images))
        with np.load(folder / "icons.npz") as data:
            kept = ~np.isin(data["sets"], RELATED_SETS.get(hold_out, []))
            coloured = data["coloured"][kept]
            for image, colour in zip(data["images"][kept], coloured, strict=True):
                self.images.append(image if colour else np.ascontiguousarray(image[..., 3]))
            self.numbers = np.concatenate([self.numbers, data["numbers"][kept]])
            # Classes of icons are numbered in the order of the table.
            order = np.array([class_names.index(name) for name in classes] + [-1])
            self.classes = np.concatenate([self.classes, order[data["classes"][kept]]])
            weights = np.concatenate([weights, np.where(coloured, 1, icon_weight)])
        # Frequent classes less often, drawings with a class more often.
        n_of_class = np.bincount(self.classes + 1, weights, minlength=len(class_names) + 1)
        share = class_weight * n_of_class[1:] ** 0.5 / (n_of_class[1:] ** 0.5).sum()
        share = np.concatenate([[1 - class_weight], share])
        self.weights = weights * (share / n_of_class)[self.classes + 1]
        self.weights /= self.weights.sum()


class Batches(IterableDataset):
    """Endless batches of augmented drawings: rows of `drawings` and pixels from 0 to 1."""

    def __init__(self, drawings, args):
        self.drawings = drawings
        self.args = args

    def __iter__(self):
        """Yield rows, of shape (n,), and pixels, of shape (n, height, width, 3)."""
        args, images = self.args, self.drawings.images
        rng = np.random.default_rng([args.seed, 1])
        start = time.time()
        while True:
            # The strength of changes increases during the first half of the run.
            progress = (time.time() - start) / (60 * args.minutes)
            strength = args.augment * (1 if args.start else min(1, 0.6 + 0.8 * progress))
            rows = rng.choice(len(images), args.batch_size, p=self.drawings.weights)
            yield (
                rows,
                np.stack([augment(images[i], args.image_size, strength, rng) for i in rows]),
            )


class Captions:
    """Random captions of emoji and classes, as tokens.

    Attributes
    ----------
    vocabulary : ndarray of shape (n_used,)
        Tokens that occur in any caption.
    """

    def __init__(self, emoji, class_names, rng, per_name=48):
        self.rng = rng
        self._n_emoji = len(emoji)
        tokenize = open_clip.SimpleTokenizer(context_length=CONTEXT_LENGTH)
        captions = []
        for entry in emoji:
            names = [entry["name"], *entry["keywords"][:1]]
            tags = [*entry["tags"], *entry["keywords"][1:5]]
            captions.append([self._caption(names, tags) for _ in range(per_name)])
        for name in class_names:
            captions.append([self._caption([name], []) for _ in range(per_name)])
        tokens = np.array([tokenize(group).numpy() for group in captions])
        self.vocabulary, compact = np.unique(tokens, return_inverse=True)
        self.tokens = compact.reshape(len(captions), per_name, CONTEXT_LENGTH)

    def _caption(self, names, tags):
        """Make one caption: a name in a template, sometimes with a keyword."""
        name = self.rng.choice(tags if tags and self.rng.random() < 0.2 else names)
        caption = self.rng.choice(TEMPLATES).format(name)
        if tags and self.rng.random() < 0.2:
            caption += ", " + self.rng.choice(tags)
        return caption.lower()

    def __call__(self, rows):
        """Draw one caption for each row, trimmed to the longest of them."""
        choice = self.rng.integers(self.tokens.shape[1], size=len(rows))
        tokens = torch.from_numpy(self.tokens[rows, choice])
        # Padding is token 0, the first of the vocabulary.
        return tokens[:, : int((tokens != 0).sum(1).max())]

    def of_drawings(self, numbers, classes):
        """Draw a caption for each drawing; about half of those with a class get one of the class.

        Returns
        -------
        tokens : tensor of shape (n, length)
        says_number : ndarray of shape (n,), dtype bool
            Whether the caption names the emoji.
        """
        by_class = (numbers < 0) | ((classes >= 0) & (self.rng.random(len(numbers)) < 0.5))
        return self(np.where(by_class, self._n_emoji + classes, numbers)), ~by_class


def encode_tokens(model, tokens):
    """Encode captions shorter than the context, as ``model.encode_text`` would."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    # The end-of-text token is the largest, in the compact vocabulary too.
    last = model.ln_final(x)[torch.arange(len(x)), tokens.argmax(-1)]
    return F.normalize(last @ model.text_projection, dim=-1)


def contrastive_loss(logits, row_keys, column_keys):
    """Symmetric cross-entropy in which all pairs of the same thing share the probability."""
    same = (row_keys[:, None] == column_keys[None]).float()
    rows = F.cross_entropy(logits, same / same.sum(1, keepdim=True).clamp(min=1))
    columns = F.cross_entropy(logits.T, same.T / same.T.sum(1, keepdim=True).clamp(min=1))
    return (rows + columns) / 2


def anchor_loss(features, anchors, scale, targets):
    """Cross-entropy against the anchor of the target, for rows that have a target."""
    known = targets >= 0
    logits = scale * features[known] @ F.normalize(anchors, dim=-1).T
    loss = F.cross_entropy(logits, targets[known], reduction="sum")
    return loss / len(targets)


def total_loss(model, anchors, pixels, tokens, numbers, classes, says_number):
    """Contrastive loss of images and captions, and of both against the anchors.

    Parameters
    ----------
    model : open_clip.CLIP
        Model in training.
    anchors : list of tensor
        One vector for each emoji, and one for each class.
    pixels : tensor of shape (n, height, width, 3)
        Drawings, from 0 to 1.
    tokens : tensor of shape (n / 2, length)
        Captions of every other drawing.
    numbers, classes : ndarray of shape (n,)
        Emoji and class of each drawing, -1 where there is none.
    says_number : ndarray of shape (n / 2,)
        Whether a caption names the emoji, not its class alone.
    """
    # NHWC in memory is torch's channels_last.
    pixels = pixels.permute(0, 3, 1, 2).sub(0.5).div(0.5)
    with torch.autocast("cpu", torch.bfloat16):
        image_features = model.encode_image(pixels)
    image_features = F.normalize(image_features.float(), dim=-1)
    text_features = encode_tokens(model, tokens)
    scale = model.logit_scale.exp()
    # Drawings of one class belong together; without a class, drawings of the same emoji do.
    keys = torch.from_numpy(np.where(classes >= 0, classes, numbers + len(anchors[1])))
    loss = contrastive_loss(scale * image_features @ text_features.T, keys, keys[::2])
    said_numbers = np.where(says_number, numbers[::2], -1)
    for anchor, of_image, of_text in [
        (anchors[0], numbers, said_numbers),
        (anchors[1], classes, classes[::2]),
    ]:
        loss = loss + anchor_loss(image_features, anchor, scale, torch.from_numpy(of_image))
        of_text = torch.from_numpy(of_text)
        loss = loss + 0.5 * anchor_loss(text_features, anchor, scale, of_text)
    return loss


def make_optimizer(model, anchors, learning_rate, weight_decay):
    """AdamW with weight decay only for matrices."""
    plain, decayed = list(anchors), []
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


def save_checkpoint(folder, config, state, vocabulary, training):
    """Write a folder that plain open_clip loads as ``local-dir:<folder>``."""
    text = config["text_cfg"]
    embedding = torch.zeros(text["vocab_size"], text["width"])
    embedding[vocabulary] = state["token_embedding.weight"]
    state = {**state, "token_embedding.weight": embedding}
    half = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in state.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(half, folder / "open_clip_model.safetensors")
    config = {"model_cfg": config, "preprocess_cfg": PREPROCESS_CONFIG}
    for name, content in [
        ("open_clip_config.json", config),
        ("training.json", training),
    ]:
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def make_model(config, vocabulary):
    """Make open_clip's CLIP with embeddings only for the tokens in use."""
    model = open_clip.CLIP(**config).train()
    model.token_embedding = torch.nn.Embedding.from_pretrained(
        model.token_embedding.weight.detach()[vocabulary].clone(), freeze=False
    )
    model.visual.to(memory_format=torch.channels_last)
    return model


def load_weights(model, folder, vocabulary):
    """Load the weights of an earlier run."""
    state = load_file(folder / "open_clip_model.safetensors")
    state["token_embedding.weight"] = state["token_embedding.weight"][vocabulary]
    # For larger images, all positions of the last feature map start equal.
    name = "visual.attnpool.positional_embedding"
    n_places = len(model.visual.attnpool.positional_embedding) - 1
    if len(state[name]) != n_places + 1:
        mean = state[name][1:].float().mean(0, keepdim=True)
        state[name] = torch.cat([state[name][:1].float(), mean.repeat(n_places, 1)])
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})


def text_anchors(model, captions, rows):
    """Mean text feature of the captions of each row."""
    with torch.no_grad():
        tokens = torch.from_numpy(captions.tokens[rows])
        features = [encode_tokens(model, t).mean(0) for t in tokens]
    return torch.nn.Parameter(F.normalize(torch.stack(features), dim=-1))


def train(args):
    """Train one model and write its checkpoint."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)

    emoji = read_json(args.data / "emoji.json")
    class_names = sorted(load_classes([entry["name"] for entry in emoji]))
    drawings = Drawings(args.data, class_names, args.hold_out, args.icon_weight, args.class_weight)
    captions = Captions(emoji, class_names, rng)
    vocabulary = torch.from_numpy(captions.vocabulary)
    print(f"{len(drawings.images)} drawings, {len(vocabulary)} tokens")

    config = model_config(args.image_size, args.width, args.layers)
    model = make_model(config, vocabulary)
    if args.start:
        load_weights(model, args.start, vocabulary)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    n_emoji, n_all = len(emoji), len(emoji) + len(class_names)
    anchors = [
        text_anchors(model, captions, slice(start, end))
        if args.start
        else torch.nn.Parameter(0.1 * torch.randn(end - start, config["embed_dim"]))
        for start, end in ((0, n_emoji), (n_emoji, n_all))
    ]
    optimizer = make_optimizer(model, anchors, args.learning_rate, args.weight_decay)

    batches = iter(DataLoader(Batches(drawings, args), batch_size=None, num_workers=1))
    start, losses, step, saved = time.time(), [], 0, 0
    progress = 0.0
    while progress < 1:
        step += 1
        progress = min(1.0, (time.time() - start) / (60 * args.minutes))
        decay = 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * decay * min(1, step / 300)

        rows, pixels = next(batches)
        rows = rows.numpy()
        numbers, classes = drawings.numbers[rows], drawings.classes[rows]
        # Captions of every other drawing.
        tokens, says_number = captions.of_drawings(numbers[::2], classes[::2])
        loss = total_loss(model, anchors, pixels, tokens, numbers, classes, says_number)

        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.logit_scale.data.clamp_(0, math.log(100))
        update_average(average, model, step)

        losses.append(loss.item())
        seconds = time.time() - start
        if step % 200 == 0:
            print(f"step {step}, {seconds:.0f} s, loss {np.mean(losses[-200:]):.3f}", flush=True)
        if seconds - saved > 300 or progress == 1:
            saved = seconds
            training = {k: v for k, v in vars(args).items() if k not in ("data", "out", "start")}
            training |= {"steps_done": step}
            if args.start:
                training["start"] = read_json(args.start / "training.json")
            save_checkpoint(args.out, config, average, vocabulary, training)


def main():
    """Train the bundled CLIP ``emoji-clip``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, default="build", help="from build_*.py")
    parser.add_argument("--out", type=Path, default="build/emoji-clip")
    parser.add_argument("--start", type=Path, help="folder of an earlier run to continue")
    parser.add_argument("--hold-out", choices=TRAIN_STYLES, help="style to hold out")
    parser.add_argument("--minutes", type=float, default=39)
    parser.add_argument("--image-size", type=int, default=48)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--layers", type=int, nargs=4, default=[1, 1, 1, 1])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=2.5e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--augment", type=float, default=1.0)
    parser.add_argument("--icon-weight", type=float, default=0.2)
    parser.add_argument("--class-weight", type=float, default=0.7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
