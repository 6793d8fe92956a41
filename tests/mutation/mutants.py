"""The faults that the mutation test puts into a file: one replaced operator, constant, call or statement each."""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Mutant", "mutants_of"]

SWAPPED: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Div, ast.Mult),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.BitOr: (ast.BitAnd,),
    ast.BitAnd: (ast.BitOr,),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
RENAMED = {
    "min": "max",
    "max": "min",
    "minimum": "maximum",
    "maximum": "minimum",
    "all": "any",
    "any": "all",
    "rint": "floor",
    "floor": "ceil",
    "zeros": "ones",
    "sorted": "list",
}
# Calls of which only the first argument, or what they are called on, is left.
DROPPED = frozenset(
    ("minimum", "maximum", "min", "max", "clip", "copy", "abs", "rint", "pad", "asarray", "sorted", "float", "int")
)
# Keyword arguments that only make a fault louder, declare a class or are text for people.
QUIET_KEYWORDS = frozenset(("strict", "kw_only", "frozen", "slots", "compare", "repr", "reason"))


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One replacement in a file, by offsets in its bytes."""

    module: str
    file: str
    line: int
    start: int
    end: int
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {' '.join(self.old.split())}  ->  {self.new}"


def replacements(node: ast.AST) -> Iterator[ast.AST]:  # noqa: C901  one branch a kind of node
    """Yield nodes to put in the place of one."""
    if isinstance(node, ast.Compare | ast.BinOp | ast.BoolOp):
        operators = node.ops if isinstance(node, ast.Compare) else [node.op]
        for place, operator in enumerate(operators):
            for other in SWAPPED.get(type(operator), ()):
                new = copy.deepcopy(node)
                if isinstance(new, ast.Compare):
                    new.ops[place] = other()
                else:
                    new.op = other()
                yield new
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.operand
    elif isinstance(node, ast.Constant) and not isinstance(node.value, bytes):
        yield from map(ast.Constant, other_constants(node.value))
    elif isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in RENAMED:
            new = copy.deepcopy(node)
            if isinstance(new.func, ast.Attribute):
                new.func.attr = RENAMED[name]
            else:
                new.func = ast.Name(RENAMED[name])
            yield new
        if name in DROPPED:
            library = not isinstance(node.func, ast.Attribute) or getattr(node.func.value, "id", "") in ("np", "math")
            if library and node.args:
                yield node.args[0]
            elif isinstance(node.func, ast.Attribute):
                yield node.func.value
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        for value in (True, False):
            new = copy.copy(node)
            new.test = ast.Constant(value)
            yield new
    elif isinstance(node, ast.Continue | ast.Break):
        yield ast.Break() if isinstance(node, ast.Continue) else ast.Continue()
    elif isinstance(node, ast.Raise | ast.AugAssign | ast.Expr):
        yield ast.Pass()
    elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
        yield node.value


def other_constants(value: object) -> tuple[object, ...]:
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return (value + 1, value - 1)
    if isinstance(value, float):
        return (value * 2 if value else 1.0,)
    if isinstance(value, str):
        return (value + "X",) if value else ("X",)
    return ()


def silent(node: ast.AST) -> bool:
    """Say whether a node changes nothing that a test could see, or a message only."""
    if isinstance(node, ast.Assign):
        return any(getattr(target, "id", "") == "__all__" for target in node.targets)
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.JoinedStr | ast.ImportFrom | ast.Import)


def mutable(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run: no docstrings, annotations, decorators, messages, ``__all__``."""
    if silent(tree):
        return
    yield tree
    if isinstance(tree, ast.Raise):
        return
    for name, field in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in field if isinstance(field, list) else [field]:
            if isinstance(child, ast.keyword) and child.arg in QUIET_KEYWORDS:
                continue
            if isinstance(child, ast.AST):
                yield from mutable(child)


def mutants_of(module: str, root: Path, file: str) -> list[Mutant]:
    """Return every mutant of a file below ``root``; ``module`` is the name that it goes by."""
    source = (root / file).read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: dict[tuple[int, int, str], Mutant] = {}
    for node in mutable(ast.parse(source)):
        if not hasattr(node, "lineno"):
            continue
        # Only the condition of a statement with a body is replaced.
        place = node.test if isinstance(node, ast.If | ast.While) else node
        start = starts[place.lineno - 1] + place.col_offset
        end = starts[place.end_lineno - 1] + place.end_col_offset
        old = source[start:end].decode()
        for new in replacements(node):
            text = ast.unparse(ast.fix_missing_locations(new.test if isinstance(node, ast.If | ast.While) else new))
            text = text if isinstance(new, ast.stmt | ast.Constant | ast.Name) else f"({text})"
            try:
                changed = ast.parse(source[:start] + text.encode() + source[end:])
            except SyntaxError:
                continue
            if ast.dump(changed) != ast.dump(ast.parse(source)):
                mutant = Mutant(module=module, file=file, line=node.lineno, start=start, end=end, old=old, new=text)
                found.setdefault((start, end, text), mutant)
    return list(found.values())
