import math

import numpy as np
import pytest
import torch
from helpers import clip_like
from torch import nn
from torch.nn import functional as F

from skcandle import CandleClassifier
from skcandle.classifier._attention_head import (
    CandleHead,
    TrainingData,
    anchored_logits,
    attended_class_tokens,
    published_logits,
    published_prediction,
    train_anchored,
    train_published,
)

DIM, N_IMAGES, N_CLASSES = 16, 7, 5
CPU = torch.device("cpu")


def perturbed(dim=DIM, *, seed=0, **options):
    """A head in float64 none of whose parameters has the value it starts with."""
    head = CandleHead.seeded(seed, dim, **options).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for q in head.parameters():
            q += 0.3 * torch.randn(q.shape, generator=generator, dtype=q.dtype)
    return head


@pytest.fixture
def tokens():
    """Images, texts and prototypes."""
    generator = torch.Generator().manual_seed(0)
    sizes = (N_IMAGES, N_CLASSES, N_CLASSES)
    return [torch.randn(n, DIM, generator=generator, dtype=torch.float64) for n in sizes]


def masked_attention(head, images, texts, prototypes):
    """Tokens after attention by torch's module over all tokens at once, under a mask."""
    n_images, n_tokens = len(images), len(images) + 2 * len(texts)
    forbidden = torch.ones(n_tokens, n_tokens, dtype=torch.bool)
    forbidden[:, n_images:] = False  # every token attends to texts and prototypes,
    forbidden[range(n_images), range(n_images)] = False  # an image to itself too
    z = torch.cat([images, texts, prototypes])
    normed = F.layer_norm(z, (z.shape[1],), head.norm.weight, head.norm.bias)
    update, _ = head.attention(normed, normed, normed, attn_mask=forbidden, need_weights=False)
    return (z + head.residual_weight * update).split([n_images, len(texts), len(texts)])


class NumpyHead:
    """The equations of the paper, parameter by parameter, with nothing of torch."""

    def __init__(self, head):
        state = {name: tensor.numpy().copy() for name, tensor in head.state_dict().items()}
        self.image_projection = state["image_projection"]
        self.text_projection = state["text_projection"]
        self.state = state
        self.n_heads = head.attention.num_heads

    def layer_norm(self, z):
        centred = z - z.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
        return scaled * self.state["norm.weight"] + self.state["norm.bias"]

    def attend(self, query_tokens, key_tokens):
        """One row at a time: z + lambda * MHA(LN(z)) over the rows of `key_tokens`."""
        dim = query_tokens.shape[1]
        size = dim // self.n_heads
        weight, bias = self.state["attention.in_proj_weight"], self.state["attention.in_proj_bias"]
        q, k, v = (
            self.layer_norm(z) @ weight[part].T + bias[part]
            for z, part in zip(
                (query_tokens, key_tokens, key_tokens),
                (slice(0, dim), slice(dim, 2 * dim), slice(2 * dim, 3 * dim)),
                strict=True,
            )
        )
        heads = []
        for h in range(self.n_heads):
            part = slice(h * size, (h + 1) * size)
            scores = q[:, part] @ k[:, part].T / math.sqrt(size)
            a = np.exp(scores - scores.max(axis=1, keepdims=True))
            heads.append(a / a.sum(axis=1, keepdims=True) @ v[:, part])
        out = np.concatenate(heads, axis=1) @ self.state["attention.out_proj.weight"].T
        update = out + self.state["attention.out_proj.bias"]
        return query_tokens + self.state["residual_weight"] * update

    def before_and_after(self, images, texts, prototypes):
        images, prototypes = images @ self.image_projection, prototypes @ self.image_projection
        texts = texts @ self.text_projection
        classes = np.concatenate([texts, prototypes])
        rows = [self.attend(x[None], np.concatenate([classes, x[None]])) for x in images]
        attended = self.attend(classes, classes)
        after = np.concatenate(rows), attended[: len(texts)], attended[len(texts) :]
        return (images, texts, prototypes), after


def numpy_cosine(a, b):
    norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    return a @ b.T / norms


# --- attention -------------------------------------------------------------------------------


