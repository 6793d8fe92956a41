"""A session whose calls a device answers. What a file says of itself is read here; its answers come from there."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import TIME
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State
from lstm_edge_runtime.stream import Stream

__all__ = ["RemoteSession"]

Ask = Callable[[Mapping[str, Array], bool], dict[str, Array]]


class _Kept(State):
    """Stands for a state that the device keeps; its arrays are zeros."""

    __slots__ = ()


class RemoteSession(Session):
    """A model that is open on a device. Only whole calls: lengths, a cut end, metrics and pools are not for it."""

    def __init__(self, source: str | bytes, ask: Ask) -> None:
        """Read the file here.

        Args:
            source: path or bytes of the file.
            ask: gets inputs by name, and whether the call continues the one before; returns the outputs by name.

        Raises:
            ArtifactError, IntegrityError, CardError: the file cannot be opened.
        """
        super().__init__(source, kernels="off")
        self._ask = ask
        self._last: State | None = None

    def run(
        self,
        inputs: Array | Mapping[str, Array],
        state: State | None = None,
        lengths: Array | Sequence[int] | None = None,
        *,
        end: bool = True,
    ) -> tuple[dict[str, Array], State]:
        """Run the model on the device; as ``Session.run``, but the device keeps the state for the next call.

        Raises:
            InputError: the device refuses the inputs, or ``state`` is that of an earlier call than the last one.
            DeployError: the device gives no answer.
        """
        if lengths is not None or not end:
            raise InputError("a device runs whole sequences: lengths and end=False are not sent")
        arrays = dict(inputs) if isinstance(inputs, Mapping) else {self.inputs[0].name: inputs}
        continued = isinstance(state, _Kept)
        if continued and state is not self._last:
            raise InputError("the device keeps the state of the last call only")
        if state is not None and not continued:
            arrays |= dict(state)
        outputs = self._ask(arrays, continued)
        self._last = _Kept(self.states, self.initial_state(1))
        return {spec.name: outputs[spec.name] for spec in self.outputs}, self._last

    def stream(self, batch_size: int = 1, on_nonfinite: Literal["refuse"] = "refuse", *, metrics: Any = None) -> Stream:
        """Return what pushes whole chunks to the device, for a language model; only ``push`` and ``steps`` of a stream.

        Raises:
            InputError: metrics are asked for.
        """
        del batch_size, on_nonfinite
        if metrics is not None:
            raise InputError("a device's stream has no metrics here")
        stream: Any = _RemoteStream(self)
        return stream  # type: ignore[no-any-return]


class _RemoteStream:
    def __init__(self, session: RemoteSession) -> None:
        self._session, self.steps = session, 0
        self._state: State | None = None

    def push(self, piece: Array) -> Array:
        """Feed a chunk of the only input; returns the only output."""
        outputs, self._state = self._session.run(piece, self._state)
        self.steps += piece.shape[self._session.inputs[0].axes.index(TIME)]
        return outputs[self._session.outputs[0].name]
