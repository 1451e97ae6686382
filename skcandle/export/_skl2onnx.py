"""The classifiers in skl2onnx, which converts pipelines of steps on arrays."""

from ..classifier import CandleClassifier, PublishedCandleClassifier, RejectingClassifier
from ._onnx import OPSET, model_of


def register_converters() -> None:
    """Make skl2onnx convert pipelines that end in a classifier of this library.

    Afterwards, ``skl2onnx.to_onnx`` converts, for example, a pipeline of a
    :class:`~sklearn.preprocessing.StandardScaler` and a :class:`~skcandle.CandleClassifier`. It
    needs an opset of at least 18.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    See Also
    --------
    to_onnx : Exports classifiers, and pipelines that start from images, without skl2onnx.

    Examples
    --------
    >>> from skcandle.export import register_converters
    >>> register_converters()  # doctest: +SKIP
    """
    try:
        from skl2onnx import update_registered_converter
        from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
    except ImportError:
        raise ImportError(
            "Converters for skl2onnx need skl2onnx; install it with `pip install skl2onnx`."
        ) from None
    for kind in (CandleClassifier, PublishedCandleClassifier, RejectingClassifier):
        update_registered_converter(
            kind,
            f"Skcandle{kind.__name__}",
            calculate_linear_classifier_output_shapes,
            _convert,
            options={"zipmap": [True, False, "columns"], "nocl": [False]},
        )


def _convert(scope, operator, container):
    """Copy the nodes of the exported classifier into the graph of skl2onnx."""
    import onnx_ir as ir
    from onnx import TensorProto
    from skl2onnx.common.data_types import DoubleTensorType

    if container.target_opset < OPSET:
        raise ValueError(
            f"Classifiers of skcandle need target_opset={OPSET} or higher, got "
            f"{container.target_opset}."
        )
    graph = ir.to_proto(model_of(operator.raw_operator)).graph
    [X], [label, proba] = operator.inputs, operator.outputs
    names = {"label": label.full_name}

    def unique(name):
        if name and name not in names:
            names[name] = scope.get_unique_variable_name(name)
        return names.get(name, "")

    def cast(source, target, to):
        name = scope.get_unique_operator_name("Cast")
        container.add_node("Cast", source, target, op_version=13, to=to, name=name)

    # the precision of skl2onnx is that of the data in its call, not that of the fit
    cast(X.full_name, unique("embeddings"), graph.input[0].type.tensor_type.elem_type)
    for tensor in graph.initializer:
        tensor.name = unique(tensor.name)
        container.initializers.append(tensor)
    for node in graph.node:
        node.input[:] = map(unique, node.input)
        node.output[:] = map(unique, node.output)
        node.name = scope.get_unique_operator_name(node.op_type)
        container.nodes.append(node)
    container.node_domain_version_pair_sets.add(("", OPSET))
    is_double = isinstance(proba.type, DoubleTensorType)
    to = TensorProto.DOUBLE if is_double else TensorProto.FLOAT
    cast(unique("probabilities"), proba.full_name, to)