@pytest.mark.parametrize("dim, n_heads", [(16, 8), (16, 1), (12, 8), (15, 8)])
def test_attention_equals_torchs_module_under_a_mask(dim, n_heads):
    head = perturbed(dim, n_heads=n_heads)
    images, texts, prototypes = torch.randn(
        3, 6, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    images = images[:4]
    expected = masked_attention(head, images, texts, prototypes)
    result = (
        head.attend_images(images, texts, prototypes),
        *head.attend_classes(texts, prototypes),
    )
    for computed, oracle in zip(result, expected, strict=True):
        torch.testing.assert_close(computed, oracle, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dim, n_heads, expected", [(512, 8, 8), (12, 8, 4), (15, 8, 1)])
def test_number_of_heads_is_lowered_to_a_divisor_of_the_width(dim, n_heads, expected):
    assert CandleHead(dim, n_heads=n_heads).attention.num_heads == expected


def test_forward_projects_and_then_attends(tokens):
    head = perturbed()
    before, after = head(*tokens)
    expected_before, expected_after = NumpyHead(head).before_and_after(*(z.numpy() for z in tokens))
    for computed, oracle in zip(
        (*before, *after), (*expected_before, *expected_after), strict=True
    ):
        np.testing.assert_allclose(computed.detach().numpy(), oracle, rtol=1e-9, atol=1e-10)


def test_images_and_prototypes_share_a_projection(tokens):
    head = perturbed()
    image_like, _, prototype_like = head.project(tokens[0], tokens[1], tokens[0])
    torch.testing.assert_close(image_like, prototype_like)


def test_a_head_starts_with_identical_projections():
    head = CandleHead(DIM)
    torch.testing.assert_close(head.image_projection.data, torch.eye(DIM))
    torch.testing.assert_close(head.text_projection.data, torch.eye(DIM))


@pytest.mark.parametrize("options", [{"residual_weight": 0.0}, {"attention": False}])
def test_without_residual_weight_or_attention_tokens_stay(tokens, options):
    head = CandleHead(DIM, **options).double()
    _, after = head(*tokens)
    for start, end in zip(tokens, after, strict=True):
        torch.testing.assert_close(end, start)


def test_an_image_does_not_depend_on_the_others(tokens):
    head, (images, *classes) = perturbed(), tokens
    together = head.attend_images(images, *classes)
    for i in range(N_IMAGES):
        alone = head.attend_images(images[i : i + 1], *classes)
        torch.testing.assert_close(alone[0], together[i], rtol=1e-12, atol=1e-13)


def test_class_tokens_do_not_depend_on_images(tokens):
    head, (images, *classes) = perturbed(), tokens
    _, first = head(images, *classes)
    _, second = head(-images, *classes)
    torch.testing.assert_close(first[1:], second[1:])


def test_an_image_attends_to_itself(tokens):
    head, (images, texts, prototypes) = perturbed(), tokens
    attended = head.attend_images(images, texts, prototypes)
    without_itself = NumpyHead(head).attend(images.numpy(), torch.cat([texts, prototypes]).numpy())
    assert np.abs(attended.detach().numpy() - without_itself).max() > 0.01


def test_a_seeded_head_leaves_torchs_generator_alone():
    state = torch.get_rng_state()
    first, second = CandleHead.seeded(3, DIM), CandleHead.seeded(3, DIM)
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_another_seed_gives_another_attention():
    first, second = CandleHead.seeded(3, DIM), CandleHead.seeded(4, DIM)
    assert not torch.equal(first.attention.in_proj_weight, second.attention.in_proj_weight)


# --- the published logits --------------------------------------------------------------------


@pytest.mark.parametrize("group", [0, 1, 2], ids=["image-text", "attended", "prototype"])
def test_each_published_logit_group_equals_the_equation(tokens, group):
    head = perturbed()
    before, after = NumpyHead(head).before_and_after(*(z.numpy() for z in tokens))
    expected = [
        numpy_cosine(before[0], before[1]) / 0.02,
        numpy_cosine(after[0], after[1]) / 0.02,
        0.7 * numpy_cosine(after[0], after[2]) / 0.02,
    ]
    result = published_logits(head, *tokens, temperature=0.02, prototype_scale=0.7)
    np.testing.assert_allclose(result[group].detach().numpy(), expected[group], rtol=1e-8)


def test_published_prediction_is_the_sum_of_the_groups_after_attention(tokens):
    head, (images, *classes) = perturbed(), tokens
    _, attended, prototype = published_logits(head, *tokens, 0.02, 0.7)
    result = published_prediction(head, images, attended_class_tokens(head, *classes), 0.02, 0.7)
    torch.testing.assert_close(result, attended + prototype)


@pytest.mark.parametrize("temperature", [0.01, 0.05])
def test_untrained_paper_equals_the_equations(temperature):
    X, y, texts = clip_like([6, 3, 1, 0, 0], 24)
    names = np.array(["ant", "bee", "cat", "dog", "elk"])
    clf = CandleClassifier.paper(
        class_names=names.tolist(),
        text_encoder=dict(zip(names, texts, strict=True)),
        temperature=temperature,
        max_iter=0,
        random_state=3,
    ).fit(X, names[y])
    means = np.stack([X[y == k].mean(axis=0) if k < 3 else texts[k] for k in range(5)])
    prototypes = means / np.linalg.norm(means, axis=1, keepdims=True)
    # the start of the attention is random: torch's own module after the same seed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(np.random.RandomState(3).randint(2**31 - 1))
        attention = nn.MultiheadAttention(24, 8).double()
    head = CandleHead(24).double()
    head.attention = attention
    oracle = NumpyHead(head)
    assert oracle.state["residual_weight"] == pytest.approx(0.1)
    _, (images, texts, prototypes) = oracle.before_and_after(X, texts, prototypes)
    similarity = numpy_cosine(images, texts) + 0.5 * numpy_cosine(images, prototypes)
    np.testing.assert_allclose(clf.decision_function(X), similarity / temperature, rtol=1e-6)


# --- training --------------------------------------------------------------------------------


def training_data(*, n_images=12, text=True, attention=True, seed=0):
    """Tensors as a fit makes them, of random numbers."""
    rng = np.random.default_rng(seed)
    target = rng.integers(3, size=n_images)  # classes 3 and 4 have no image
    weight = rng.uniform(0.5, 2, n_images)
    arrays = {
        "images": rng.normal(size=(n_images, DIM)),
        "texts": rng.normal(size=(N_CLASSES, DIM)),
        "prototypes": rng.normal(size=(N_CLASSES, DIM)),
        "own_prototypes": rng.normal(size=(n_images, DIM)),
        "target": target,
        "weight": weight,
        "counts": np.bincount(target, weight, minlength=N_CLASSES),
        "prototype_weight": rng.uniform(1, 3, N_CLASSES),
        "fixed_logits": rng.normal(size=(n_images, N_CLASSES)) if text else None,
        "prototype_fixed_logits": rng.normal(size=(N_CLASSES, N_CLASSES)) if text else None,
    }
    return arrays, TrainingData(CPU, torch.float64, **arrays)


def anchored_head(*, attention=False, seed=0):
    head = CandleHead.seeded(seed, DIM, attention=attention, residual_weight=0.0).double()
    if not attention:
        head.text_projection.requires_grad_(False)
    return head


def train(head, data, **options):
    options = {
        "margin": 1.0,
        "anchor": 2.0,
        "normalize": True,
        "max_iter": 5,
        "batch_size": 100,
    } | options
    return train_anchored(head, data, **options)


def unit_rows(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def numpy_anchored_objective(arrays, projection, *, margin, anchor, normalize):
    """Objective per sample of a head without attention, written out from its equation."""
    scale = unit_rows if normalize else np.asarray
    images = scale(arrays["images"] @ projection)
    prototypes = scale(arrays["prototypes"] @ projection)
    own = scale(arrays["own_prototypes"] @ projection)
    pi = (arrays["counts"] + 1) / (arrays["counts"] + 1).sum()

    def losses(logits, fixed, target):
        logits = logits + (0 if fixed is None else fixed) + margin * np.log(pi)
        return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(target)), target]

    def similarity(tokens):
        return arrays["prototype_weight"] * (
            tokens @ prototypes.T - (prototypes**2).sum(axis=1) / 2
        )

    target = arrays["target"]
    rows = np.arange(len(target))
    logits = similarity(images)
    logits[rows, target] = arrays["prototype_weight"][target] * (
        (images * own).sum(axis=1) - (own**2).sum(axis=1) / 2
    )
    total = arrays["weight"] @ losses(logits, arrays["fixed_logits"], target)
    total += losses(
        similarity(prototypes), arrays["prototype_fixed_logits"], np.arange(N_CLASSES)
    ).sum()
    total += anchor / 2 * ((projection - np.eye(DIM)) ** 2).sum()
    return total / (arrays["weight"].sum() + N_CLASSES)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("text", [True, False])
def test_first_loss_is_that_of_the_start(normalize, text):
    arrays, data = training_data(text=text)
    losses, _ = train(anchored_head(), data, normalize=normalize, max_iter=1)
    expected = numpy_anchored_objective(
        arrays, np.eye(DIM), margin=1.0, anchor=2.0, normalize=normalize
    )
    assert losses[0] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("margin", [0.0, 1.0])
@pytest.mark.parametrize("normalize", [True, False])
def test_training_ends_where_the_written_out_objective_is_stationary(normalize, margin):
    arrays, data = training_data()
    head = anchored_head()
    options = {"normalize": normalize, "margin": margin, "anchor": 10.0}
    losses, _ = train(head, data, **options, max_iter=300)

    def slope(projection, direction, step=1e-4):
        ahead, behind = (
            numpy_anchored_objective(arrays, projection + signed * direction, **options)
            for signed in (step, -step)
        )
        return (ahead - behind) / (2 * step)

    solution = head.image_projection.detach().numpy()
    directions = np.random.default_rng(0).normal(size=(20, DIM, DIM)) / DIM
    at_start = [slope(np.eye(DIM), d) for d in directions]
    at_end = [slope(solution, d) for d in directions]
    assert np.abs(at_end).max() < 0.01 * np.abs(at_start).max()
    assert losses[-1] == pytest.approx(
        numpy_anchored_objective(arrays, solution, **options), rel=1e-9
    )


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("normalize", [True, False])
def test_gradient_of_the_anchored_logits_by_finite_differences(attention, normalize):
    _, data = training_data(n_images=3)
    head = perturbed(attention=attention)
    names = [name for name, _ in head.named_parameters()]

    def logits(*parameters):
        def run(images):
            return anchored_logits(head, data, images, data.fixed_logits, normalize)[0].sum(0)

        return torch.func.functional_call(
            _Calls(head, run),
            {f"head.{n}": q for n, q in zip(names, parameters, strict=True)},
            (data.images,),
        )

    values = tuple(q.detach().clone().requires_grad_() for q in head.parameters())
    assert torch.autograd.gradcheck(logits, values, fast_mode=True)


class _Calls(nn.Module):
    """Module whose forward is `run`, so that torch can replace the parameters of `head`."""

    def __init__(self, head, run):
        super().__init__()
        self.head, self.run = head, run

    def forward(self, images):
        return self.run(images)


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("batch_size", [1, 5, 12])
def test_batch_size_does_not_change_the_anchored_result(attention, batch_size):
    _, data = training_data()
    whole, parts = anchored_head(attention=attention), anchored_head(attention=attention)
    expected = train(whole, data)
    result = train(parts, data, batch_size=batch_size)
    np.testing.assert_allclose(result[0], expected[0], rtol=1e-9)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("attention", [False, True])
def test_a_huge_anchor_keeps_the_start(attention):
    _, data = training_data()
    head, start = anchored_head(attention=attention), anchored_head(attention=attention)
    train(head, data, anchor=1e9, max_iter=20)
    for a, b in zip(head.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_a_weaker_anchor_lets_the_head_go_further():
    distances = []
    for anchor in (100.0, 10.0, 1.0, 0.1):
        head = anchored_head()
        train(head, training_data()[1], anchor=anchor, max_iter=50)
        distances.append(torch.dist(head.image_projection, torch.eye(DIM)).item())
    assert distances == sorted(distances) and distances[0] < distances[-1] / 10


def test_attention_is_learned_from_a_residual_weight_of_zero():
    head = anchored_head(attention=True)
    train(head, training_data()[1], anchor=0.1)
    assert abs(head.residual_weight.item()) > 1e-3


def test_anchored_losses_decrease():
    losses, n_iter = train(anchored_head(), training_data()[1], max_iter=20)
    assert losses[-1] < losses[0]
    assert 0 < n_iter <= 20


def test_an_image_is_compared_to_the_prototype_without_itself():
    arrays, _ = training_data()
    close = arrays | {"own_prototypes": arrays["images"]}
    losses = [
        train(anchored_head(), TrainingData(CPU, torch.float64, **a), max_iter=1)[0][0]
        for a in (arrays, close)
    ]
    assert losses[1] < losses[0]


def test_sample_weight_in_training_is_repetition():
    arrays, _ = training_data()
    repeats = np.arange(12) % 3 + 1
    counts = np.bincount(arrays["target"], repeats, minlength=N_CLASSES)
    weighted = arrays | {"weight": repeats.astype(float), "counts": counts}
    per_image = ("images", "own_prototypes", "target", "fixed_logits")
    repeated = weighted | {name: arrays[name].repeat(repeats, axis=0) for name in per_image}
    repeated["weight"] = np.ones(repeats.sum())
    heads = [anchored_head(), anchored_head()]
    results = [
        train(head, TrainingData(CPU, torch.float64, **a))
        for head, a in zip(heads, (weighted, repeated), strict=True)
    ]
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-9)


def published_training(arrays, head, **options):
    options = {
        "temperature": 0.1,
        "margin": 1.0,
        "prototype_scale": 0.5,
        "learning_rate": 0.01,
        "max_iter": 3,
        "batch_size": 5,
        "generator": torch.Generator().manual_seed(0),
    } | options
    return train_published(head, TrainingData(CPU, torch.float64, **arrays), **options)


def test_published_loss_is_the_sum_over_groups_of_images_and_prototypes():
    arrays, _ = training_data()
    head = CandleHead.seeded(0, DIM).double()
    oracle = NumpyHead(head)
    losses, _ = published_training(arrays, head, max_iter=1, batch_size=100)
    images = np.concatenate([arrays["images"], arrays["prototypes"]])
    target = np.r_[arrays["target"], np.arange(N_CLASSES)]
    weight = np.r_[arrays["weight"], np.ones(N_CLASSES)]
    before, after = oracle.before_and_after(images, arrays["texts"], arrays["prototypes"])
    groups = [
        numpy_cosine(before[0], before[1]) / 0.1,
        numpy_cosine(after[0], after[1]) / 0.1,
        0.5 * numpy_cosine(after[0], after[2]) / 0.1,
    ]
    log_pi = np.log((arrays["counts"] + 1) / (arrays["counts"] + 1).sum())
    expected = 0.0
    for logits in groups:
        adjusted = logits + log_pi
        nll = np.log(np.exp(adjusted).sum(axis=1)) - adjusted[np.arange(len(target)), target]
        expected += weight @ nll / weight.sum()
    assert losses[0] == pytest.approx(expected, rel=1e-7)


def test_published_training_takes_one_loss_an_epoch():
    arrays, _ = training_data()
    losses, n_iter = published_training(arrays, CandleHead.seeded(0, DIM).double(), max_iter=4)
    assert (len(losses), n_iter) == (4, 4)
    assert losses[-1] < losses[0]


def test_first_published_step_follows_the_gradient_and_the_weight_decay():
    arrays, data = training_data()
    head, reference = CandleHead.seeded(0, DIM).double(), CandleHead.seeded(0, DIM).double()
    published_training(arrays, head, max_iter=1, batch_size=100, margin=0.0)
    images = torch.cat([data.images, data.prototypes])
    target = torch.cat([data.target, torch.arange(N_CLASSES)])
    weight = torch.cat([data.weight, torch.ones(N_CLASSES)])
    groups = published_logits(reference, images, data.texts, data.prototypes, 0.1, 0.5)
    loss = sum(F.cross_entropy(g, target, reduction="none") @ weight for g in groups)
    (loss / weight.sum()).backward()
    for after, start in zip(head.parameters(), reference.parameters(), strict=True):
        expected = start - 0.01 * (start.grad + 5e-4 * start)
        torch.testing.assert_close(after, expected, rtol=1e-9, atol=1e-12)
