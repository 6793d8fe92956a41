"""Memory that is lent to onnxruntime: a binding and the arrays that it points into, in one value.

onnxruntime's C++ objects keep an address, not an array. An array that nobody else holds is freed while onnxruntime
still reads and writes its memory, and the freed memory keeps its old content until something else is allocated there:
nothing fails, until it does. So this is the only module that lends memory (a test reads the tree for others), and what
it returns owns what it lent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnxruntime

from lstm_edge_runtime.arrays import Array

__all__ = ["Binding", "Runner"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Binding:
    """A binding and every array that it borrows, by the graph's name; the arrays live as long as the binding does.

    ``handle`` is what ``Runner.run`` takes. It does not keep the arrays: hold the Binding while you use its handle.
    """

    handle: Any
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


class Runner:
    """Binds arrays to one session's graph and runs it on them, without a copy.

    Attributes:
        run: ``run(binding.handle, None)`` reads the bound inputs and writes the bound outputs. It raises one of
            ``providers.RUNTIME_ERRORS``.
    """

    __slots__ = ("_session", "_unwrap", "run")

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        """Find the fastest way to run a binding that this onnxruntime offers.

        The Python class of onnxruntime checks (1.32) that the binding is of this session, as ours always is, and then
        calls the object beneath it. Calling that directly saves 0.3 of 5 µs a step. Its names are private: where one
        of them is missing, the public method runs the binding.
        """
        self._session = session
        self.run: Callable[[Any, Any], Any] = session.run_with_iobinding
        self._unwrap: Callable[[Any], Any] = _public_handle
        beneath = getattr(getattr(session, "_sess", None), "run_with_iobinding", None)
        if beneath is not None and hasattr(session.io_binding(), "_iobinding"):
            self.run, self._unwrap = beneath, _private_handle

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Binding:
        """Bind arrays to the graph.

        Args:
            inputs: a C-contiguous array for each input of the graph; onnxruntime reads it at each run.
            outputs: a C-contiguous array for each output of the graph; onnxruntime writes it at each run.

        Returns:
            The binding, which owns all of these arrays.
        """
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        return Binding(handle=self._unwrap(binding), inputs=dict(inputs), outputs=dict(outputs))


def _private_handle(binding: Any) -> Any:
    return binding._iobinding


def _public_handle(binding: Any) -> Any:
    return binding
