"""One model of each family that open_clip lists, with random weights.

The smallest of each runs by default. Those that take more than a few seconds are marked "large" and
run with ``pytest -m large tests/clip/test_families.py``.
"""

import json
from copy import deepcopy

import numpy as np
import open_clip
import pytest
import torch
from helpers import random_images

from skcandle import CLIPFeaturizer, clear_memory
from skcandle.clip import _checkpoint, _model
from skcandle.exceptions import ModelError

LARGE = [pytest.mark.slow, pytest.mark.large]
FAMILIES = [
    pytest.param("ViT-S-32-alt", id="CLIP ViT", marks=pytest.mark.slow),
    pytest.param("MobileCLIP2-S0", id="MobileCLIP2", marks=pytest.mark.slow),
    pytest.param("PE-Core-T-16-384", id="PE-Core", marks=pytest.mark.slow),
    pytest.param("convnext_tiny", id="ConvNeXt", marks=pytest.mark.slow),
    pytest.param("ViTamin-S", id="ViTamin", marks=pytest.mark.slow),
    pytest.param("RN50", id="CLIP ResNet", marks=LARGE),
    pytest.param("ViT-B-32-quickgelu", id="quickgelu", marks=LARGE),
    pytest.param("coca_ViT-B-32", id="CoCa", marks=LARGE),
    pytest.param("EVA02-B-16", id="EVA", marks=LARGE),
    pytest.param("MobileCLIP-S1", id="MobileCLIP", marks=LARGE),
    pytest.param("ViT-B-16-SigLIP", id="SigLIP", marks=LARGE),
    pytest.param("ViT-B-32-SigLIP2-256", id="SigLIP2", marks=LARGE),
    pytest.param("swin_base_patch4_window7_224", id="Swin", marks=LARGE),
    pytest.param("vit_relpos_medium_patch16_cls_224", id="ViT of timm", marks=LARGE),
    pytest.param("xlm-roberta-base-ViT-B-32", id="XLM-R", marks=pytest.mark.slow),
    pytest.param("roberta-ViT-B-32", id="RoBERTa", marks=LARGE),
    pytest.param("mt5-base-ViT-B-32", id="mT5", marks=LARGE),
    pytest.param("nllb-clip-base", id="NLLB", marks=pytest.mark.slow),
    pytest.param("nllb-clip-base-siglip", id="NLLB, SigLIP images", marks=LARGE),
]
IMAGES = random_images(3)
PROMPTS = ["a photo of a cat", "a photo of a dog"]
pytestmark = pytest.mark.filterwarnings("ignore:.*random weights")


def tiny_text_configs(transformers):
    """Configurations of text towers of Hugging Face, with one narrow layer."""
    tiny = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sides = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 32, "vocab_size": 40}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    return {
        "xlm-roberta": transformers.XLMRobertaConfig(vocab_size=40, intermediate_size=32, **tiny),
        "roberta": transformers.RobertaConfig(vocab_size=40, intermediate_size=32, **tiny),
        "mt5": transformers.MT5Config(
            vocab_size=40, d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2
        ),
        "nllb": transformers.M2M100Config(encoder_ffn_dim=32, decoder_ffn_dim=32, **sides, **heads),
    }


def save_tokenizer(folder, transformers):
    """Write a tokenizer of words in the format of Hugging Face."""
    tokenizers = pytest.importorskip("tokenizers")
    words = ["<pad>", "<eos>", "<unk>", "<bos>", *sorted({w for p in PROMPTS for w in p.split()})]
    model = tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.save_pretrained(folder)


