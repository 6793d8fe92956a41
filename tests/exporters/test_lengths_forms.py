"""Lengths from anything: forward lists, sorts or computes them, and the file gives PyTorch's answers row by row."""

import importlib
import inspect
import sys

import numpy as np
import pytest
import torch
from support.fingerprint import fingerprint
from support.forms_lengths import LENGTH_FORMS, LengthForm, MaskFalling
from support.networks import build, seeded
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lstm_edge_runtime.errors import CaptureError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State

pytestmark = pytest.mark.slow

# The longest row has all steps; none is in the order that forward sorts to.
ROWS = ((4, 9, 2), (1, 3, 13, 13, 7), (6,), (2, 1, 8, 5))


@pytest.mark.long
@pytest.mark.parametrize("form", LENGTH_FORMS, ids=str)
def test_a_form_of_lengths_gives_pytorchs_answers(form: LengthForm) -> None:
    module = seeded(form.make())
    before = fingerprint(module)
    artifact = build(module, None, inputs=list(form.inputs))
    assert fingerprint(module) == before
    assert artifact.card.lengths == form.lengths
    session = Session(artifact.data, kernels="off")
    for rows in ROWS:
        lengths = np.array(rows)
        inputs = drawn(form, session, lengths)
        got, _ = session.run(inputs, lengths=lengths if form.lengths else None)
        for spec, expected in zip(session.outputs, asked(form, module, inputs, lengths), strict=True):
            # The file's promise: zeros past each row's end.
            inside = (np.arange(expected.shape[1]) < lengths[:, None])[:, :, None]
            masks = form.lengths is not None and "time" in spec.axes
            np.testing.assert_allclose(
                got[spec.name], expected * inside if masks else expected, atol=1e-5, err_msg=f"{form} {rows}"
            )
        if session.states:
            check_rows(form, session, inputs, lengths)


def check_rows(form: LengthForm, session: Session, inputs: dict[str, np.ndarray], lengths: np.ndarray) -> None:
    """Each row's answer and state are those of the row alone, from its own state: whatever order forward sorts to."""
    rng = np.random.default_rng(5)
    states = {
        spec.input: rng.uniform(-0.9, 0.9, [len(lengths) if a == "batch" else a for a in spec.axes]).astype(np.float32)
        for spec in session.states
    }
    given = lengths if form.lengths else None
    got, left = session.run(inputs, State.from_arrays(session.states, states), lengths=given)
    after = left.to_arrays()
    for row in range(len(lengths)):
        one = slice(row, row + 1)
        alone, its = session.run(
            {name: array[one] for name, array in inputs.items()},
            State.from_arrays(session.states, {name: array[:, one] for name, array in states.items()}),
            lengths=None if given is None else given[one],
        )
        for name, answer in alone.items():
            np.testing.assert_allclose(got[name][one], answer, atol=1e-5, err_msg=f"{form} row {row}: {name}")
        for name, state in its.to_arrays().items():
            np.testing.assert_allclose(after[name][:, one], state, atol=1e-5, err_msg=f"{form} row {row}: {name}")


def drawn(form: LengthForm, session: Session, lengths: np.ndarray) -> dict[str, np.ndarray]:
    steps, rng = int(lengths.max()), np.random.default_rng(len(lengths))
    sizes = {"batch": len(lengths), "time": steps}
    inputs = {}
    for spec in session.inputs:
        shape = [sizes[axis] if isinstance(axis, str) else axis for axis in spec.axes]
        inputs[spec.name] = (
            form.draw[spec.name](lengths, steps)
            if spec.name in form.draw
            else rng.standard_normal(shape).astype(np.float32)
        )
    return inputs


def asked(form: LengthForm, module: nn.Module, inputs: dict[str, np.ndarray], lengths: np.ndarray) -> list[np.ndarray]:
    """What the module answers: the outputs in order."""
    given = {**inputs, **({form.lengths: lengths} if form.lengths else {})}
    names = list(inspect.signature(module.forward).parameters)
    with torch.no_grad():
        result = module(*(torch.from_numpy(given[name]) for name in names))
    return [result.numpy()] if isinstance(result, Tensor) else [tensor.numpy() for tensor in result]


class Halved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 5, batch_first=True)


class HalvedInPython(Halved):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        numbers = [max(n // 2, 1) for n in lengths.tolist()]
        return self.rnn(pack_padded_sequence(x, numbers, batch_first=True, enforce_sorted=False))[1][-1]


class SortedInPython(Halved):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        numbers = sorted(lengths.tolist(), reverse=True)
        return self.rnn(pack_padded_sequence(x, numbers, batch_first=True))[1][-1]


class Constant(Halved):
    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(pack_padded_sequence(x, [x.shape[1]] * len(x), batch_first=True))[1][-1]


class AddsNumber(Halved):
    """The number itself is in the answer."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.rnn(x)[0] * float(lengths.tolist()[0])


class LastInPython(Halved):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y = self.rnn(x)[0]
        return torch.stack([y[row, n - 1] for row, n in enumerate(lengths.tolist())])


class SortedInNumpy(Halved):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        order = torch.from_numpy(np.argsort(-lengths.numpy()))
        packed = pack_padded_sequence(x[order], lengths[order], batch_first=True)
        return self.rnn(packed)[1][-1][order.argsort()]


REFUSED = {
    HalvedInPython: r"changes the numbers of the lengths in Python .*lengths // 2",
    SortedInPython: r"changes the numbers of the lengths in Python .*lengths\.sort\(\)",
    Constant: r"packs sequences by numbers that do not depend on its inputs, .*torch\.full",
    LastInPython: r"at test_lengths_forms.py.*takes the numbers out of a tensor of lengths .* with the tensor$",
    SortedInNumpy: r"takes the numbers out of a tensor of lengths .*: compute with the tensor$",
    AddsNumber: r"computes with a number that it took out of a tensor of lengths",
}


def test_a_mask_of_sorted_rows_is_drawn_sorted() -> None:
    artifact = build(seeded(MaskFalling()), None, inputs=["x: float32[batch, time, 3]", "mask: bool[batch, time]"])
    assert artifact.card.lengths is None
    assert artifact.card.parity is not None
    assert artifact.card.parity.refused == ()


LATE = """
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def run(layer, x, lengths):
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(layer(packed)[0], batch_first=True)[0]
"""


class ImportsLate(nn.Module):
    """forward imports the module that packs, at its first call."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 5, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return importlib.import_module("packs_late").run(self.rnn, x, lengths)


def test_a_module_that_forward_imports_keeps_torchs_functions(tmp_path, monkeypatch) -> None:
    (tmp_path / "packs_late.py").write_text(LATE)
    monkeypatch.syspath_prepend(tmp_path)
    module = seeded(ImportsLate())
    artifact = build(module, None, inputs=["x: float32[batch, time, 3]", "lengths: int64[batch]"])
    late = sys.modules.pop("packs_late")
    assert late.pack_padded_sequence is pack_padded_sequence
    assert late.pad_packed_sequence is pad_packed_sequence
    x, lengths = torch.randn(3, 7, 3), torch.tensor([2, 7, 4])
    outputs, _ = Session(artifact.data).run(x.numpy(), lengths=lengths.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(outputs["output"], late.run(module.rnn, x, lengths), atol=1e-5)


@pytest.mark.parametrize(("kind", "sentence"), REFUSED.items())
def test_numbers_that_have_no_form_in_a_graph_are_refused(kind: type[nn.Module], sentence: str) -> None:
    with pytest.raises(CaptureError, match=sentence):
        build(seeded(kind()), None, inputs=["x: float32[batch, time, 3]"])
