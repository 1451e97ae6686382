"""The head of the paper against its equations in NumPy and torch's own attention."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skcandle.classifier._attention_head import (
    AttentionHead,
    SeededDropout,
    groups_after_attention,
    logit_groups,
)

DIM, N_IMAGES, N_CLASSES = 16, 7, 5
SCALES = {"temperature": 0.02, "prototype_scale": 0.7}


def perturbed(dim=DIM, *, seed=0):
    """A head in float64, none of whose parameters has its initial value."""
    head = AttentionHead.seeded(seed, dim).double()
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
    return (normed + head.residual_weight * update).split([n_images, len(texts), len(texts)])


class NumpyHead:
    """The equations of the paper, parameter by parameter, without torch."""

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

    def attend(self, query_tokens, key_tokens, dropout=None):
        """LN(z) + lambda * MHA(LN(z)) of each query over the rows of `key_tokens`.

        `dropout` multiplies the attention weights, of shape (n_heads, n_queries, n_keys).
        """
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
            a = a / a.sum(axis=1, keepdims=True)
            heads.append((a if dropout is None else a * dropout[h]) @ v[:, part])
        out = np.concatenate(heads, axis=1) @ self.state["attention.out_proj.weight"].T
        update = out + self.state["attention.out_proj.bias"]
        return self.layer_norm(query_tokens) + self.state["residual_weight"] * update

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


@pytest.mark.parametrize("dim", [16, 12, 15])
def test_attention_equals_torchs_module_under_a_mask(dim):
    head = perturbed(dim)
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


@pytest.mark.parametrize("dim, expected", [(512, 8), (12, 4), (15, 1)])
def test_number_of_heads_divides_the_width(dim, expected):
    assert AttentionHead(dim).attention.num_heads == expected


def before_and_after(head, images, texts, prototypes):
    """Images, texts and prototypes before and after attention."""
    before = (head.project(images), *head.project_classes(texts, prototypes))
    return before, (head.attend_images(*before), *head.attend_classes(*before[1:]))


def test_tokens_are_projected_and_then_attend(tokens):
    head = perturbed()
    before, after = before_and_after(head, *tokens)
    expected_before, expected_after = NumpyHead(head).before_and_after(*(z.numpy() for z in tokens))
    for computed, oracle in zip(
        (*before, *after), (*expected_before, *expected_after), strict=True
    ):
        np.testing.assert_allclose(computed.detach().numpy(), oracle, rtol=1e-9, atol=1e-10)


def test_images_and_prototypes_share_a_projection(tokens):
    head = perturbed()
    image_like = head.project(tokens[0])
    _, prototype_like = head.project_classes(tokens[1], tokens[0])
    torch.testing.assert_close(image_like, prototype_like)


def test_a_head_starts_with_identical_projections():
    head = AttentionHead(DIM)
    torch.testing.assert_close(head.image_projection.data, torch.eye(DIM))
    torch.testing.assert_close(head.text_projection.data, torch.eye(DIM))


def test_without_residual_weight_tokens_are_normalised_and_no_more(tokens):
    head = AttentionHead(DIM).double()
    head.residual_weight.data.zero_()
    _, after = before_and_after(head, *tokens)
    for start, end in zip(tokens, after, strict=True):
        torch.testing.assert_close(end, F.layer_norm(start, (DIM,)))


def test_an_image_does_not_depend_on_the_others(tokens):
    head, (images, *classes) = perturbed(), tokens
    together = head.attend_images(images, *classes)
    for i in range(N_IMAGES):
        alone = head.attend_images(images[i : i + 1], *classes)
        torch.testing.assert_close(alone[0], together[i], rtol=1e-12, atol=1e-13)


def test_class_tokens_do_not_depend_on_images(tokens):
    head, (images, *classes) = perturbed(), tokens
    _, first = before_and_after(head, images, *classes)
    _, second = before_and_after(head, -images, *classes)
    torch.testing.assert_close(first[1:], second[1:])


def test_an_image_attends_to_itself(tokens):
    head, (images, texts, prototypes) = perturbed(), tokens
    attended = head.attend_images(images, texts, prototypes)
    without_itself = NumpyHead(head).attend(images.numpy(), torch.cat([texts, prototypes]).numpy())
    assert np.abs(attended.detach().numpy() - without_itself).max() > 0.01


def test_a_seeded_head_leaves_torchs_generator_alone():
    state = torch.get_rng_state()
    first, second = AttentionHead.seeded(3, DIM), AttentionHead.seeded(3, DIM)
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_another_seed_gives_another_attention():
    first, second = AttentionHead.seeded(3, DIM), AttentionHead.seeded(4, DIM)
    assert not torch.equal(first.attention.in_proj_weight, second.attention.in_proj_weight)


# --- logit groups ----------------------------------------------------------------------------


@pytest.mark.parametrize("group", [0, 1, 2], ids=["image-text", "attended", "prototype"])
def test_each_logit_group_equals_the_equation(tokens, group):
    head = perturbed()
    before, after = NumpyHead(head).before_and_after(*(z.numpy() for z in tokens))
    samples = [np.concatenate([images, prototypes]) for images, _, prototypes in (before, after)]
    expected = [
        numpy_cosine(samples[0], before[1]) / 0.02,
        numpy_cosine(samples[1], after[1]) / 0.02,
        0.7 * numpy_cosine(samples[1], after[2]) / 0.02,
    ]
    result = logit_groups(head, *tokens, **SCALES)
    np.testing.assert_allclose(result[group].detach().numpy(), expected[group], rtol=1e-8)


def test_groups_after_attention_from_class_tokens_computed_once(tokens):
    head, (images, *classes) = perturbed(), tokens
    before = head.project_classes(*classes)
    attended = head.attend_images(head.project(images), *before)
    result = groups_after_attention(attended, *head.attend_classes(*before), **SCALES)
    for group, expected in zip(result, logit_groups(head, *tokens, **SCALES)[1:], strict=True):
        torch.testing.assert_close(group, expected[:N_IMAGES])


# --- dropout ---------------------------------------------------------------------------------


def dropout(rate=0.4):
    return SeededDropout(rate, torch.Generator().manual_seed(5))


def test_dropout_acts_on_the_attention_weights(tokens):
    head, (images, texts, prototypes) = perturbed(), tokens
    oracle, classes = NumpyHead(head), np.concatenate([texts, prototypes])
    drop, drawn = dropout(), dropout()  # from equal generators; classes are drawn before images
    attended_classes = torch.cat(head.attend_classes(texts, prototypes, drop))
    factors = drawn(torch.ones(8, 2 * N_CLASSES, 2 * N_CLASSES, dtype=torch.float64)).numpy()
    expected = oracle.attend(classes, classes, factors)
    np.testing.assert_allclose(attended_classes.detach().numpy(), expected, rtol=1e-9, atol=1e-10)
    attended = head.attend_images(images, texts, prototypes, drop).detach().numpy()
    factors = drawn(torch.ones(8, N_IMAGES, 2 * N_CLASSES + 1, dtype=torch.float64)).numpy()
    for i, x in enumerate(images.numpy()):
        keys = np.concatenate([classes, x[None]])
        expected = oracle.attend(x[None], keys, factors[:, i : i + 1])
        np.testing.assert_allclose(attended[i : i + 1], expected, rtol=1e-9, atol=1e-10)


def test_dropout_keeps_its_share_and_the_mean():
    dropped = dropout(0.25)(torch.full((1000, 100), 3.0))
    assert set(dropped.unique().tolist()) == {0.0, 4.0}
    # ten standard deviations of the share of 100,000 draws
    assert (dropped == 0).double().mean().item() == pytest.approx(0.25, abs=0.014)


def test_dropout_is_that_of_its_generator_in_either_precision():
    state = torch.get_rng_state()
    first, second = (dropout()(torch.ones(50, 50, dtype=d)) for d in (torch.float32, torch.float64))
    assert torch.equal(first > 0, second > 0)
    assert torch.equal(torch.get_rng_state(), state)
