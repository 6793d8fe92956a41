"""The request for one layer: one scheme for the whole layer, or separate schemes for its matrices and gates."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lstm_edge_exporters.quantize.schemes import Scheme

__all__ = ["GATES", "MATRICES", "LayerRequest"]

# An LSTM's matrices in ONNX's names, and its gates in the operators' order (docs/operators.md).
MATRICES = ("W", "R")
GATES = ("i", "f", "g", "o")


@dataclass(frozen=True, kw_only=True)
class LayerRequest:
    """The scheme of a layer; ``gates`` only where the parts of a recurrent layer differ.

    Attributes:
        scheme: of the whole layer; where ``gates`` is not empty, of its other matrices (a full peephole's, a
            projection's).
        gates: a scheme for each of ``W.i`` ... ``R.o``, or empty.
        others: the layer has matrices besides W and R.
        named: a part in the request names this layer, so that it must become what was asked.
        fused: a float32 layer calls an operator that has a kernel (``quantize --scheme float32``).
        reason: why the layer stays as it is although the request's scheme would change it, or nothing.
    """

    scheme: Scheme
    gates: Mapping[str, Scheme] = field(default_factory=dict)
    others: bool = False
    named: bool = False
    fused: bool = False
    reason: str = ""

    def __str__(self) -> str:
        """Return the request as coverage tables name it: ``int8``, or ``W int8, R int4, block 32``."""
        if not self.gates:
            return str(self.scheme)
        texts = []
        for matrix in MATRICES:
            groups = self.groups(matrix)
            for scheme, gates in groups.items():
                texts.append(f"{' '.join((matrix, *(gates if len(groups) > 1 else ())))} {scheme}")
        return ", ".join([*texts, *([f"the rest {self.scheme}"] if self.others else [])])

    def groups(self, matrix: str) -> dict[Scheme, tuple[str, ...]]:
        """Return the gates of ``W`` or ``R`` by their scheme, in the order of the gates."""
        found: dict[Scheme, tuple[str, ...]] = {}
        for gate in GATES:
            scheme = self.gates.get(f"{matrix}.{gate}", self.scheme)
            found[scheme] = (*found.get(scheme, ()), gate)
        return found

    def whole(self, matrix: str) -> Scheme | None:
        """Return the scheme of all gates of ``W`` or ``R``, or None where they differ."""
        groups = self.groups(matrix)
        return next(iter(groups)) if len(groups) == 1 else None

    def texts(self, layer: str) -> dict[str, str]:
        """Return the request as a map from parts to compact texts, which ``quantize`` takes again."""
        if not self.gates:
            return {layer: self.scheme.text}
        texts = {layer: self.scheme.text} if self.others else {}
        for matrix in MATRICES:
            groups = self.groups(matrix)
            for scheme, gates in groups.items():
                names = [f"{layer}.{matrix}"] if len(groups) == 1 else [f"{layer}.{matrix}.{gate}" for gate in gates]
                texts |= dict.fromkeys(names, scheme.text)
        return texts
