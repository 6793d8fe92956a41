"""What a pool holds of earlier pieces of a stream: conditions, and their form; a refused piece changes neither."""

import numpy as np
import pytest
from pooled import open_model, piece

from lstm_edge_runtime.errors import InputError


def test_a_refused_push_leaves_the_conditions_as_they_were():
    session, rng = open_model("each_call_whole"), np.random.default_rng(0)
    pool, alone = session.pool(), session.stream()
    number = pool.attach()
    x = piece(session, rng, 2, "chunk")["x"]
    first, second = {"x": x, "gain": np.int64(3)}, {"x": x * np.float32(np.nan), "gain": np.int64(1)}
    assert pool.push({number: first})[number].tobytes() == alone.push(first).tobytes()
    assert pool.push({number: second}).refused
    with pytest.raises(InputError):
        alone.push(second)
    assert pool.push({number: x})[number].tobytes() == alone.push(x).tobytes()
    assert pool.snapshot(number)["condition:gain"] == 3


def test_the_end_has_the_form_of_the_streams_own_last_piece():
    session = open_model("exported_int8")
    frame = np.zeros(6, np.float32)
    pool, alone, archive = session.pool(), session.stream(), session.stream().snapshot()
    number = pool.attach()
    pool.push({number: frame})
    alone.push(frame)
    for _ in range(2):
        assert pool.flush(number).shape == alone.flush().shape
    pool.push({pool.attach(): frame})
    pool.detach(number)
    new = pool.attach()  # in the row of the first
    assert pool.flush(new).shape == session.stream().flush().shape == (1, 0, 4)
    pool.reset(new)
    alone.reset()
    for push in (lambda: pool.push({new: frame}), lambda: alone.push(frame)):
        push()
    pool.restore(new, archive)
    alone.restore(archive)
    assert pool.flush(new).shape == alone.flush().shape
