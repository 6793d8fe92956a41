"""Damaged model files for the comparison of Python and C: what is wrong with each is in its name."""

import base64
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from lstm_edge_runtime.artifact import GOLDEN_KEY, TRAILER_BYTES, TRAILER_KEY, append_trailer
from lstm_edge_runtime.card import CARD_KEY

__all__ = ["CARD_CHANGES", "damaged_bytes", "damaged_cards", "damaged_golden", "damaged_graphs", "with_card"]


def damaged_bytes(data: bytes, cuts: int = 12, flips: int = 12) -> Iterator[tuple[str, bytes]]:
    """Yield truncations and flipped bits in every region, signed and not."""
    body = data[:-TRAILER_BYTES]
    yield "empty", b""
    yield "not a model", b"PK\x03\x04 this is no model"
    yield "trailer alone", data[-TRAILER_BYTES:]
    yield "two trailers", data + data[-TRAILER_BYTES:]
    yield "trailer in the middle", data + b"\x72\x08\x0a\x02ab\x12\x02cd"
    yield "a byte more", data + b"\x00"
    yield "trailer of another file", body + b"\x72\x08\x0a\x02ab\x12\x02cd" + data[-TRAILER_BYTES:]
    for missing in (1, 2, 63, 64, 65, 81, 82, 83, 84, 85):
        yield f"{missing} bytes of the trailer cut off", data[:-missing]
    for cut in np.linspace(1, len(body) - 1, cuts).astype(int).tolist():
        yield f"cut at {cut}", data[:cut]
        yield f"cut at {cut} and signed", append_trailer(body[:cut])
    for at in np.linspace(0, len(data) - 1, flips).astype(int).tolist():
        yield f"bit {at % 8} of byte {at}", _flipped(data, at)
    for at in [*range(0, 24, 5), *np.linspace(24, len(body) - 1, flips).astype(int).tolist()]:
        yield f"bit {at % 8} of byte {at}, signed", append_trailer(_flipped(body, at))
    for at in range(len(data) - TRAILER_BYTES, len(data), 9):
        yield f"bit {at % 8} of byte {at} of the trailer", _flipped(data, at)


def _flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1 << (at % 8)
    return bytes(changed)


def _signed(proto: onnx.ModelProto) -> bytes:
    return append_trailer(proto.SerializeToString())


def _parsed(data: bytes) -> onnx.ModelProto:
    """Parse a file and leave its trailer out."""
    proto = onnx.load_from_string(data)
    kept = [entry for entry in proto.metadata_props if entry.key != TRAILER_KEY]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    return proto


def _with_text(data: bytes, key: str, text: str) -> bytes:
    proto = _parsed(data)
    for entry in proto.metadata_props:
        if entry.key == key:
            entry.value = text
            return _signed(proto)
    proto.metadata_props.add(key=key, value=text)
    return _signed(proto)


def with_card(data: bytes, text: str) -> bytes:
    """Return the file with another text of its card, signed."""
    return _with_text(data, CARD_KEY, text)


def _text(data: bytes, key: str) -> str:
    return next(entry.value for entry in _parsed(data).metadata_props if entry.key == key)


