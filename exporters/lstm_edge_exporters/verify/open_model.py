"""A model that is opened once for all its checks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnxruntime

from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.verify.guarded import GuardedSession, may_abort
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.providers import open_session

__all__ = ["OpenModel"]


@dataclass(frozen=True)
class OpenModel:
    """A serialized model and the session that runs it by the functions' bodies."""

    data: bytes
    session: onnxruntime.InferenceSession | GuardedSession

    @classmethod
    def of(cls, data: bytes, *, foreign: bool = False) -> "OpenModel":
        """Open a model; one that another tool's file became, in a process of its own where it may end the process.

        Raises:
            ArtifactError: onnxruntime cannot read it.
        """
        guarded = foreign and may_abort(parse_model(data))
        return cls(data, GuardedSession(data) if guarded else open_session(data))

    def answers(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs by name; onnxruntime's errors (``RUNTIME_ERRORS``) pass through."""
        names = [output.name for output in self.session.get_outputs()]
        answers: dict[str, Any] = dict(zip(names, self.session.run(None, dict(feeds)), strict=True))
        return answers
