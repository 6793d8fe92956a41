"""Reading ONNX models: parsed once, with checks, and refused where two readers would take the bytes differently."""

import os

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from lstm_edge_exporters.functions import DOMAIN, function_for
from lstm_edge_exporters.onnx_graph.edit import drop_unused
from lstm_edge_exporters.onnx_graph.limits import check_external_data, check_limits, external_tensors
from lstm_edge_exporters.onnx_graph.names import nest
from lstm_edge_exporters.onnx_graph.own_float32 import to_onnx
from lstm_edge_exporters.onnx_graph.quiet import quiet
from lstm_edge_runtime.artifact import check_integrity
from lstm_edge_runtime.errors import ArtifactError, first_line
from lstm_edge_runtime.function_check import check_inlining
from lstm_edge_runtime.model_reading import ModelReading, TornError, read_model

__all__ = ["parse_model", "parse_proto", "read_again", "read_proto", "with_weights"]


def parse_model(data: bytes) -> ir.Model:
    """Parse a model file for rewriting.

    A call of a float32 operator whose body is one ONNX node (``LstmV2``, ``GruV1``) is that node from here on.

    Raises:
        IntegrityError: the file carries a trailer that does not agree with its bytes.
        ArtifactError: the bytes are not an ONNX model, are not what they declare (see ``check_limits``), refer to
            external data, or define one of our operators otherwise.
    """
    check_integrity(data)
    proto, reading = parse_proto(data)
    check_inlining(reading)
    check_limits(proto)
    if not proto.graph.node:
        raise ArtifactError("this is not an ONNX model: it has no nodes")
    for function in proto.functions:
        if function.domain == DOMAIN:
            _check_function(function, next((entry.version for entry in proto.opset_import if not entry.domain), 0))
    if reading.external:
        named = [tensor.name for tensor in external_tensors(proto)]
        what = f"weight {named[0]!r}" if named else f"the tensor {reading.external[0]}"
        raise ArtifactError(f"{what} is stored in another file: load and save the model as one file first")
    model = read_proto(proto)
    to_onnx(model)
    return model


def parse_proto(data: bytes) -> tuple[onnx.ModelProto, ModelReading]:
    """Parse a file that somebody else wrote, if it can be read in one way only.

    Returns:
        The model as onnx reads it, and what the device's checks read of the same bytes.

    Raises:
        ArtifactError: the bytes are not an ONNX model, or readers take them in different ways (see ``read_model``).
    """
    torn, reading = None, None
    try:
        reading = read_model(data)
    except TornError as error:
        torn = error  # onnx says in its own words that it is not a model
    try:
        proto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ArtifactError(f"this is not an ONNX model: {error}") from error
    if reading is None:
        raise ArtifactError(f"this is not an ONNX model: {torn}")
    return proto, reading


def read_proto(proto: onnx.ModelProto) -> ir.Model:
    """Return a model of ours for rewriting; one that somebody else wrote goes through ``parse_model``.

    Raises:
        ArtifactError: onnx_ir cannot read it.
    """
    try:
        with quiet():
            model = ir.from_proto(proto)
    except (ValueError, TypeError, KeyError, AttributeError, ir.serde.SerdeError) as error:
        raise ArtifactError(f"the model cannot be read: {first_line(error)}") from error
    for nested in model.graph.subgraphs():
        nest(nested, model.graph)
    return model


def read_again(model: ir.Model) -> ir.Model:
    """Return a copy of a model without what nothing uses any more.

    Nodes of a branch that was folded away still count as users of the weights around it (onnx_ir 1.1), so that
    ``drop_unused`` alone keeps those: 0.5 to 0.9 MB of a published VAD.
    """
    copy = read_proto(ir.to_proto(model))
    drop_unused(copy)
    return copy


def with_weights(data: bytes, folder: str | os.PathLike[str]) -> bytes:
    """Return a model with its weights inside: those in separate files are read from the model's folder.

    Bytes that are not a model, or that hold their weights already, are returned as they are.

    Raises:
        ArtifactError: a file of weights is missing, too short, or outside the folder (see ``check_external_data``).
    """
    try:
        proto, reading = parse_proto(data)
    except ArtifactError:
        return data  # parse_model, which reads the same bytes next, says why it refuses them
    if not reading.external:
        return data
    check_integrity(data)
    try:
        check_external_data(proto, folder)
        onnx.load_external_data_for_model(proto, os.fspath(folder))
        return proto.SerializeToString(deterministic=True)
    except (ArtifactError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ArtifactError(f"the weights in external files cannot be read: {first_line(error)}") from error


def _check_function(function: onnx.FunctionProto, opset: int) -> None:
    try:
        ours = function_for(function.name, opset)
    except KeyError as error:
        raise ArtifactError(
            f"the file calls {DOMAIN}::{function.name}, which this version does not know: update lstm-edge"
        ) from error
    if function.SerializeToString(deterministic=True) != ours.SerializeToString(deterministic=True):
        raise ArtifactError(
            f"the file's body of {DOMAIN}::{function.name} differs from docs/operators.md: "
            "names in this domain never change their meaning"
        )
