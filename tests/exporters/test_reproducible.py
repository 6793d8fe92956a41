"""The same input gives the same bytes, and the bytes say nothing about the machine that they were made on."""

import getpass
import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from support.networks import NETWORKS, build, exported, input_spec, quantized

from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_runtime.card import CARD_KEY

pytestmark = [pytest.mark.slow, pytest.mark.long]

ROOT = Path(__file__).parents[2]

SCRIPT = """
import hashlib, sys
from support.networks import exported, quantized
name = "full-projected-bidirectional"
for data in (exported("language-model", lengths=True), exported(name), quantized(name)):
    print(hashlib.sha256(data).hexdigest())
"""


def digests_of_a_fresh_process(seed: str) -> list[str]:
    folders = [ROOT / part for part in ("tests", "", "exporters", "runtime")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders)), "PYTHONHASHSEED": seed}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True, timeout=600
    )
    return done.stdout.split()


def test_two_processes_write_the_same_bytes() -> None:
    # Other hash seeds: the order of a set must not reach the file.
    first, second = digests_of_a_fresh_process("1"), digests_of_a_fresh_process("2")
    assert len(first) == 3
    assert first == second
    assert first[0] == hashlib.sha256(exported("language-model", lengths=True)).hexdigest()


@pytest.mark.parametrize("name", ["tagger", "full"])
def test_one_process_writes_the_same_bytes_again(name: str) -> None:
    torch.manual_seed(5)
    again = build(NETWORKS[name](), None, inputs=[input_spec(name)]).data
    assert again == exported(name)
    assert quantize_bytes(again).data == quantized(name)


@pytest.mark.parametrize("name", ["tagger", "language-model", "full-projected-bidirectional", "classifier"])
@pytest.mark.parametrize("form", ["float32", "plain", "int8"])
def test_nothing_of_this_machine_is_in_the_file(name: str, form: str) -> None:
    data = {"float32": exported, "plain": lambda n: exported(n, plain=True), "int8": quantized}[form](name)
    model = onnx.ModelProto()
    model.ParseFromString(data)
    assert {entry.key for entry in model.metadata_props} == {CARD_KEY, "lstm_edge.golden", "lstm_edge.sha256"}
    # The golden vectors are base64, in which any three letters may stand; everything else is searched.
    kept = [entry for entry in model.metadata_props if entry.key == CARD_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    text = model.SerializeToString()
    words = [str(ROOT), str(Path.home()), sys.prefix, torch.__file__, "site-packages", ".py", "Traceback"]
    words += ["stack_trace", "pkg.torch", "torch.nn", "namespace", "/tmp", socket.gethostname()]
    words += [name for name in (os.environ.get("USER"), getpass.getuser()) if name and len(name) > 3]
    for word in words:
        if len(word) > 1:
            assert word.encode() not in text, word
    # The search can fail: what must be there is found.
    assert b"lstm_edge" in text
    graph = model.graph
    assert all(not node.doc_string and not node.metadata_props for node in graph.node)
    assert not [notes for notes in (model.doc_string, graph.doc_string, graph.metadata_props) if notes]
    assert (model.producer_name, model.producer_version, model.domain) == ("lstm-edge", "", "")
