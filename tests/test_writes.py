"""Every file that the packages write goes through write_atomically, and temporary names are not predictable."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Where something else writes, and what.
WRITERS = {
    "runtime/lstm_edge_runtime/writing.py": "write_atomically itself",
    "runtime/c/build.py": "a compiler's script in the folder of a build, written again if it is not whole",
    "runtime/c/generate.py": "the generated sources in a checkout, written again if they are not whole",
    "runtime/lstm_edge_runtime/watch/files.py": "a line of metrics with one call, or nothing of it",
    "runtime/lstm_edge_runtime/kernels/build.py": "into a temporary folder; the library is linked aside and renamed",
    "lstm_edge/fleet/keys.py": "keys, which replace no file: O_EXCL, and the mode before the first byte",
    "lstm_edge/fleet/openssf.py": "into a temporary folder",
    "lstm_edge/precision_search/journal.py": "a line a measurement, each with a checksum",
    "lstm_edge/precision_search/measure.py": "into a temporary folder",
    "lstm_edge/precision_search/worker.py": "into a temporary file without a name",
    "lstm_edge/fleet/packing.py": "into a temporary folder, and a tar archive in memory",
    "lstm_edge/training/selection/candidates.py": "into a temporary folder",
}
CALLS = {"write_text", "write_bytes", "mkstemp", "mktemp", "NamedTemporaryFile", "rename", "replace", "touch"}
# The first argument of these is a path or a buffer: a buffer is fine, so each is listed where it is used.
SAVERS = {"save", "savez", "savez_compressed", "save_file", "savefig", "tofile", "savetxt", "dump"}
IN_MEMORY = {
    ("runtime/lstm_edge_runtime/files.py", "save"),
    ("runtime/lstm_edge_runtime/files.py", "savez"),
    ("runtime/lstm_edge_runtime/golden.py", "savez_compressed"),
    ("exporters/lstm_edge_exporters/verify/guarded.py", "savez"),
    ("lstm_edge/training/figures.py", "savefig"),
}


def problems(name, code):
    """Say what in a file writes to the disk and is not listed."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        called, module = _called(node)
        paths = [a.value for a in [*node.args, *(k.value for k in node.keywords)] if isinstance(a, ast.Constant)]
        opens = called in ("open", "fdopen") and any(
            isinstance(m, str) and set(m) & set("wxa+") and len(m) < 4 for m in paths
        )
        writes = (called in CALLS and (called not in ("replace", "rename") or module == "os")) or opens
        saves = called in SAVERS and module and module != "json" and (name, called) not in IN_MEMORY
        if (writes or saves) and name not in WRITERS:
            yield f"{name}:{node.lineno}: {called} writes a file: use lstm_edge_runtime.writing.write_atomically"


def _called(node):
    if isinstance(node.func, ast.Attribute):
        return node.func.attr, ast.unparse(node.func.value)
    return ast.unparse(node.func), ""


@pytest.mark.slow
def test_every_file_that_writes_is_known():
    found = [
        line
        for folder in ("runtime", "exporters", "lstm_edge")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in problems(path.relative_to(ROOT).as_posix(), path.read_text())
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "code",
    [
        "path.write_text('x')",
        "path.write_bytes(b'x')",
        "open(path, 'w')",
        "path.open('ab')",
        "open(path, mode='r+')",
        "os.replace(a, b)",
        "np.savez(path, x=x)",
        "torch.save(model, path)",
        "tempfile.mktemp()",
        "figure.savefig(path)",
        "onnx.save(model, path)",
    ],
)
def test_the_check_sees_it(code):
    assert list(problems("lstm_edge/new.py", code))


@pytest.mark.parametrize(
    "code", ["open(path)", "open(path, 'rb')", "text.replace('a', 'b')", "json.dump(x, sys.stdout)"]
)
def test_the_check_lets_reading_pass(code):
    assert not list(problems("lstm_edge/new.py", code))
