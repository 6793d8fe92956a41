"""A session whose calls another one answers: when a call continues the one before, and when it is refused."""

import numpy as np
import pytest
from support.fleet_cases import NEW

from lstm_edge.fleet.remote_session import RemoteSession
from lstm_edge_runtime.errors import InputError


def test_a_state_of_the_last_call_is_continued_and_an_older_one_refused():
    asked = []

    def ask(arrays, continued):
        asked.append((sorted(arrays), continued))
        return {"logits": np.zeros((1, 1, 4), np.float32)}

    session = RemoteSession(str(NEW), ask)
    x = np.zeros((1, 1, 6), np.float32)
    _, first = session.run(x)
    _, second = session.run({"x": x}, first)
    session.run(x, session.initial_state(1))
    states = sorted(spec.input for spec in session.states)
    assert asked == [(["x"], False), (["x"], True), (sorted([*states, "x"]), False)]
    with pytest.raises(InputError, match="the device keeps the state of the last call only"):
        session.run(x, second)
