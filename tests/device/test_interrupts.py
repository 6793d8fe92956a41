"""An interrupt changes all of a stream's state or none of it: wherever Ctrl-C, an alarm or a time-out strikes."""

import gc
import signal

import numpy as np
import pytest
from interrupts import InterruptError, interrupt_at
from streamed import MODELS

from lstm_edge_runtime.session import Session

INTERRUPTS = 50_000
STEPS = 20
# Actions in which an alarm of at most 60 microseconds must strike: ten milliseconds. One in 250,000 was late.
MOST_ACTIONS = 3_000
MOST_LATE = 1_000
ACTIONS = ("set", "reset", "push")


class Interrupted:
    """A stream at one state, what it may be after each action, and how to make it so again."""

    def __init__(self):
        self.session = Session(MODELS / "exported_int8.onnx")
        self.stream = self.session.stream()
        frames = np.random.default_rng(2).normal(size=(STEPS + 1, 6)).astype(np.float32)
        for frame in frames[:-1]:
            self.stream.push(frame)
        self.frame, self.before = frames[-1], self.stream.state
        self.zero = self.session.initial_state()
        _, self.other = self.session.run(frames[None, :3])
        self.stream.push(self.frame)
        self.pushed = self.stream.state
        self.after = {"set": (self.other, STEPS), "reset": (self.zero, 0), "push": (self.pushed, STEPS + 1)}
        self.restore()

    def restore(self):
        # Private: nothing public sets the count of steps, and 20 pushes for each of 50,000 alarms take minutes.
        self.stream._go_to(self.before, STEPS)

    def act(self, action):
        if action == "set":
            self.stream.state = self.other
        elif action == "reset":
            self.stream.reset()
        else:
            self.stream.push(self.frame)

    def outcome(self, action):
        """``"old"`` or ``"new"``, or what is wrong."""
        now = (self.stream.state, self.stream.steps)
        if now == (self.before, STEPS):
            return "old"
        return "new" if now == self.after[action] else f"neither old nor new after {action}: {self.stream.steps} steps"


@pytest.fixture(scope="module")
def interrupted():
    return Interrupted()


def test_the_states_differ_in_every_array(interrupted):
    for other in (interrupted.other, interrupted.zero, interrupted.pushed):
        assert not any(np.array_equal(interrupted.before[name], other[name]) for name in other)


@pytest.mark.parametrize("action", ACTIONS)
def test_an_interrupt_between_any_two_instructions(interrupted, action):
    # Python runs signal handlers between bytecode instructions: this raises at each of them in turn.
    seen, place, done = set(), 0, False
    while not done:
        place += 1
        interrupted.restore()
        done = interrupt_at(lambda: interrupted.act(action), place)
        outcome = interrupted.outcome(action)
        assert outcome in ("old", "new"), f"instruction {place}: {outcome}"
        seen.add(outcome)
    assert seen == {"old", "new"}
    assert place > 20


def test_an_interrupt_of_a_stream_that_keeps_steps():
    """States, kept steps, the last call and the count change together, wherever the interrupt strikes."""
    session = Session(MODELS / "kept_strided.onnx")
    x = np.random.default_rng(2).normal(size=(1, 9, 3)).astype(np.float32)
    stream = session.stream()
    stream.push(x[:, :4])
    before = stream.snapshot()
    for action in (lambda: stream.push(x[:, 4:7]), lambda: stream.push(x[:, 4:5]), stream.flush, stream.reset):
        stream.restore(before)
        action()
        after = stream.snapshot()
        seen, place, done = set(), 0, False
        while not done:
            place += 1
            stream.restore(before)
            done = interrupt_at(action, place)
            now = stream.snapshot()
            outcome = ["old", "new"][[_same(now, before), _same(now, after)].index(True)]
            seen.add(outcome)
        assert seen == {"old", "new"}
        assert place > 20


def _same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(array, other[name]) for name, array in one.items())


@pytest.fixture
def no_collections():
    """Nothing is collected meanwhile: Python swallows what a signal handler raises in a callback of the collector.

    Hypothesis installs such a callback, and an alarm that strikes there never reaches the test.
    """
    gc.disable()
    yield
    gc.enable()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("no_collections")
def test_interrupts_at_random(interrupted):
    armed = False

    def strike(*_arguments):
        if armed:
            raise InterruptError

    rng = np.random.default_rng(0)
    old_handler = signal.signal(signal.SIGALRM, strike)
    hits, late, outcomes = 0, 0, {"old": 0, "new": 0}
    try:
        while hits < INTERRUPTS:
            action = ACTIONS[hits % len(ACTIONS)]
            interrupted.restore()
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(2e-6, 6e-5))
                # Again and again, so that the alarm strikes in it and not behind it.
                for _ in range(MOST_ACTIONS):
                    interrupted.act(action)
                    if action == "push":
                        interrupted.restore()
                # It may come late, where the processor that keeps the time is taken away: then there is another one.
                armed = False
                late += 1
                assert late < MOST_LATE, f"{late} alarms raised nothing in {MOST_ACTIONS} times what they should end"
            except InterruptError:
                armed = False
                hits += 1
            outcome = interrupted.outcome(action)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old_handler)
    assert set(outcomes) == {"old", "new"}, outcomes
    assert min(outcomes.values()) > 100