@pytest.fixture
def local_text(tmp_path, monkeypatch):
    """A function that gives a model a tokenizer and a text tower from a folder, if it needs one."""

    def localise(name):
        config = deepcopy(open_clip.get_model_config(name))
        text = config["text_cfg"]
        if not (text.get("hf_tokenizer_name") or text.get("hf_model_name")):
            return
        transformers = pytest.importorskip("transformers")
        save_tokenizer(tmp_path, transformers)
        text["hf_tokenizer_name"] = str(tmp_path)
        if text.get("hf_model_name"):
            configs = tiny_text_configs(transformers)
            kind = next(kind for kind in configs if kind in text["hf_model_name"])
            configs[kind].save_pretrained(tmp_path)
            text["hf_model_name"] = str(tmp_path)
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)

    yield localise
    clear_memory()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_embeds_images_and_text_and_is_restored_from_the_cache(
    name, local_text, tmp_path_factory
):
    local_text(name)
    cache = str(tmp_path_factory.mktemp("cache"))
    clip = CLIPFeaturizer(name, None, device="cpu", precision="fp32", cache=cache)
    rows, texts = clip.transform(IMAGES), clip.encode_text(PROMPTS)
    width = open_clip.get_model_config(name)["embed_dim"]
    for found, n in ((rows, len(IMAGES)), (texts, len(PROMPTS))):
        assert found.shape == (n, width) and found.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
        assert np.abs(found[0] - found[1]).max() > 1e-6  # they differ

    small = CLIPFeaturizer(name, None, device="cpu", precision="bf16").transform(IMAGES)
    assert (small * rows).sum(axis=1).min() > 0.999

    clear_memory()
    again = CLIPFeaturizer(name, None, device="cpu", precision="fp32", cache=cache)
    np.testing.assert_array_equal(again.transform(IMAGES), rows)
    np.testing.assert_array_equal(again.encode_text(PROMPTS), texts)
    assert not _model._loaded


def test_every_listed_name_has_a_width_and_a_preprocessing():
    for name in open_clip.list_models():
        checkpoint = _checkpoint.find_checkpoint(name, None)
        assert _checkpoint.embedding_dim(name) >= 256
        assert isinstance(_checkpoint.preprocess_config(checkpoint), dict)


TINY_COCA = {
    "embed_dim": 64,
    "vision_cfg": {
        "image_size": 32,
        "layers": 1,
        "width": 64,
        "patch_size": 8,
        "attentional_pool": True,
        "attn_pooler_heads": 2,
        "output_tokens": True,
    },
    "text_cfg": {"context_length": 76, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
    "multimodal_cfg": {
        "context_length": 76,
        "vocab_size": 49408,
        "width": 64,
        "heads": 2,
        "layers": 1,
    },
    "custom_text": True,
}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_pooling_of_coca_works_in_16_bits(monkeypatch, precision):
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-coca", TINY_COCA)
    rows = [
        CLIPFeaturizer("tiny-coca", None, device="cpu", precision=one).transform(IMAGES)
        for one in ("fp32", precision)
    ]
    assert (rows[0] * rows[1]).sum(axis=1).min() > 0.999
    clear_memory()


@pytest.mark.parametrize("name", ["CLAP-HTSAT", "GenLIP-B-16"])
def test_names_that_open_clip_does_not_list(name):
    with pytest.raises(ModelError, match=f"^model_name='{name}' is unknown to open_clip"):
        CLIPFeaturizer(name, None).fit()


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        ({"embed_dim": 8, "audio_cfg": {}, "text_cfg": {}}, "'vision_cfg'"),
        ({"embed_dim": 8, "vision_cfg": {}}, "'text_cfg'"),
    ],
    ids=["sound and text", "images only"],
)
def test_a_model_that_is_not_of_images_and_text_is_refused_in_one_sentence(
    tmp_path, config, missing
):
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=f"does not embed both images and text: .*{missing}") as e:
        CLIPFeaturizer(f"local-dir:{tmp_path}").fit()
    assert str(e.value).count(". ") == 0


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "nllb-clip-base"])
def test_a_text_side_that_needs_transformers_says_so(monkeypatch, name):
    monkeypatch.setattr(_checkpoint, "TRANSFORMERS", "a_package_that_is_not_installed")
    with pytest.raises(ImportError, match=f"'{name}'.* pip install transformers"):
        _checkpoint.check_text_packages(_checkpoint.find_checkpoint(name, None))


def test_a_text_side_that_needs_no_package_passes():
    checkpoint = _checkpoint.find_checkpoint("ViT-B-32", None)
    assert _checkpoint.check_text_packages(checkpoint) is None


@pytest.mark.slow
def test_a_naflex_model_says_that_it_runs_at_a_fixed_square(monkeypatch):
    config = deepcopy(open_clip.get_model_config("ViT-S-32-alt"))
    config["vision_cfg"] = {
        "timm_model_name": "naflexvit_base_patch16_gap",
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 224,
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-naflex", config)
    clip = CLIPFeaturizer("tiny-naflex", None, device="cpu", precision="fp32")
    with pytest.warns(UserWarning, match="any shape, but runs at one fixed square"):
        rows = clip.transform(IMAGES)
    assert rows.shape == (3, 256) and torch.isfinite(torch.from_numpy(rows)).all()
    clear_memory()
