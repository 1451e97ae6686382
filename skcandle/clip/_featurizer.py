"""The transformer from images to CLIP embeddings."""

import os
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_consistent_length

from .._bundled import BUNDLED_MODEL
from .._devices import resolve_device
from .._documentation import DocumentedMixin
from .._images.inputs import as_image_list
from .._persistence import VersionedStateMixin
from .._sklearn_private import Interval, StrOptions, fit_context
from .._typing import Images, Labels, Path
from .._warnings import warn_user
from ..exceptions import ModelError, WeightsNotAvailableError
from ._cache.folder import EmbeddingCache, FolderStore
from ._cache.memory import memory_cache
from ._cache.store import CachedRows
from ._checkpoint import embedding_dim, find_checkpoint
from ._encoder import Encoder
from ._identity import ModelIdentity, identify
from ._image_pipeline import ImagePipeline
from ._prompts import embed_prompts


class CLIPFeaturizer(TransformerMixin, DocumentedMixin, VersionedStateMixin, BaseEstimator):
    """Turn images into the embeddings of a CLIP model.

    The model is frozen: nothing is learned, and `fit` only checks the parameters. The model is
    loaded when an image has no cached embedding, and all estimators of the process that name it
    share it. Each distinct image is encoded once: a grid search over a pipeline that starts with
    this transformer needs no more encodings than one `fit`.

    Parameters
    ----------
    model_name : str, default="ViT-B-16-quickgelu"
        One of

        * a name in `open_clip.list_models()`;
        * ``"hf-hub:<owner>/<name>"``, a model on the Hugging Face Hub;
        * ``"local-dir:<folder>"``, a folder with ``open_clip_config.json`` and weights;
        * ``"emoji-clip"``, the small model that comes with this package. It needs no network,
          knows only emoji, and is meant for trying things out.

        OpenAI's weights, and some others, need a name that ends in ``-quickgelu``.

    pretrained : str, path-like or None, default="openai"
        Weights for a name in `open_clip.list_models()`: a tag from
        `open_clip.list_pretrained()`, which is downloaded on first use, or a file. A tag defines
        resizing and normalisation. A file uses those of the published weights of the
        architecture if these agree, otherwise open_clip's defaults. None means random weights,
        the same in every process, which are useful only in tests. The other kinds of names come
        with their own weights: leave the default, or use None.

    batch_size : int or "auto", default="auto"
        Images or prompts per forward pass. ``"auto"`` means 64, and on CUDA between 64 and 1,024,
        more for models with fewer patches per image, or fewer if they do not fit into memory.

    device : str or torch.device, default="auto"
        Where the model runs. ``"auto"`` uses CUDA if available, then the GPU of a Mac (MPS), then
        the CPU.

    precision : {"auto", "fp32", "bf16", "fp16"}, default="auto"
        Whether to be fast or exact. ``"fp32"`` is exact: float32 without TF32, with every image
        decoded at full size, so that rows are the same on every machine, up to rounding.
        ``"auto"`` is fast: it uses the fastest format that the device supports natively, and
        decodes large JPEGs at reduced scale. The format is float16 on GPUs (CUDA from Volta on;
        for SigLIP, bfloat16 from Ampere on), bfloat16 on CPUs with AMX or AVX-512 BF16, and
        float32 elsewhere and for models with small input images, such as ``"emoji-clip"``, which
        would gain nothing. ``"bf16"`` and ``"fp16"`` choose the format. Prompts are always
        encoded in float32. The Notes give the differences between formats.

    cache : str, path-like, EmbeddingCache or None, default=None
        None keeps up to 256 MiB of embeddings in the memory of the process and drops the least
        recently used first. A folder also keeps them on disk, up to 10 GiB: interrupted jobs
        resume where they stopped, and processes that share the folder do not load the model for
        images that one of them has encoded. Use :class:`EmbeddingCache` to set another limit, and
        to inspect or clear a folder.

    n_jobs : int or None, default=None
        Threads that read, decode and resize images. None uses the setting of
        :obj:`joblib.parallel_config`, or else as many threads as PyTorch
        (`torch.get_num_threads`, usually all cores), and one in a joblib worker, since several
        workers run at once. -1 means all processors, -2 all but one; 0 is an error.

    on_error : {"raise", "nan"}, default="raise"
        What to do about images that are broken or missing (None or NaN in place of an image).
        ``"raise"`` encodes and caches all others, then raises an `ImageReadError` that names the
        failed ones. ``"nan"`` gives them rows of NaN, with one `UnreadableImageWarning` that
        counts them and names the first. :class:`CandleClassifier` leaves such rows out in `fit`
        and returns a missing answer for them. They are never cached; the next call tries them
        again.

    verbose : int, default=0
        If positive, show a progress bar with images per second and the remaining time.

    See Also
    --------
    CandleClassifier : Learns from these embeddings, with few images per class.

    Notes
    -----
    Before CLIP sees an image, it is turned upright and converted to RGB: EXIF orientation is
    applied, transparent parts become white, and grey, palette and CMYK images are converted. Grey
    of 12 or 16 bits is reduced to 8 bits. If a file does not state how many bits it uses, or an
    image in memory has 16 or 32 bits, values up to 255 count as 8 bits. Of an animation, the first
    frame is used.

    An embedding depends only on its image, not on its position or on other images, except for
    rounding: a processor sums in a different order in a batch of a different size, which changes
    single features by less than 1e-6 in ``"fp32"`` (2e-7 was measured on a CPU). In 16 bits, this
    effect stays within the tolerance of the format.

    Compared with ``"fp32"``, rows in bfloat16 have a cosine of 0.99997 on average and at least
    0.9996 with ``"emoji-clip"``, and at least 0.99995 with random weights of ViT-B/32; rows in
    float16 have 0.99999 on average and at least 0.9996 with ``"emoji-clip"``. A classifier fitted
    on exact rows then changes its answer for 0.3 % (bfloat16) or 0.2 % (float16) of the bundled
    images, and for 0.3 to 0.4 % of two sets of photographs whose features were rotated to a cosine
    of 0.9999; accuracy stays within its noise, 0.3 points of joint harmonic mean
    (``benchmarks/accuracy/precision.py``, ten tasks each). An image for which a model overflows in
    16 bits is encoded again in float32, with a `PrecisionWarning`.

    A JPEG is decoded at 1/2, 1/4 or 1/8 if it then still has 5.25 times the size that the model
    needs: with 224 pixels, if its shorter side has at least 2352 pixels. After resizing,
    photographs keep a PSNR of 57 dB relative to the full decode; text, stripes and checks keep at
    least 45 dB. Resizing itself then differs from open_clip's by at most one of 255 levels. On
    CUDA, other JPEGs are decoded by torchvision, where possible, which lets more threads decode at
    once. Its pixels were the same as Pillow's.

    `fit` remembers the model. After it, images are refused if the parameters stand for another one,
    or for other weights or another preprocessing; `precision` and `device` may change. Clones,
    and featurizers that were never fitted, embed with any model.

    The cache identifies an image by its content, the bytes of a file or the pixels of an object in
    memory, never by its name, and a model by its weights, preprocessing and precision. Within a
    process, a file is not read again if its inode, its size and both its times of change are the
    same as when its content was last hashed (not on Windows, and not within seconds of a change).
    Writing through a memory map may leave both times unchanged (on tmpfs it does). If your files
    change in this way, pass their bytes, which are hashed in every call, or call
    :func:`clear_memory` after a change. Files of weights are hashed whole, and not again under the
    same conditions (on Windows, without the time of the last change of status).

    A GPU works on one batch while the next is decoded; a CPU decodes and encodes in turn, each on
    all cores. About two batches of images are in memory at a time, and three with a GPU. A batch of
    images or prompts that is too large for a GPU is halved, with a `BatchSizeWarning` unless
    `batch_size` is ``"auto"``. The process keeps to the smaller size until :func:`clear_memory` is
    called. Images of more than 179 megapixels (see ``PIL.Image.MAX_IMAGE_PIXELS``) and files of
    more than 1.1 GB are refused. While a thread decodes an image, it takes up to 16 bytes per
    pixel, 2.9 GB at this limit.

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
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
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
    _identity: ModelIdentity | None = None  # of the fit

    def __init__(
        self,
        model_name: str = "ViT-B-16-quickgelu",
        pretrained: Path | None = "openai",
        *,
        batch_size: int | str = "auto",
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
        """Check the parameters, without opening an image or loading a model.

        Parameters
        ----------
        X : list, array, Series or one-column DataFrame of images, default=None
            As for :meth:`transform`. Only the container and the kinds of images are checked.

        y : array-like of length n_images, default=None
            Only its length is checked, so that a pipeline fails before it embeds any images.

        Returns
        -------
        self : CLIPFeaturizer
            The estimator itself.
        """
        if X is not None:
            check_consistent_length(self._image_list(X), y)
        find_checkpoint(self.model_name, self.pretrained)
        resolve_device(self.device, metal=True)
        self._identity = self._present_identity()
        return self

    def fit_transform(self, X: Images, y: Labels = None) -> np.ndarray:
        """Check the parameters, and embed images.

        Parameters
        ----------
        X : images
            See :meth:`transform`.

        y : array-like of length n_images, default=None
            Only its length is checked.

        Returns
        -------
        embeddings : ndarray of shape (n_images, n_features) and dtype float32
            See :meth:`transform`.
        """
        embeddings = self.fit(X, y).transform(X)
        self._identity = self._present_identity()  # the weights may have been downloaded only now
        return embeddings

    def transform(self, X: Images) -> np.ndarray:
        """Embed images.

        Parameters
        ----------
        X : list, tuple, array, Series, one-column DataFrame, column or dataset
            A collection of n_images images. Each image is a path (str or path-like), a URL (str)
            such as ``"s3://bucket/1.jpg"``, which fsspec reads in every call, a PIL image,
            the content of an image file (bytes, bytearray, memoryview, or a file opened in binary
            mode such as :class:`io.BytesIO`, which is read from its beginning and keeps its
            position), a dict with ``"bytes"`` or ``"path"`` (as in Hugging Face datasets), an
            array of uint8 and shape (H, W, 3) or (H, W), or a tensor of uint8 and shape (3, H, W)
            or (H, W); kinds may be mixed. Also accepted: an array of shape (n_images, H, W, 3), a
            tensor of shape (n_images, 3, H, W), Series and one-column DataFrames of pandas,
            polars and PyArrow, torch and torchvision datasets whose items are images or tuples
            that begin with one, and Hugging Face datasets with one column of images. An image of
            a dataset is loaded when it is needed.

        Returns
        -------
        embeddings : ndarray of shape (n_images, n_features) and dtype float32
            Each row has length 1, or is all NaN; see `on_error`. Without images there are no rows.

        Raises
        ------
        ModelError
            If the model is not the one of the fit.

        ImageReadError
            If images are missing, broken or not images, and `on_error` is ``"raise"``. All others
            have been encoded and cached by then; the attribute `positions` lists those that
            failed.
        """
        result = self._embed(self._image_list(X))
        if result.reasons and self.on_error == "raise":
            raise result.error()
        if result.reasons:
            warn_user(result.warning())
        return result.rows

    def _image_list(self, X):
        return as_image_list(X, allow_missing=self.on_error == "nan", allow_empty=True)

    def encode_text(self, prompts: Sequence[str]) -> np.ndarray:
        """Embed prompts with the text encoder of the same model.

        Parameters
        ----------
        prompts : array-like of str of length n_prompts
            For example ``["a photo of a cat.", "a photo of a dog."]``. Prompts longer than the
            context of the model, usually 77 tokens, are cut, with a `TruncatedPromptWarning`.

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

    # scikit-learn's mixin needs the width as an attribute, which the HTML representation would
    # read; for some models, reading the configuration needs the network.
    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features, ``clipfeaturizer0`` and so on.

        Their number comes from the configuration of the model; no weights are loaded.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        names : ndarray of str objects
            One name for each column of the embeddings.
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
        tags.no_validation = True  # images are checked, but not as a numeric table
        return tags

    def _embed(self, images):
        self._validate_params()  # fit may not have been called
        encoder = self._encoder()
        cache = CachedRows(_store(self.cache), encoder.fingerprint, encoder.n_features)
        pipeline = ImagePipeline(encoder, cache, images, n_jobs=self.n_jobs, verbose=self.verbose)
        return pipeline.run()

    def _encoder(self):
        encoder = Encoder(
            self.model_name,
            self.pretrained,
            precision=self.precision,
            device=resolve_device(self.device, metal=True),
            batch_size=self.batch_size,
        )
        if self._identity is not None:
            self._identity.check(encoder.checkpoint, self._shown_name())
        return encoder

    def _present_identity(self):
        """The model that the parameters stand for, or None if it is not on this machine."""
        try:
            checkpoint = find_checkpoint(self.model_name, self.pretrained)
        except (ModelError, WeightsNotAvailableError):
            return None
        return identify(checkpoint, self._shown_name())

    def _check_identity(self, identity):
        """Check that the parameters stand for a model; see :meth:`ModelIdentity.check`."""
        identity.check(find_checkpoint(self.model_name, self.pretrained), self._shown_name())

    def _shown_name(self):
        if self.model_name == BUNDLED_MODEL or ":" in self.model_name:  # has its own weights
            return self.model_name
        return f"{self.model_name}, {self.pretrained}"


def embed_images(featurizer, images):
    """Rows of images, and the reasons for those without one, whatever `on_error` is.

    Parameters
    ----------
    featurizer : CLIPFeaturizer
        One for which :func:`is_featurizer` is true.
    images : list
        As returned by :func:`~skcandle._images.inputs.as_image_list`. None is a missing image.

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
