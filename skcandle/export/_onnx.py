"""Fitted classifiers, and pipelines from pixels to classes, as ONNX files."""

import json
import logging
import warnings
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .. import _typing
from .._files import check_output, replacing
from .._labels import is_textual, type_for
from .._version import __version__
from ..classifier import CandleClassifier, PublishedCandleClassifier, RejectingClassifier
from ..classifier._base import model_of_fit
from ..classifier._missing_images import missing_answer
from ..classifier._rejecting import unfrozen
from ..clip._featurizer import is_featurizer
from ..clip._identity import check_embeds_with
from ..clip._model import load_model
from ._modules import CPU, Head, ImageClassifier

# The opset for which PyTorch's exporter writes its operators; every other one is a conversion.
# Both versions appeared together, and ONNX Runtime lists them since its version 1.14.
OPSET, IR_VERSION = 18, 8
# A file of Protocol Buffers holds at most 2 GiB; larger weights go into a second file.
MAX_BYTES = 2 * 10**9
# The first version of PyTorch in which the exporter that is used here is the default.
OLDEST_TORCH = (2, 9)


def to_onnx(estimator: Any, path: _typing.Path, *, overwrite: bool = False) -> Path:
    """Write a fitted classifier or pipeline to an ONNX file, which runs without PyTorch.

    A classifier becomes a model from embeddings to labels and probabilities. A pipeline of a
    :class:`~skcandle.CLIPFeaturizer` and a classifier becomes a model that starts from pixels: the
    image encoder, including the normalisation of the pixels, and the classifier. Prepare images for
    it with :func:`resize_and_crop`. This requires the extra `onnx`.

    Parameters
    ----------
    estimator : CandleClassifier, PublishedCandleClassifier, RejectingClassifier or Pipeline
        Fitted, or a search over such an estimator. It is exported as it is, with its classes and
        its prior, for example after `restrict`, `add_classes` or `with_prior`.
    path : str or path-like
        The file to write. If the weights take more than 2 GB, they go to a second file whose name
        has ".data" at the end, and which has to stay beside it.
    overwrite : bool, default=False
        Whether to replace files that exist.

    Returns
    -------
    path : Path
        The file.

    Raises
    ------
    TypeError
        If the estimator, or a step of the pipeline, cannot be exported.
    NotFittedError
        If the estimator is not fitted.
    ModelError
        If the CLIP of a pipeline is not the one of the fit, or its classifier was fitted on
        embeddings of another one.
    ImportError
        If the extra `onnx` is missing, or PyTorch is older than version 2.9.
    OSError
        If the file exists or cannot be written, or weights of CLIP are not available.

    See Also
    --------
    resize_and_crop : Prepares an image.

    Notes
    -----
    The file has one input, with any number of samples:

    * "embeddings" of shape (n_samples, n_features), in the number format of the data of the fit;
    * or "pixels" of shape (n_samples, height, width, 3) and dtype uint8, if it includes the image
      encoder, which computes in float32.

    It has two outputs, named as those of skl2onnx:

    * "label" of shape (n_samples,): the answers of `predict`, as strings, integers or whatever the
      labels are. A :class:`~skcandle.RejectingClassifier` also answers its `reject_label_`. For
      embeddings that are NaN, all zeros or infinite, it is the missing answer of `predict`;
    * "probabilities" of shape (n_samples, n_classes): those of `predict_proba`, whose columns
      follow the classes in the metadata. They are NaN for such embeddings.

    The metadata are strings. "classes", "versions" and, for files that take pixels, "preprocessing"
    are JSON; "clip" names the CLIP that the classifier was fitted with, and "clip_fingerprint" is
    the digest of its architecture, weights and preprocessing.

    The file uses opset 18 of the default domain and version 8 of the format, which ONNX Runtime
    lists since its version 1.14. There, probabilities differ from those of `predict_proba` by less
    than 1e-5 from embeddings in float32, and by less than 1e-3 from pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from skcandle import CandleClassifier
    >>> from skcandle.export import to_onnx
    >>> text = {"ant": [1, 0, 0.2], "bee": [0, 1, 0.2], "elk": [0.5, 0.5, 0.7]}
    >>> X = np.array([[1, 0.1, 0], [0, 1, 0.1]], dtype=np.float32)
    >>> clf = CandleClassifier(new_classes=["elk"], text_encoder=text).fit(X, ["ant", "bee"])
    >>> path = to_onnx(clf, "clf.onnx")                               # doctest: +SKIP
    >>> import onnxruntime                                            # doctest: +SKIP
    >>> session = onnxruntime.InferenceSession(path)                  # doctest: +SKIP
    >>> session.run(["label", "probabilities"], {"embeddings": X})    # doctest: +SKIP
    """
    path = Path(path)
    _parts(estimator)
    check_output(path, overwrite=overwrite)
    _write(model_of(estimator), path, overwrite)
    return path


def model_of(estimator):
    """The model that :func:`to_onnx` writes, as an ``onnx_ir.Model``."""
    _check_extra()
    featurizer, classifier, rejecting = _parts(estimator)
    metadata = _metadata(featurizer, classifier)
    answers, has_missing = _answers(classifier.classes_, rejecting)
    head = Head(classifier, rejecting, has_missing)
    if featurizer is None:
        name, example = "embeddings", torch.ones(2, classifier.n_features_in_, dtype=head.dtype)
        model = _traced(head, example)
    else:
        clip = load_model(featurizer._encoder().checkpoint, "fp32", CPU)
        geometry = clip.preprocess.geometry
        metadata["preprocessing"] = json.dumps(geometry)
        name, example = "pixels", torch.zeros(2, *geometry["size"], 3, dtype=torch.uint8)
        model = _traced(ImageClassifier(clip, head), example)
    model.ir_version = IR_VERSION
    model.metadata_props.update(metadata)
    _finish(model, name, answers)
    return model


