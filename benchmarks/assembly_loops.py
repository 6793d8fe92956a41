"""Find the inner loops of a function in AArch64 assembly, and have llvm-mca predict their cycles."""

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# A loop with fewer products than this part of the largest loop's is a remainder, which runs a few times at most.
_REMAINDER = 0.5
_LABEL = re.compile(r"^([.\w$]+):")
_BRANCH = re.compile(r"^(?:b\.\w+|cbn?z|tbn?z)\b.*?([.\w$]+)$")
# A call, or a branch to another function at the end.
_CALL = re.compile(r"^bl?\s+([A-Za-z_][\w$]*)$")
# Mnemonic -> products of one instruction on 128-bit vectors.
_PRODUCTS = {"sdot": 16, "smull": 8, "smull2": 8, "smlal": 8, "smlal2": 8, "fmla": 4}


@dataclass(frozen=True, kw_only=True)
class Loop:
    """The instructions of an inner loop, its label first and the branch back last."""

    lines: tuple[str, ...]

    @property
    def products(self) -> int:
        """Products of two numbers that one turn of the loop adds."""
        return sum(_PRODUCTS.get(line.split()[0], 0) for line in self.lines)

    @property
    def spills(self) -> int:
        """Instructions that read or write the stack: registers that did not suffice."""
        return sum("[sp" in line for line in self.lines)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What llvm-mca says of loops, for 64 weights; ``unit_cycles``: what the busiest unit needs if nothing waits."""

    cycles: float
    unit_cycles: float
    spills: int


def function_lines(assembly: str, name: str) -> list[str]:
    """Return the instructions and labels of a function, without comments and directives.

    Raises:
        ValueError: the assembly has no such function.
    """
    found: list[str] = []
    inside = False
    for raw in assembly.splitlines():
        line = raw.partition("//")[0].strip()
        if line == f"{name}:":
            inside = True
        elif inside and line.startswith((".size", ".Lfunc_end")):
            return found
        if inside and line and (not line.startswith(".") or _LABEL.match(line)):
            found.append(line)
    raise ValueError(f"the assembly has no function {name}")


def product_loops(assembly: str, name: str) -> list[Loop]:
    """Return the inner loops of a function and of those that it calls, without loops over a remainder."""
    loops = [loop for lines in _called(assembly, name, set()) for loop in inner_loops(lines)]
    most = max((loop.products for loop in loops), default=0)
    return [loop for loop in loops if loop.products > 0 and loop.products >= _REMAINDER * most]


def _called(assembly: str, name: str, seen: set[str]) -> Iterator[list[str]]:
    lines = function_lines(assembly, name)
    yield lines
    for line in lines:
        call = _CALL.match(line)
        if call and call[1] not in seen | {name} and f"\n{call[1]}:" in assembly:
            seen.add(call[1])
            yield from _called(assembly, call[1], seen)


def inner_loops(lines: Sequence[str]) -> list[Loop]:
    """Return the loops that have no other loop inside."""
    places = {match[1]: index for index, line in enumerate(lines) if (match := _LABEL.match(line))}
    spans = []
    for index, line in enumerate(lines):
        branch = _BRANCH.match(line)
        if branch and places.get(branch[1], index) < index:
            spans.append((places[branch[1]], index))
    inner = [a for a in spans if not any(a[0] <= b[0] and b[1] <= a[1] and a != b for b in spans)]
    return [Loop(lines=tuple(lines[first : last + 1])) for first, last in inner]


def predict_function(command: Sequence[str], assembly: str, name: str, rows: int) -> Prediction:
    """Predict the loops of a function that multiplies rows with weights; each takes its part of the weights.

    Args:
        command: llvm-mca with its options for a processor.
        assembly: the text of the assembly.
        name: the function.
        rows: rows that each weight is multiplied with.

    Raises:
        ValueError: the function has no loop that multiplies, or llvm-mca refuses one.
    """
    loops = product_loops(assembly, name)
    if not loops:
        raise ValueError(f"no inner loop of {name} multiplies")
    figures = [predict(command, loop) for loop in loops]
    parts = sum(loop.products for loop in loops) / 64 / rows
    return Prediction(
        cycles=sum(cycles for cycles, _ in figures) / parts,
        unit_cycles=sum(units for _, units in figures) / parts,
        spills=sum(loop.spills for loop in loops),
    )


def predict(command: Sequence[str], loop: Loop) -> tuple[float, float]:
    """Return the cycles of one turn of a loop, and those of its busiest unit if no instruction waits for another."""
    (early, _), (late, units) = (summary(_mca([*command, f"-iterations={turns}"], loop)) for turns in (100, 300))
    return (late - early) / 200, units


def _mca(command: Sequence[str], loop: Loop) -> str:
    text = "\n".join(loop.lines) + "\n"
    result = subprocess.run([*command, "-json"], input=text, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ValueError(f"{command[0]} refused a loop: {result.stderr.strip()}")
    return result.stdout


def summary(text: str) -> tuple[int, float]:
    """Return the total cycles and the cycles of the busiest unit from llvm-mca's JSON.

    Raises:
        ValueError: the text does not hold one region with a summary.
    """
    try:
        (region,) = json.loads(text)["CodeRegions"]
        view = region["SummaryView"]
        return int(view["TotalCycles"]), float(view["BlockRThroughput"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"llvm-mca's output has no summary of one region: {text[:200]!r}") from error


def scheduling_model(command: Sequence[str]) -> str:
    """Return the name of the model that LLVM uses for a processor, as its units are called: A57, N1, CortexA53."""
    values = json.loads(_mca(command, Loop(lines=("nop",))))
    names = values["TargetInfo"]["Resources"]
    match = re.match(r"(\w+?)Unit", names[0])
    return match[1] if match else str(names[0])
