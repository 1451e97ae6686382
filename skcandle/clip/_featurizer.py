"""The transformer from images to CLIP embeddings."""

import os
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_consistent_length

from .._devices import resolve_device
from .._images.inputs import as_image_list
from .._persistence import VersionedStateMixin
from .._sklearn_private import Interval, StrOptions, fit_context
from .._typing import Images, Labels, Path
from .._warnings import warn_user
from ._cache.folder import EmbeddingCache, FolderStore
from ._cache.memory import memory_cache
from ._cache.store import CachedRows
from ._checkpoint import embedding_dim, find_checkpoint
from ._encoder import Encoder
from ._image_pipeline import ImagePipeline
from ._prompts import embed_prompts


class CLIPFeaturizer(TransformerMixin, VersionedStateMixin, BaseEstimator):
    """Turn images into the embeddings of a CLIP model.

    The model is frozen: nothing is learned, `fit` only checks the parameters. The model is
    loaded when the first image comes that was not embedded before, and shared by all
    estimators of the process that name it. Each distinct image is encoded once: a grid search
    over a pipeline that starts with this transformer costs no more encodings than one `fit`.

    Parameters
    ----------
    model_name : str, default="ViT-B-16-quickgelu"
        One of

        * a name of `open_clip.list_models()`;
        * ``"hf-hub:<owner>/<name>"``, a model on the Hugging Face Hub;
        * ``"local-dir:<folder>"``, a folder with ``open_clip_config.json`` and weights;
        * ``"emoji-clip"``, the small model that comes with this package. It needs no network,
          knows nothing but emoji, and is meant for trying things out.

        OpenAI's weights, and some others, need a name that ends in ``-quickgelu``.

    pretrained : str, path-like or None, default="openai"
        Weights for a name of `open_clip.list_models()`: a tag of
        `open_clip.list_pretrained()`, which is downloaded on first use, or a file. Resizing
        and normalisation are those of the tag. For a file they are those of the published
        weights of the architecture where these agree, otherwise open_clip's defaults.
        None means random weights, the same in every process, which is of use in tests only.
        The other kinds of names come with their own weights: leave the default, or use None.

    batch_size : int, default=64
        Images, or prompts, per forward pass. Larger batches use a GPU better and need more of
        its memory.

    device : str or torch.device, default="auto"
        Where the model runs. ``"auto"`` takes CUDA where it is available, then the GPU of a Mac
        (MPS), then the CPU.

    precision : {"auto", "fp32", "bf16", "fp16"}, default="auto"
        Whether to be fast or exact. ``"fp32"`` is exact: float32 without TF32, every image
        decoded at its full size; rows are then the same on every machine, up to rounding.
        ``"auto"`` is fast: the format that the device multiplies natively, and large JPEGs
        decoded at reduced scale. That is float16 on GPUs (on CUDA from Volta on; bfloat16 for
        SigLIP, from Ampere on), bfloat16 on CPUs with AMX or AVX-512 BF16, float32 elsewhere
        and for models of such small images that nothing is gained, as ``"emoji-clip"``.
        ``"bf16"`` and ``"fp16"`` choose the format. Prompts are always encoded in float32.
        What differs is under Notes.

    cache : str, path-like, EmbeddingCache or None, default=None
        None keeps up to 256 MiB of embeddings in the memory of the process, the least recently
        used are dropped first. A folder keeps them there as well, up to 10 GiB: long jobs
        resume where they were interrupted, and processes that share the folder do not load the
        model for images that one of them has encoded. See :class:`EmbeddingCache` for another
        limit, and for looking at and clearing a folder.

    n_jobs : int or None, default=None
        Threads that read, decode and resize images. None means what
        :obj:`joblib.parallel_config` says, or else as many as PyTorch uses
        (`torch.get_num_threads`, mostly all cores), and one in a worker of joblib, which is one
        of several. -1 means all processors, -2 all but one; 0 is an error.

    on_error : {"raise", "nan"}, default="raise"
        What becomes of images that are broken, or missing (None or NaN in place of an image).
        ``"raise"`` encodes and caches all others, then names those in an `ImageReadError`.
        ``"nan"`` gives them rows of NaN, with one `UnreadableImageWarning` that has their number
        and the first. :class:`CandleClassifier` leaves such rows out at fit and has a missing
        answer for them. They are never cached, and are tried again by the next call.

    verbose : int, default=0
        If positive, a progress bar shows images per second and the time left.

    See Also
    --------
    CandleClassifier : Learns from these embeddings, with few images of many classes.

    Notes
    -----
    An image is upright and in RGB before CLIP sees it: EXIF orientation is applied, transparent
    parts become white, grey, palette and CMYK images are converted, and 16-bit grey is reduced
    to 8 bits. Of an animation, the first frame counts.

    An embedding depends on its image alone, not on its place or on other images. What remains
    is rounding: a processor adds up in another order in a batch of another size, which moves
    single features by less than 1e-6 in ``"fp32"`` (2e-7 was measured, on CPU). In 16 bits
    that, too, stays within the tolerance of the format.

    Beside ``"fp32"``, rows in bfloat16 have a cosine of 0.99997 on average and of at least 0.9996
    with ``"emoji-clip"``, of at least 0.99995 with random weights of ViT-B/32; in float16 of
    0.99999 on average and of at least 0.9996 with ``"emoji-clip"``. A classifier fitted on exact
    rows then answers otherwise for 0.3 % (bfloat16) or 0.2 % (float16) of the bundled images, and
    for 0.3 to 0.4 % of two sets of photographs whose features were turned to a cosine of 0.9999;
    accuracy stays within its noise, 0.3 points of joint harmonic mean
    (``benchmarks/precision.py``, ten tasks each). An image for which a model overflows in 16 bits
    is encoded again in float32, with a `PrecisionWarning`.

    A JPEG is decoded at 1/2, 1/4 or 1/8 where it then still has 5.25 times the size the model
    needs, with 224 pixels from 2352 pixels of the shorter side on. After resizing, photographs
    keep a PSNR of 57 dB beside the full decode, the worst of text, stripes and checks 45 dB.
    Resizing itself then differs from open_clip's by at most one of 255 levels.

    The cache tells images by their content, the bytes of a file or the pixels of an object in
    memory, never by name; and models by weights, preprocessing and precision. Within a process,
    a file that has the inode, the size and both times of change it had when its content was
    last hashed is not read again (not on Windows, and not within seconds of a change). Writing
    through a memory map may leave both times as they are (on tmpfs it does): where files are
    changed so, give their bytes, which are hashed in every call, or call :func:`clear_memory`
    after a change.

    A GPU works on one batch while the next is decoded; a CPU does the one after the other, each
    on all cores. About two batches of images are in memory at a time. Where a batch is too large
    for a GPU, it is halved with a `BatchSizeWarning`. Images of more than 179 megapixels (see
    ``PIL.Image.MAX_IMAGE_PIXELS``) and files of more than 1.1 GB are refused.

    Examples
    --------
    >>> from skcandle import CLIPFeaturizer
    >>> from skcandle.datasets import load_emoji
    >>> images = load_emoji().images[:4]
    >>> clip = CLIPFeaturizer("emoji-clip", pretrained=None)
    >>> embeddings = clip.fit_transform(images)
    >>> prompts = clip.encode_text(["a red apple", "a cat"])
    >>> (embeddings @ prompts.T).shape
    (4, 2)
    """

    _parameter_constraints: dict = {
        "model_name": [str],
        "pretrained": [str, os.PathLike, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str, torch.device],
        "precision": [StrOptions({"auto", "fp32", "bf16", "fp16"})],
        "cache": [str, os.PathLike, EmbeddingCache, None],
        "n_jobs": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Integral, None, -1, closed="right"),
            None,
        ],
        "on_error": [StrOptions({"raise", "nan"})],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        model_name: str = "ViT-B-16-quickgelu",
        pretrained: Path | None = "openai",
        *,
        batch_size: int = 64,
        device: str | torch.device = "auto",
        precision: str = "auto",
        cache: Path | EmbeddingCache | None = None,
        n_jobs: int | None = None,
        on_error: str = "raise",
        verbose: int = 0,
    ) -> None:
        self.model_name = model_name
        self.pretrained = pretrained
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.cache = cache
        self.n_jobs = n_jobs
        self.on_error = on_error
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Images = None, y: Labels = None) -> "CLIPFeaturizer":
        """Check the parameters; no image is opened and no model is loaded.

        Parameters
        ----------
        X : list, array, Series or one-column DataFrame of images, default=None
            As for :meth:`transform`. Only its form is checked.

        y : array-like of length n_images, default=None
            Only its length is checked, so that a pipeline does not embed images in vain.

        Returns
        -------
        self : CLIPFeaturizer
            The estimator itself.
        """
        if X is not None:
            check_consistent_length(self._image_list(X), y)
        find_checkpoint(self.model_name, self.pretrained)
        resolve_device(self.device, metal=True)
        return self

    def transform(self, X: Images) -> np.ndarray:
        """Embed images.

        Parameters
        ----------
        X : list, tuple, array, Series, one-column DataFrame, column or dataset
            Of length n_images. Each image is a path (str or path-like), a PIL image, the content
            of an image file (bytes, bytearray, memoryview, or a file opened in binary mode such
            as :class:`io.BytesIO`, which is read from its beginning and keeps its position), a
            dict with ``"bytes"`` or ``"path"`` (Hugging Face's), an array of uint8 and shape
            (H, W, 3) or (H, W), or a tensor of uint8 and shape (3, H, W) or (H, W); kinds may be
            mixed. An array of shape (n_images, H, W, 3) and a tensor of shape (n_images, 3, H, W)
            work as well, Series and one-column DataFrames of pandas, polars and PyArrow,
            datasets of torch and torchvision whose items are images or tuples that begin with
            one, and Hugging Face's datasets with one column of images. Datasets are asked for an
            image when it is its turn. URLs are not fetched.

        Returns
        -------
        embeddings : ndarray of shape (n_images, n_features) and dtype float32
            Each row has length 1, or is NaN throughout; see `on_error`.

        Raises
        ------
        ImageReadError
            If images are missing, broken or no images, and `on_error` is ``"raise"``. All others
            have been encoded by then and are in the cache; the attribute `positions` lists those
            that failed.
        """
        result = self._embed(self._image_list(X))
        if result.reasons and self.on_error == "raise":
            raise result.error()
        if result.reasons:
            warn_user(result.warning())
        return result.rows

    def _image_list(self, X):
        return as_image_list(X, allow_missing=self.on_error == "nan")

    def encode_text(self, prompts: Sequence[str]) -> np.ndarray:
        """Embed prompts with the text encoder of the same model.

        Parameters
        ----------
        prompts : array-like of str of length n_prompts
            For example ``["a photo of a cat.", "a photo of a dog."]``. What exceeds the
            context of the model, mostly 77 tokens, is cut with a `TruncatedPromptWarning`.

        Returns
        -------
        embeddings : ndarray of shape (n_prompts, n_features) and dtype float32
            Each row has length 1.
        """
        self._validate_params()
        prompts = _prompt_list(prompts)
        encoder = self._encoder()
        cache = CachedRows(_store(self.cache), encoder.text_fingerprint, encoder.n_features)
        return embed_prompts(encoder, cache, prompts)

    # scikit-learn's mixin wants the width as an attribute, which the HTML representation would
    # read: of some models the configuration needs the network.
    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the features, ``clipfeaturizer0`` and so on.

        The width comes from the configuration of the model; weights are not loaded.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        names : ndarray of str objects
            One for each column of the embeddings.
        """
        prefix = type(self).__name__.lower()
        n_features = embedding_dim(self.model_name)
        return np.array([f"{prefix}{i}" for i in range(n_features)], dtype=object)

    def __sklearn_is_fitted__(self):
        return True  # there is nothing to fit

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.requires_fit = False
        tags.no_validation = True  # images are checked, but not as a table of numbers
        return tags

    def _embed(self, images):
        self._validate_params()  # fit may not have been called
        encoder = self._encoder()
        cache = CachedRows(_store(self.cache), encoder.fingerprint, encoder.n_features)
        pipeline = ImagePipeline(encoder, cache, images, n_jobs=self.n_jobs, verbose=self.verbose)
        return pipeline.run()

    def _encoder(self):
        return Encoder(
            self.model_name,
            self.pretrained,
            precision=self.precision,
            device=resolve_device(self.device, metal=True),
            batch_size=self.batch_size,
        )


def embed_images(featurizer, images):
    """Rows of images, and why some have none; `on_error` of the featurizer does not matter.

    Parameters
    ----------
    featurizer : CLIPFeaturizer
        For which :func:`is_featurizer`.
    images : list
        See :func:`~skcandle._images.inputs.as_image_list`. None is a missing image.

    Returns
    -------
    result : EmbeddedImages
    """
    return featurizer._embed(images)


def is_featurizer(estimator):
    """Whether an estimator is a CLIPFeaturizer and does not override `transform`."""
    return isinstance(estimator, CLIPFeaturizer) and (
        type(estimator).transform is CLIPFeaturizer.transform
    )


def _store(cache):
    if cache is None:
        return memory_cache
    return FolderStore(cache if isinstance(cache, EmbeddingCache) else EmbeddingCache(cache))


def _prompt_list(prompts):
    if isinstance(prompts, (str, bytes)):
        raise TypeError(f"prompts must be a list; use [{prompts!r}] for one prompt.")
    prompts = list(prompts)
    if not prompts:
        raise ValueError("prompts must not be empty.")
    for position, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise TypeError(f"prompt {position} must be a string, got {type(prompt).__name__}.")
    return prompts