def _parts(estimator):
    """The featurizer or None, the classifier, and the RejectingClassifier around it or None."""
    steps, rejecting = [], None
    while True:
        estimator = unfrozen(estimator)
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, RejectingClassifier):
            check_is_fitted(estimator)
            rejecting, estimator = estimator, estimator.estimator_
        elif isinstance(estimator, Pipeline):
            steps += [step for step in estimator.steps[:-1] if step[1] not in (None, "passthrough")]
            estimator = estimator.steps[-1][1]
        else:
            break
    if not isinstance(estimator, (CandleClassifier, PublishedCandleClassifier)):
        raise TypeError(
            "Only a CandleClassifier, a PublishedCandleClassifier or a RejectingClassifier, alone "
            f"or after a CLIPFeaturizer, can be exported, got {type(estimator).__name__}."
        )
    check_is_fitted(estimator)
    for name, step in steps[1:] if steps and is_featurizer(steps[0][1]) else steps:
        raise TypeError(
            f"The step {name!r}, a {type(step).__name__}, cannot be exported; export the last step "
            "alone, which takes the output of the steps before it."
        )
    return steps[0][1] if steps else None, estimator, rejecting


def _check_extra():
    try:
        import_module("onnxscript")
    except ImportError:
        raise ImportError(
            "Writing ONNX files needs onnx and onnxscript; install them with "
            '`pip install "skcandle[onnx]"`.'
        ) from None
    found = tuple(map(int, torch.__version__.split(".")[:2]))
    if found < OLDEST_TORCH:
        raise ImportError(
            f"Writing ONNX files needs PyTorch 2.9 or later, but {torch.__version__} is installed."
        )


def _answers(classes, rejecting):
    """All labels that may be answered: the classes, the missing answer, and that for rejection.

    Returns
    -------
    answers : list of str, or ndarray of numbers
    has_missing : bool
        Whether there is a missing answer; see :func:`~._missing_images.answers`.
    """
    missing = missing_answer(classes)
    has_missing = (
        classes.dtype != bool
        and type_for(classes, missing) is not None
        and missing not in classes.tolist()
    )
    others = [missing] if has_missing else []
    if rejecting is not None:
        others.append(rejecting.reject_label_)
    answers = classes.tolist() + others
    return answers if is_textual(classes) else np.array(answers), has_missing


def _metadata(featurizer, classifier):
    """What the file says about the classes, the CLIP and the versions, by name."""
    if featurizer is not None:
        identity = featurizer._identity or featurizer._present_identity()
        check_embeds_with(identity, classifier)
    else:
        identity = model_of_fit(classifier)
    metadata = {
        "classes": json.dumps(classifier.classes_.tolist()),
        "versions": json.dumps({"skcandle": __version__, "torch": torch.__version__}),
    }
    if identity is not None:
        metadata |= {"clip": identity.name, "clip_fingerprint": identity.fingerprints[-1]}
    return metadata


def _traced(module, example):
    """The graph of a module, with any number of samples."""
    with torch.no_grad(), _without_messages():
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim("n_samples")},),
            verbose=False,
        )
    assert program is not None  # for type checkers; it is None for another exporter only
    return program.model


@contextmanager
def _without_messages():
    """Leave out what the exporter says about its own steps."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _finish(model, name, answers):
    """Name the input and the outputs, and turn positions of answers into the answers."""
    import onnx_ir as ir

    graph = model.graph
    for part in (graph, *graph, *(value for node in graph for value in node.outputs)):
        part.metadata_props.clear()  # the exporter's notes, with paths on this machine
    positions, proba = graph.outputs
    graph.inputs[0].name, positions.name, proba.name = name, "answer", "probabilities"
    # a constant, because an initializer of strings could not go to a second file
    table = ir.Node("", "Constant", [], [ir.AttrTensor("value", ir.tensor(answers))])
    gather = ir.Node("", "Gather", [table.outputs[0], positions], [ir.AttrInt64("axis", 0)])
    graph.extend([table, gather])
    label = gather.outputs[0]
    label.name, label.shape = "label", positions.shape
    label.type = ir.TensorType(table.attributes["value"].value.dtype)
    graph.outputs[0] = label


def _write(model, path, overwrite):
    import onnx
    import onnx_ir as ir

    if sum(value.const_value.nbytes for value in model.graph.initializers.values()) <= MAX_BYTES:
        with replacing(path, overwrite=overwrite) as temporary:
            ir.save(model, temporary)
        return
    data = path.with_name(f"{path.name}.data")
    with (
        replacing(data, overwrite=overwrite) as temporary_data,
        replacing(path, overwrite=overwrite) as temporary,
    ):
        # shapes and axes, which are small, stay where a reader looks for them
        ir.external_data.unload_from_model(
            model, path.parent, temporary_data.name, size_threshold_bytes=1024
        )
        proto = ir.to_proto(model)
        for tensor in proto.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = data.name
        onnx.save(proto, temporary)
