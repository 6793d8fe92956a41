"""The messages of onnx.proto, as far as a reader of the bytes has to know them: onnx 1.23, IR version 13.

Every message is listed, so that no place in a file is read without its rules. A test compares the table with the
onnx package that is installed.
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["BYTES", "FIXED32", "FIXED64", "MESSAGE", "SCHEMAS", "TEXT", "VARINT", "WIRE_TYPES", "Field", "Schema"]

VARINT: Final = "varint"
FIXED32: Final = "fixed32"
FIXED64: Final = "fixed64"
BYTES: Final = "bytes"
TEXT: Final = "text"
MESSAGE: Final = "message"
# Protobuf's wire type of each kind of field.
WIRE_TYPES: Final = {VARINT: 0, FIXED64: 1, BYTES: 2, TEXT: 2, MESSAGE: 2, FIXED32: 5}

# Field number -> "name kind", the kind being one of the above or a message; a star for repeated fields, a group after
# a slash for the members of a oneof. Documentation strings are bytes here: nothing reads them, and tools of other
# languages have written them in other encodings.
_TABLE: Final[dict[str, dict[int, str]]] = {
    "ModelProto": {
        1: "ir_version varint",
        2: "producer_name text",
        3: "producer_version text",
        4: "domain text",
        5: "model_version varint",
        6: "doc_string bytes",
        7: "graph GraphProto",
        8: "opset_import OperatorSetIdProto*",
        14: "metadata_props StringStringEntryProto*",
        20: "training_info TrainingInfoProto*",
        25: "functions FunctionProto*",
        26: "configuration DeviceConfigurationProto*",
    },
    "GraphProto": {
        1: "node NodeProto*",
        2: "name text",
        5: "initializer TensorProto*",
        10: "doc_string bytes",
        11: "input ValueInfoProto*",
        12: "output ValueInfoProto*",
        13: "value_info ValueInfoProto*",
        14: "quantization_annotation TensorAnnotation*",
        15: "sparse_initializer SparseTensorProto*",
        16: "metadata_props StringStringEntryProto*",
    },
    "NodeProto": {
        1: "input text*",
        2: "output text*",
        3: "name text",
        4: "op_type text",
        5: "attribute AttributeProto*",
        6: "doc_string bytes",
        7: "domain text",
        8: "overload text",
        9: "metadata_props StringStringEntryProto*",
        10: "device_configurations NodeDeviceConfigurationProto*",
    },
    "AttributeProto": {
        1: "name text",
        2: "f fixed32",
        3: "i varint",
        4: "s bytes",
        5: "t TensorProto",
        6: "g GraphProto",
        7: "floats fixed32*",
        8: "ints varint*",
        9: "strings bytes*",
        10: "tensors TensorProto*",
        11: "graphs GraphProto*",
        13: "doc_string bytes",
        14: "tp TypeProto",
        15: "type_protos TypeProto*",
        20: "type varint",
        21: "ref_attr_name text",
        22: "sparse_tensor SparseTensorProto",
        23: "sparse_tensors SparseTensorProto*",
    },
    "TensorProto": {
        1: "dims varint*",
        2: "data_type varint",
        3: "segment TensorProto.Segment",
        4: "float_data fixed32*",
        5: "int32_data varint*",
        6: "string_data bytes*",
        7: "int64_data varint*",
        8: "name text",
        9: "raw_data bytes",
        10: "double_data fixed64*",
        11: "uint64_data varint*",
        12: "doc_string bytes",
        13: "external_data StringStringEntryProto*",
        14: "data_location varint",
        16: "metadata_props StringStringEntryProto*",
    },
    "TensorProto.Segment": {1: "begin varint", 2: "end varint"},
    "SparseTensorProto": {1: "values TensorProto", 2: "indices TensorProto", 3: "dims varint*"},
    "FunctionProto": {
        1: "name text",
        4: "input text*",
        5: "output text*",
        6: "attribute text*",
        7: "node NodeProto*",
        8: "doc_string bytes",
        9: "opset_import OperatorSetIdProto*",
        10: "domain text",
        11: "attribute_proto AttributeProto*",
        12: "value_info ValueInfoProto*",
        13: "overload text",
        14: "metadata_props StringStringEntryProto*",
    },
    "TrainingInfoProto": {
        1: "initialization GraphProto",
        2: "algorithm GraphProto",
        3: "initialization_binding StringStringEntryProto*",
        4: "update_binding StringStringEntryProto*",
    },
    "StringStringEntryProto": {1: "key text", 2: "value text"},
    "OperatorSetIdProto": {1: "domain text", 2: "version varint"},
    "TensorAnnotation": {1: "tensor_name text", 2: "quant_parameter_tensor_names StringStringEntryProto*"},
    "ValueInfoProto": {
        1: "name text",
        2: "type TypeProto",
        3: "doc_string bytes",
        4: "metadata_props StringStringEntryProto*",
    },
    "TypeProto": {
        1: "tensor_type TypeProto.Tensor/value",
        4: "sequence_type TypeProto.Sequence/value",
        5: "map_type TypeProto.Map/value",
        6: "denotation text",
        7: "opaque_type TypeProto.Opaque/value",
        8: "sparse_tensor_type TypeProto.SparseTensor/value",
        9: "optional_type TypeProto.Optional/value",
    },
    "TypeProto.Tensor": {1: "elem_type varint", 2: "shape TensorShapeProto"},
    "TypeProto.SparseTensor": {1: "elem_type varint", 2: "shape TensorShapeProto"},
    "TypeProto.Sequence": {1: "elem_type TypeProto"},
    "TypeProto.Optional": {1: "elem_type TypeProto"},
    "TypeProto.Map": {1: "key_type varint", 2: "value_type TypeProto"},
    "TypeProto.Opaque": {1: "domain text", 2: "name text"},
    "TensorShapeProto": {1: "dim TensorShapeProto.Dimension*"},
    "TensorShapeProto.Dimension": {1: "dim_value varint/value", 2: "dim_param text/value", 3: "denotation text"},
    "DeviceConfigurationProto": {1: "name text", 2: "num_devices varint", 3: "device text*"},
    "NodeDeviceConfigurationProto": {
        1: "configuration_id text",
        2: "sharding_spec ShardingSpecProto*",
        3: "pipeline_stage varint",
    },
    "ShardingSpecProto": {
        1: "tensor_name text",
        2: "device varint*",
        3: "index_to_device_group_map IntIntListEntryProto*",
        4: "sharded_dim ShardedDimProto*",
    },
    "IntIntListEntryProto": {1: "key varint", 2: "value varint*"},
    "ShardedDimProto": {1: "axis varint", 2: "simple_sharding SimpleShardedDimProto*"},
    "SimpleShardedDimProto": {1: "dim_value varint/dim", 2: "dim_param text/dim", 3: "num_shards varint"},
}


# What the checks look at; of the rest only the form is checked. Keeping everything takes three times as long.
_KEPT: Final[dict[str, tuple[str, ...]]] = {
    "ModelProto": ("graph", "opset_import", "metadata_props", "training_info", "functions"),
    "GraphProto": ("node", "initializer", "sparse_initializer", "input"),
    "NodeProto": ("name", "input", "output", "op_type", "attribute", "domain", "overload"),
    "AttributeProto": ("name", "t", "g", "tensors", "graphs", "sparse_tensor", "sparse_tensors"),
    "TensorProto": ("name", "external_data", "data_location"),
    "ValueInfoProto": ("name",),
    "SparseTensorProto": ("values", "indices"),
    "FunctionProto": ("name", "input", "output", "node", "opset_import", "domain", "attribute_proto", "overload"),
    "TrainingInfoProto": ("initialization", "algorithm"),
    "StringStringEntryProto": ("key", "value"),
    "OperatorSetIdProto": ("domain", "version"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One field of a message.

    Attributes:
        name: its name in onnx.proto.
        kind: one of the kinds above.
        schema: the schema of the message that it holds, else None.
        repeated: whether it may be given more than once.
        kept: whether the checks look at it.
        bit: a bit for the field, unique in its message.
        bars: the bits of the fields that may not have been given before it: itself where it is not repeated, and the
            other members of its oneof.
    """

    name: str
    kind: str
    schema: "Schema | None"
    repeated: bool
    kept: bool
    bit: int
    bars: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Schema:
    """The fields of a message, by tag (field number and wire type as protobuf encodes them) and by number.

    A repeated field of numbers has two tags: readers take it packed and unpacked.
    """

    tags: dict[int, Field]
    numbers: dict[int, Field]


def _schemas() -> dict[str, Schema]:
    made = {name: Schema(tags={}, numbers={}) for name in _TABLE}
    for message, rows in _TABLE.items():
        groups = {number: row.partition("/")[2] for number, row in rows.items()}
        for number, row in rows.items():
            name, kind = row.partition("/")[0].split()
            schema, repeated = made.get(kind.removesuffix("*")), kind.endswith("*")
            rivals = {other for other in rows if groups[other] == groups[number] != ""}
            made[message].numbers[number] = field = Field(
                name=name,
                kind=MESSAGE if schema is not None else kind.removesuffix("*"),
                schema=schema,
                repeated=repeated,
                kept=name in _KEPT.get(message, ()),
                bit=1 << number,
                bars=sum(1 << other for other in (rivals if repeated else rivals | {number})),
            )
            wires = {WIRE_TYPES[field.kind], *([WIRE_TYPES[BYTES]] if field.repeated else [])}
            made[message].tags.update({number << 3 | wire: field for wire in wires})
    return made


SCHEMAS: Final = _schemas()