def _put(*path: Any, value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


def _drop(*path: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        del document[path[-1]]

    return change


# Changes of a card with an input, an output and a state, by what they do.
CARD_CHANGES: dict[str, Callable[[Any], None]] = {
    "no schema": _drop("schema"),
    "schema 2.0": _put("schema", value="2.0"),
    "schema 1.99": _put("schema", value="1.99"),
    "schema 1": _put("schema", value="1"),
    "schema of a number": _put("schema", value=1.5),
    "schema 1.0": _put("schema", value="1.0"),
    "schema 1.2": _put("schema", value="1.2"),
    "a new key": _put("new", value=[1, {"a": None}]),
    "a new key of an input": _put("inputs", 0, "unit", value="m/s"),
    "no inputs": _drop("inputs"),
    "empty inputs": _put("inputs", value=[]),
    "inputs of an object": _put("inputs", value={}),
    "task": _put("task", value="translation"),
    "task of a number": _put("task", value=3),
    "name of an input": _put("inputs", 0, "name", value="it's"),
    "name of a number": _put("inputs", 0, "name", value=7),
    "dtype of an input": _put("inputs", 0, "dtype", value="float64"),
    "no such dtype": _put("inputs", 0, "dtype", value="complex64"),
    "axes of a text": _put("inputs", 0, "axes", value="batch"),
    "an axis of nothing": _put("inputs", 0, "axes", 0, value=None),
    "an axis of 2**70": _put("inputs", 0, "axes", 0, value=2**70),
    "an axis of 0": _put("inputs", 0, "axes", 0, value=0),
    "an axis below 0": _put("inputs", 0, "axes", 0, value=-1),
    "an axis of true": _put("inputs", 0, "axes", 0, value=True),
    "an axis of 1.0": _put("inputs", 0, "axes", 0, value=1.0),
    "a long name": _put("inputs", 0, "name", value="x" * 300),
    "a name for a terminal": _put("inputs", 0, "name", value="\x1b]0;owned\x07\u202e\U0001f600\ud800"),
    "range of one": _put("inputs", 0, "range", value=[1]),
    "range upside down": _put("inputs", 0, "range", value=[1, -1]),
    "range": _put("inputs", 0, "range", value=[-1, 1.5]),
    "lengths that are not there": _put("lengths", value="rows"),
    "lengths that are an input": lambda card: card.update(lengths=card["inputs"][0]["name"]),
    "no states": _put("states", value=[]),
    "a state twice": lambda card: card["states"].extend(card["states"][:1]),
    "kind of a state": lambda card: card["states"] and card["states"][0].update(kind="x"),
    "state of another size": lambda card: card["states"] and card["states"][0].update(axes=[1, "batch", 999]),
    "state of a folded batch": lambda card: card["states"] and card["states"][0].update(axes=[1, "batch*3", 7]),
    "state of an unknown output": lambda card: card["states"] and card["states"][0].update(output="none"),
    "state that counts in float": lambda card: card["states"] and card["states"][0].update(counts=1),
    "verdict": _put("streaming", "verdict", value="sometimes"),
    "verdict none": _put("streaming", value={"verdict": "none", "reason": "it looks ahead"}),
    "verdict none without a reason": _put("streaming", value={"verdict": "none", "reason": ""}),
    "verdict each-call": _put("streaming", "verdict", value="each-call"),
    "verdict last-step": _put("streaming", "verdict", value="last-step"),
    "every of 0": _put("streaming", "every", value=0),
    "every of 2": _put("streaming", "every", value=2),
    "first of 10**30": _put("streaming", "first", value=10**30),
    "end that is not there": _put("streaming", "end", value="over"),
    "streaming of nothing": _put("streaming", value=None),
    "no streaming": _drop("streaming"),
    "labels of numbers": _put("labels", value=[1, 2]),
    "vocabulary twice": _put("vocabulary", value=["a", "a"]),
    "vocabulary": _put("vocabulary", value=["a", "b", "ü"]),
    "minimum_onnxruntime of words": _put("minimum_onnxruntime", value="new"),
    "minimum_onnxruntime 9.0": _put("minimum_onnxruntime", value="9.0"),
    "minimum_onnxruntime 1.18+cpu": _put("minimum_onnxruntime", value="1.18.0+cpu"),
    "no minimum_onnxruntime": _drop("minimum_onnxruntime"),
    "quantization of a text": _put("quantization", value="int8"),
    "parity of a text": _put("parity", value="no"),
    "front end": _put("front_end", value={"input": "x", "text": "t", "rate_hz": 8000, "first": 3, "every": 0}),
    "front end of another input": _put(
        "front_end", value={"input": "zz", "text": "t", "rate_hz": 8000, "first": 400, "every": 160}
    ),
    "trained_for int4": _put("trained_for", value="int4"),
    "text without a kind": _put("text", value={}),
    "a value too deep": _put("deep", value=json.loads("[" * 90 + "]" * 90)),
}


def damaged_cards(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield changes of keys and values, and texts that are not a card."""
    text = _text(data, CARD_KEY)
    for name, change in CARD_CHANGES.items():
        document = json.loads(text)
        try:
            change(document)
        except (KeyError, IndexError):
            continue
        changed = json.dumps(document, ensure_ascii=True)
        yield f"card: {name}", with_card(data, changed)
    for name, broken in {
        "nothing": "",
        "a list": "[]",
        "a number": "1",
        "null": "null",
        "half": text[: len(text) // 2],
        "single quotes": text.replace('"', "'"),
        "a key twice": text[:-1] + ', "task": "generic"}',
        "NaN": text[:-1] + ', "new": NaN}',
        "Infinity": text[:-1] + ', "new": -Infinity}',
        "1e999": text[:-1] + ', "new": 1e999}',
        "a huge integer": text[:-1] + ', "new": ' + "9" * 5000 + "}",
        "01": text[:-1] + ', "new": 01}',
        "a tab in a text": text[:-1] + ', "new": "\t"}',
        "a comma at the end": text[:-1] + ",}",
        "a lone surrogate": text[:-1] + ', "new": "\\ud800"}',
        "spaces around it": f"  \n{text}\t ",
        "a byte order mark": "\ufeff" + text,
        "more behind it": text + " {}",
        "10,000 brackets": "[" * 10_000,
    }.items():
        yield f"card: {name}", with_card(data, broken)


def damaged_golden(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield wrong golden vectors: other answers, other names, and archives that are damaged."""
    document = json.loads(_text(data, GOLDEN_KEY))
    with np.load(io.BytesIO(base64.b64decode(document["npz"]))) as archive:
        arrays = {name: archive[name] for name in archive.files}

    def written(changed: dict[str, np.ndarray], **options: Any) -> bytes:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **changed)
        packed = base64.b64encode(buffer.getvalue()).decode()
        return _with_text(data, GOLDEN_KEY, json.dumps({**document, "npz": packed, **options}))

    output = next(name for name in arrays if ".out." in name)
    given = next(name for name in arrays if ".in." in name)
    for name, value in {
        "another answer": arrays[output] + 1,
        "a near answer": arrays[output] + np.float32(1e-7),
        "NaN": np.full_like(arrays[output], np.nan),
        "another shape": arrays[output][:1].reshape(-1),
        "doubles": arrays[output].astype(np.float64),
        "no elements": arrays[output][:0],
        "Fortran order": np.asfortranarray(arrays[output]),
    }.items():
        yield f"golden: {name}", written({**arrays, output: value})
    yield "golden: another output", written({**arrays, "0.out.zz": arrays[output]})
    yield "golden: another input", written({**arrays, "0.in.zz": arrays[output]})
    yield "golden: an input of NaN", written({**arrays, given: np.full(arrays[given].shape, np.nan, np.float32)})
    yield "golden: an input is missing", written({name: array for name, array in arrays.items() if name != given})
    yield "golden: no vectors", written({})
    yield "golden: a strange name", written({**arrays, "x.y": arrays[output]})
    yield "golden: complex numbers", written({**arrays, output: arrays[output].astype(np.complex64)})
    yield "golden: a tolerance of 1", written(arrays, tolerance={"bodies": 1.0, "kernels": 1.0})
    yield "golden: a negative tolerance", written(arrays, tolerance={"bodies": -1.0, "kernels": 0.0})
    yield "golden: no tolerance", written(arrays, tolerance={})
    outputs = list(dict.fromkeys(name.split(".", 2)[2] for name in arrays if ".out." in name))
    moved = {name: array + np.float32(1e-4) if ".out." in name else array for name, array in arrays.items()}
    for what, each in {
        "a smaller one that is met": {outputs[0]: 2e-4},
        "a smaller one that is not met": {outputs[-1]: 1e-5},
        "another for each": {name: 1e-3 / 10**number for number, name in enumerate(outputs)},
        "zero": {outputs[-1]: 0},
        "one that is larger than all": {outputs[0]: 9e-3},
        "an unknown name": {"zz": 1e-5},
        "too large": {outputs[0]: 1.0},
    }.items():
        tolerance = {"bodies": 1e-3, "kernels": 1e-3, "outputs": each}
        yield f"golden: own tolerance, {what}", written(moved, tolerance=tolerance)
    packed = document["npz"]
    for name, text in {
        "not JSON": "golden",
        "a list": "[]",
        "no archive": json.dumps({"tolerance": document["tolerance"]}),
        "not base64": json.dumps({**document, "npz": "*" + packed}),
        "half of it": json.dumps({**document, "npz": packed[: len(packed) // 8 * 4]}),
        "another byte": json.dumps(
            {**document, "npz": packed[:400] + ("A" if packed[400] != "A" else "B") + packed[401:]}
        ),
        "archive of a number": json.dumps({**document, "npz": 7}),
        "100,000 characters": json.dumps({**document, "npz": packed + "A" * 100_000}),
    }.items():
        yield f"golden: {name}", _with_text(data, GOLDEN_KEY, text)


def damaged_graphs(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield other function bodies, weights in another file, unknown operators, and graphs that contradict the card."""

    def changed(change: Callable[[onnx.ModelProto], Any]) -> bytes:
        proto = _parsed(data)
        change(proto)
        return _signed(proto)

    proto = _parsed(data)
    if proto.functions:
        yield "a function without its last node", changed(lambda m: m.functions[0].node.pop())
        yield "a function of another name", changed(lambda m: setattr(m.functions[0], "name", "LstmInt8V9"))
        yield "a function without a domain", changed(lambda m: m.functions[0].ClearField("domain"))
        yield "a function with an overload", changed(lambda m: setattr(m.functions[0], "overload", "again"))
        yield "a function of another opset", changed(lambda m: setattr(m.functions[0].opset_import[0], "version", 19))
        yield "no functions", changed(lambda m: m.ClearField("functions"))
        yield "a function twice", changed(lambda m: m.functions.append(m.functions[0]))
        yield "inputs of a function change places", changed(lambda m: m.functions[0].input.reverse())
        yield "a node of another operator", changed(lambda m: setattr(_ours(m), "op_type", "LstmInt8V2"))
    yield "weights in another file", changed(lambda m: _make_external(m, "weights.bin"))
    yield "weights in /etc/passwd", changed(lambda m: _make_external(m, "/etc/passwd"))
    yield "a weight is missing", changed(lambda m: m.graph.initializer.pop())
    yield "a weight twice", changed(lambda m: m.graph.initializer.append(m.graph.initializer[0]))
    yield "another input", changed(lambda m: setattr(m.graph.input[0], "name", "other"))
    yield "an output less", changed(lambda m: m.graph.output.pop())
    yield "an operator of onnxruntime that is not there", changed(lambda m: setattr(m.graph.node[0], "op_type", "Nix"))
    yield "an unknown domain", changed(lambda m: setattr(m.graph.node[0], "domain", "com.evil"))
    yield "no graph", changed(lambda m: m.ClearField("graph"))
    yield "no opset", changed(lambda m: m.ClearField("opset_import"))
    yield "opset 999", changed(lambda m: setattr(m.opset_import[0], "version", 999))
    yield "IR version 99", changed(lambda m: setattr(m, "ir_version", 99))
    yield "a fixed batch", changed(lambda m: _fix(m, 0))
    yield (
        "an axis without a name",
        changed(lambda m: m.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param")),
    )
    yield "an input of doubles", changed(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 11))
    yield "a key of the metadata twice", changed(lambda m: m.metadata_props.append(m.metadata_props[0]))
    yield (
        "metadata that is not text",
        append_trailer(proto.SerializeToString() + b"\x72\x08\x0a\x02\xff\xfe\x12\x02\xc3\x28"),
    )
    yield "training information", changed(lambda m: m.training_info.add())


def _ours(proto: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in proto.graph.node if node.domain)


def _fix(proto: onnx.ModelProto, axis: int) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 3


def _make_external(proto: onnx.ModelProto, location: str) -> None:
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
