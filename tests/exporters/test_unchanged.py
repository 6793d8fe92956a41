"""An export leaves the caller's module as it was, whatever forward changes, and however the export ends."""

import itertools
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.fingerprint import fingerprint
from support.networks import build, seeded
from torch import Tensor, nn

from lstm_edge_runtime.errors import CaptureError
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow

SHARED = torch.zeros(2)


class Rnn(nn.Module):
    """A GRU whose subclasses change something in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.change(x)
        return self.head(self.rnn(x)[0])

    def change(self, x: Tensor) -> None:
        """Change something that the answer does not depend on."""


class Containers(Rnn):
    """Lists, dicts, tuples, deques, sets and an object with attributes, with tensors in them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = [[], {"last": torch.zeros(1)}, (torch.zeros(2), [])]
        self.recent: deque[Tensor] = deque(maxlen=2)
        self.names: set[str] = set()
        self.record = SimpleNamespace(calls=0, means=torch.zeros(3))

    def change(self, x: Tensor) -> None:
        self.seen[0].append(x)
        self.seen[1]["last"] += 1
        self.seen[2][0].fill_(float(len(self.seen[2][1])))
        self.seen[2][1].append(x.mean())
        self.recent.append(x)
        self.names.add(str(len(self.names)))
        self.record.calls += 1
        self.record.means = x.mean(dim=(0, 1))


class Buffers(Rnn):
    """A counter, running statistics, a view of a buffer, and new buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("table", torch.zeros(4, 3))
        self.row = self.table[1]

    def change(self, x: Tensor) -> None:
        self.count += 1
        self.mean.mul_(0.9).add_(0.1 * x.mean(dim=(0, 1)))
        self.row += 1.0
        self.register_buffer("late", x.mean())


class Everything(Rnn):
    """Parameters in place, gradients, modes, hooks, submodules, class attributes."""

    calls = 0
    log: list[int] = []  # noqa: RUF012 - shared by all instances on purpose

    def change(self, x: Tensor) -> None:
        Everything.calls += 1
        self.log.append(x.shape[0])
        self.head.bias.requires_grad_(False)
        self.unused = nn.Linear(2, 2)
        self.head.register_forward_hook(lambda *_: None)
        self.rnn.train()
        torch.set_grad_enabled(True)


class Generators(Rnn):
    """Draws from every generator, and has one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(3)

    def change(self, x: Tensor) -> None:
        del x
        if not torch.compiler.is_exporting():
            torch.rand(2), torch.rand(2, generator=self.generator)
        np.random.rand(), random.random()


class Aliased(Rnn):
    """Writes through a name that is not an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shared", SHARED)

    def change(self, x: Tensor) -> None:
        del x
        if not torch.compiler.is_exporting():
            SHARED.add_(1.0)


class KeptState(Rnn):
    """The state of the layer stays in an attribute between the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        y, self.hidden = self.rnn(x, self.hidden)
        return self.head(y)


class RunningMean(Rnn):
    """The answer depends on what earlier calls left in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.mean.lerp_(x.mean(dim=(0, 1)), 0.1)
        return self.head(self.rnn(x - self.mean)[0])


class LastFrames(Rnn):
    """A convolution over time with the last frames of the call before."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        before = torch.zeros_like(x[:, :1]) if self.cache is None else self.cache
        joined = torch.cat([before, x], dim=1)
        self.cache = x[:, -1:]
        return self.head(self.rnn(joined[:, 1:] + joined[:, :-1])[0])


class HalvedState(KeptState):
    def forward(self, x: Tensor) -> Tensor:
        y, h = self.rnn(x, self.hidden)
        self.hidden = 0.5 * h
        return self.head(y)


class Counted(Rnn):
    """The second call answers otherwise, by a number that is not a tensor."""

    number = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.number += 1.0
        return self.head(self.rnn(x)[0]) * self.number


