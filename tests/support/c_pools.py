"""A pool of C beside a pool of Python and beside single streams of C: the same steps on all, and what differs."""

from typing import Any

import numpy as np

from lstm_edge_runtime.card import TIME
from lstm_edge_runtime.session import Session
from support.c_agreement import differing_bits, outcome, refusal
from support.c_library import CStream, Library
from support.c_pool import CPool
from support.c_streams import FORMS, WRONG, piece_of, wrong_piece

__all__ = ["PoolTwins"]

CLOSE = 2e-6


class PoolTwins:
    """A pool on each side and a C stream for each of its streams; counts what was compared and what was refused."""

    def __init__(
        self, library: Library, data: bytes, seed: int, *, kernels: str = "auto", capacity: int = 12, threads: int = 1,
        longest: int = 4,
    ) -> None:  # fmt: skip
        self.session, self.rng = Session(data, kernels=kernels), np.random.default_rng(seed)
        self.python = self.session.pool(capacity, threads)
        self.c_session = library.open(data, kernels=kernels)
        self.c = CPool(self.c_session, capacity, threads)
        self.alone: dict[int, CStream] = {}
        self.longest = longest
        self.pushed = self.refused = 0
        self.last: list[int] = []
        quantization = self.session.card.quantization
        self.exact = quantization is not None
        timed = any(TIME in spec.axes for spec in self.session.inputs)
        self.conditions = [spec.name for spec in self.session.inputs if timed and TIME not in spec.axes]

    def round(self) -> None:
        """Some joins and leaves, resets, ends and moves, then a push of some streams."""
        rng = self.rng
        while len(self.alone) < self.c.capacity and rng.random() < 0.4:
            self.join()
        for number in list(self.alone):
            self.act(
                number, str(rng.choice(["none", "leave", "reset", "end", "move"], p=[0.9, 0.02, 0.03, 0.02, 0.03]))
            )
        if self.alone:
            self.push(self.choose())

    def join(self) -> None:
        """Attach a stream, from the start or from a snapshot of another."""
        snapshot = self.snapshot(self.some()) if self.alone and self.rng.random() < 0.3 else None
        stream = self.c_session.stream()
        if snapshot is not None and outcome(lambda: stream.restore(snapshot))[0]:
            snapshot, stream = None, self.c_session.stream()
        number, other = self.python.attach(), self.c.attach(snapshot)
        assert number == other
        if snapshot is not None:
            self.python.restore(number, self.c.snapshot(number))
        self.alone[number] = stream

    def some(self) -> int:
        """One of the ids."""
        return list(self.alone)[self.rng.integers(len(self.alone))]

    def snapshot(self, number: int) -> bytes:
        """The archive of a stream, which is the same on all sides."""
        mine, theirs = self.python.snapshot(number), self.c.snapshot(number)
        self.same(dict(sorted(mine.items())), dict(sorted(theirs.items())), f"snapshot of {number}")
        archive = self.alone[number].save()
        assert self.exact is False or archive == self.c.stream(number).save()
        return archive

    def act(self, number: int, action: str) -> None:
        """Do one thing to one stream on all sides."""
        c = self.c.stream(number)
        if action == "leave":
            self.snapshot(number)
            self.python.detach(number)
            self.c.detach(number)
            self.alone.pop(number)
        elif action == "reset":
            self.python.reset(number)
            c.reset()
            self.alone[number].reset()
        elif action == "end":
            self.all_alike(number, lambda: self.python.flush(number), c.flush, self.alone[number].flush)
        elif action == "move":
            archive = self.snapshot(self.some())
            refusals = [outcome(lambda: c.restore(archive))[1], outcome(lambda: self.alone[number].restore(archive))[1]]
            assert refusals[0] == refusals[1]
            if refusals[0] is None:
                self.python.restore(number, self.c.snapshot(number))

    def all_alike(self, number: int, python: Any, c: Any, alone: Any) -> None:
        """Run the same on all sides: the same answer, or the same refusal."""
        found, other, single = outcome(python), outcome(c), outcome(alone)
        assert found[0] == other[0] == single[0], (found, other, single)
        if found[0]:
            assert found[1] == other[1] == f"stream {number}: {single[1]}"
        else:
            self.same(found[1], other[1], "flush")
            self.same(single[1], other[1], "flush alone")

    def choose(self) -> list[int]:
        """The ids of a push: all, those of the last push, or some in any order."""
        ids, rng = list(self.alone), self.rng
        kind = rng.random()
        if kind < 0.3:
            return ids
        if kind < 0.5 and self.last and set(self.last) <= set(ids):
            return self.last
        return [ids[index] for index in rng.permutation(len(ids))[: rng.integers(1, len(ids) + 1)]]

    def push(self, ids: list[int]) -> None:
        """Push pieces, some of them bad."""
        rng, self.last = self.rng, ids
        alike, pieces = rng.random() < 0.6, {}
        form, steps = str(rng.choice(FORMS)), int(rng.integers(1, self.longest + 1))
        for number in ids:
            if not alike:
                form, steps = str(rng.choice(FORMS)), int(rng.integers(1, self.longest + 1))
            pieces[number] = self.piece(steps, form)
        self.compare(pieces)

    def piece(self, steps: int, form: str) -> Any:
        """A drawn piece; sometimes without its conditions, sometimes wrong."""
        rng = self.rng
        arrays = piece_of(self.session, batch=1, steps=steps, form=form, seed=int(rng.integers(2**31)))
        if self.conditions and rng.random() < 0.4:
            arrays = {name: array for name, array in arrays.items() if name not in self.conditions}
        if rng.random() < 0.06:
            return wrong_piece(arrays, str(rng.choice(WRONG)), int(rng.integers(6)))
        return next(iter(arrays.values())) if len(arrays) == 1 and rng.random() < 0.7 else arrays

    def compare(self, pieces: dict[int, Any]) -> None:
        """Push on all sides."""
        mine, theirs = self.python.push(pieces), self.c.push(pieces)
        assert list(mine) == list(theirs.answers)
        refused = [[(n, refusal(e)) for n, e in found.refused.items()] for found in (mine, theirs)]
        assert refused[0] == refused[1]
        for number, x in pieces.items():
            error, single = outcome(lambda number=number, x=x: self.alone[number].push(x))
            if error:
                assert refusal(theirs.refused[number]) == (error, f"stream {number}: {single}")
                continue
            self.same(mine[number], theirs.answers[number], f"stream {number}")
            self.same(single, theirs.answers[number], f"stream {number} alone")
            assert self.c.steps(number) == self.alone[number].steps == self.python.steps(number)
        self.pushed, self.refused = self.pushed + len(mine), self.refused + len(mine.refused)

    def same(self, want: Any, got: Any, where: str) -> None:
        """The same arrays: to the bit, or for float32 models to what their documentation says."""
        if self.exact:
            assert not list(differing_bits(want, got, where))
            return
        want, got = (found if isinstance(found, dict) else {"": found} for found in (want, got))
        assert list(want) == list(got), where
        for name, array in want.items():
            assert (array.shape, array.dtype) == (got[name].shape, got[name].dtype), where
            largest = max(1.0, float(np.abs(array).max(initial=0)))
            np.testing.assert_allclose(got[name], array, rtol=0, atol=10 * CLOSE * largest)

    def finish(self) -> None:
        """Compare all that is left."""
        for number in self.alone:
            self.snapshot(number)
        assert self.python.ids == tuple(self.alone)
