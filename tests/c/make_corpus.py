"""Write files for the C library's programs.

python make_corpus.py files FOLDER     models, good and damaged (exercise.cpp)
python make_corpus.py seeds FOLDER     inputs of the fuzzer (fuzz_target.cpp): a byte for the part, then its bytes
"""

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent), str(ROOT), str(ROOT / "exporters"), str(ROOT / "runtime")]

from support.c_damage import damaged_bytes, damaged_cards, damaged_golden, damaged_graphs  # noqa: E402  # needs the path
from support.c_models import stored_models  # noqa: E402
from support.hostile_files import FILES  # noqa: E402

from lstm_edge_runtime.artifact import GOLDEN_KEY, TRAILER_BYTES, append_trailer  # noqa: E402
from lstm_edge_runtime.card import CARD_KEY  # noqa: E402
from lstm_edge_runtime.model_reading import read_model  # noqa: E402

# A fuzzer changes small inputs faster.
LONGEST_SEED = 20_000
DAMAGED = ("exported_int8", "kept_padded", "two_inputs")
# The parts of fuzz_target.cpp.
INTEGRITY, MODEL, SIGNED, CARD, GOLDEN, ARCHIVE = range(6)


def files() -> Iterator[bytes]:
    """Yield every stored model, damage of three, and hostile files."""
    yield from stored_models().values()
    for data in stored_models(DAMAGED).values():
        for make in (damaged_bytes, damaged_cards, damaged_golden, damaged_graphs):
            yield from (changed for _, changed in make(data))
    for name, make in FILES.items():
        if "100 MB" not in name and not name.startswith("constant "):
            yield make()
            yield append_trailer(make())


def seeds() -> Iterator[bytes]:
    """Yield an input for each part of each model, and of hostile files."""
    for data in stored_models().values():
        body = data[:-TRAILER_BYTES] if data[-TRAILER_BYTES:].startswith(b"\x72\x54") else data
        yield bytes([INTEGRITY]) + data[-300:]
        yield bytes([MODEL]) + data
        yield bytes([SIGNED]) + body
        metadata = read_model(data).metadata
        if CARD_KEY in metadata:
            yield bytes([CARD]) + metadata[CARD_KEY].encode()
        if GOLDEN_KEY in metadata:
            yield bytes([GOLDEN]) + metadata[GOLDEN_KEY].encode()
            yield bytes([ARCHIVE]) + base64.b64decode(json.loads(metadata[GOLDEN_KEY])["npz"])
    for name, make in FILES.items():
        if "100 MB" not in name:
            yield bytes([MODEL]) + make()


def main() -> int:
    """Write what was asked for, with numbers as names."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    found = list(files()) if kind == "files" else [seed for seed in seeds() if len(seed) <= LONGEST_SEED]
    for number, data in enumerate(found):
        (folder / f"{number:05d}").write_bytes(data)
    print(f"{len(found)} {kind}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