INPUTS = ["x: float32[batch, time, 3]"]
CHANGING = (Containers, Buffers, Everything, Generators, KeptState)
REFUSED: dict[type[Rnn], str] = {
    RunningMean: r"answers otherwise when it is called again; it keeps mean from call to call.*as an argument",
    LastFrames: r"answers otherwise when it is called again; it keeps cache from call to call",
    Counted: r"answers otherwise when it is called again; it keeps something from call to call",
    HalvedState: r"rnn: forward starts the layer from another state .*; it keeps hidden from .*test_unchanged.py",
}


def with_hook(module: nn.Module) -> tuple[nn.Module, list[int], dict[str, Tensor]]:
    """Add a hook that counts and collects in the caller's own containers."""
    calls: list[int] = []
    activations: dict[str, Tensor] = {}

    def collect(name: str, _module: nn.Module, _args: Any, result: Any) -> None:
        calls.append(1)
        activations[name] = result

    module.get_submodule("head").register_forward_hook(partial(collect, "head"))
    return module, calls, activations


@pytest.mark.parametrize("kind", CHANGING)
def test_what_forward_changes_is_as_it_was_after_an_export(kind: type[Rnn]) -> None:
    module, calls, activations = with_hook(seeded(kind()))
    before = fingerprint(module)
    data = build(module, None, inputs=INPUTS).data
    assert fingerprint(module) == before
    assert (calls, activations) == ([], {})
    x = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = module(x)
    answers, _ = Session(data, kernels="off").run(x.numpy())
    np.testing.assert_allclose(answers["output"], expected.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize(("kind", "sentence"), REFUSED.items())
def test_what_the_file_would_forget_is_refused_and_left_as_it_was(kind: type[Rnn], sentence: str) -> None:
    module = seeded(kind())
    before = fingerprint(module)
    with pytest.raises(CaptureError, match=sentence):
        build(module, None, inputs=INPUTS)
    assert fingerprint(module) == before


@pytest.mark.parametrize("kind", [*CHANGING, *REFUSED])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
def test_an_export_that_fails_in_forward_leaves_the_module(kind: type[Rnn], error: type[BaseException]) -> None:
    for last in (1, 3, 5):
        module = seeded(kind())
        module.register_forward_hook(raising(error, last))
        before = fingerprint(module)
        with pytest.raises((error, CaptureError)):
            build(module, None, inputs=INPUTS)
        assert fingerprint(module) == before, last


def raising(error: type[BaseException], last: int) -> Callable[..., None]:
    """Return a hook that raises from its call number ``last`` on; a closure's list would be put back between calls."""
    numbers = itertools.count(1)

    def hook(*_: Any) -> None:
        if next(numbers) >= last:
            raise error("interrupted")

    return hook


def test_an_interrupt_while_the_graph_is_traced_leaves_the_module() -> None:
    module = seeded(Buffers())

    def hook(*_: Any) -> None:
        if torch.compiler.is_exporting():
            raise KeyboardInterrupt

    module.register_forward_hook(hook)
    before = fingerprint(module)
    with pytest.raises(KeyboardInterrupt):
        build(module, None, inputs=INPUTS)
    assert fingerprint(module) == before


def test_what_is_written_through_a_global_name_is_undone() -> None:
    module = seeded(Aliased())
    before = fingerprint(module)
    build(module, None, inputs=INPUTS)
    assert fingerprint(module) == before
    assert not SHARED.any()


def test_a_state_that_autograd_computed_is_exported_from() -> None:
    """An eager call with gradients leaves a tensor in the module that deepcopy refuses."""
    module = seeded(KeptState())
    module(torch.randn(1, 4, 3))
    assert module.hidden is not None
    before = fingerprint(module)
    with pytest.raises(CaptureError):  # its batch is 1
        build(module, None, inputs=INPUTS)
    assert fingerprint(module) == before
    module.hidden = None
    assert build(module, None, inputs=INPUTS).card.states[0].input == "rnn.0.h"
