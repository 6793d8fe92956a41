"""How the search for a budget spends its evaluations: halving along the frontier, then moves from the best so far."""

import itertools
import math

import pytest
from support.budget_worlds import World

from lstm_edge.precision_search.search import Axis, Option, Search, Trial, frontier

ALLOWED = 1.5


def most_for(measured):
    """How many evaluations to allow so that a first answer may take ``measured``: a fifth is kept back."""
    return next(most for most in itertools.count(measured) if most - int(0.2 * most) == measured)


@pytest.mark.parametrize("seed", range(6))
def test_halving_finds_where_the_budget_starts_to_hold(seed):
    """Where drops add up the frontier is in order, and its logarithm is enough."""
    world = World(seed, 4, 6, interaction=0.0)
    points = frontier(world.axes())
    enough = math.ceil(math.log2(len(points) + 1))
    best = world.search(ALLOWED, most_for(enough)).best()
    assert best.cost == min(world.cost(mix) for mix in points if world.high(mix) <= ALLOWED)
    assert len(world.calls) <= enough


# Of fourteen made models with drops that interact so much, those whose frontier misses the best by 14 and 8 %.
@pytest.mark.parametrize("seed", [3, 10])
def test_moves_find_what_the_frontier_does_not_have(seed):
    world = World(seed, 4, 5, interaction=2.0)
    on_the_frontier = min(world.cost(mix) for mix in frontier(world.axes()) if world.high(mix) <= ALLOWED)
    assert on_the_frontier > 1.08 * world.cheapest(ALLOWED)
    assert world.search(ALLOWED, 120).best().cost == world.cheapest(ALLOWED)


def test_pairs_of_parts_are_moved_however_many_there_are(monkeypatch):
    """Three parts at once are given up where they are too many moves to look through; two never are."""
    monkeypatch.setattr("lstm_edge.precision_search.search.MOST_MOVES", 1)
    world = World(3, 4, 5, interaction=2.0)
    assert world.search(ALLOWED, 120).best().cost == world.cheapest(ALLOWED)


def check_moves(world, share):
    """Search twice, the second time with much that is barred; returns how many moves it made, each checked."""
    search = world.search(ALLOWED, 120)
    on_the_frontier = set(frontier(world.axes()))
    first = search.best(share).mix
    known = dict(search.trials)
    world.calls.clear()
    barred = {mix for mix in itertools.product(range(5), repeat=4) if mix not in known and sum(mix) % 3 == 0} | {first}
    search.best(share, barred)
    assert not barred & set(world.calls)
    moves = [(place, mix) for place, mix in enumerate(world.calls) if mix not in on_the_frontier]
    for place, mix in moves:
        before = [*known.values(), *(search.trials[other] for other in world.calls[:place])]
        failed = [trial.mix for trial in before if trial.high is not None and trial.high > ALLOWED * share]
        assert not any(all(a >= b for a, b in zip(mix, other, strict=True)) for other in failed)
        passed = [t for t in before if t.mix not in barred and t.high is not None and t.high <= ALLOWED * share]
        best = min(passed, key=lambda trial: trial.cost)
        (cost, loss), expected = search.predicted(best.mix), search.predicted(mix)
        assert expected[0] < cost
        # 2.0: the boldest of the hopes.
        assert best.high + expected[1] - loss <= 2.0 * ALLOWED * share
    return len(moves)


@pytest.mark.slow
@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("interaction", [0.0, 0.2, 2.0])
def test_a_move_is_cheaper_promising_and_in_some_part_finer_than_what_failed(interaction, share):
    assert sum(check_moves(World(seed, 4, 5, interaction=interaction), share) for seed in range(5)) > 5


@pytest.mark.parametrize("most", range(8))
def test_no_more_is_measured_than_allowed(most):
    for seed in range(4):
        world = World(seed, 4, 5)
        search = world.search(ALLOWED, most)
        search.best()
        assert len(world.calls) <= most - int(0.2 * most)
        search.best(0.5, {(0, 0, 0, 0)})
        assert len(world.calls) <= most


def test_what_is_planned_is_what_may_be_measured():
    world = World(0, 3, 3)
    known = [Trial(mix=(0, 0, 0), cost=world.cost((0, 0, 0)), high=0.0)]
    assert (world.search(ALLOWED, 27).planned, world.search(ALLOWED, 26).planned) == (27, 26)
    assert world.search(ALLOWED, 27).exhaustive
    assert not world.search(ALLOWED, 26).exhaustive
    # A known mix needs no measurement, and counts as one of those planned.
    assert world.search(ALLOWED, 26, known=known).exhaustive
    assert (world.search(ALLOWED, 26, known=known).planned, world.search(ALLOWED, 9, known=known).planned) == (27, 10)
    assert world.search(ALLOWED, 9).size == 27


STEPS = tuple(Option(scheme=f"s{n}", cost=-10.0 * n, loss=0.5 * n) for n in range(3))
TWO_PARTS = [Axis(part=part, layer=part, options=STEPS) for part in "ab"]


def two_parts(high, most, **options):
    """Two parts of three options each: a step of either saves 10, and ``high`` says what a mix loses."""
    calls = []

    def measure(mix, below):
        calls.append((mix, below))
        cost = 100.0 - 10.0 * sum(mix)
        return Trial(mix=mix, cost=cost, high=high(mix) if cost < below else None)

    return Search(TWO_PARTS, measure, base_cost=100.0, allowed=1.0, most=most, **options), calls


def test_the_answer_keeps_within_its_share_and_below_the_ceiling():
    search, _ = two_parts(lambda mix: 0.5 * sum(mix), 9)
    assert search.best().mix in ((0, 2), (1, 1), (2, 0))  # a bound of 1.0 is within a budget of 1.0
    assert search.best(0.5).cost == 90.0
    assert search.best(0.4).mix == (0, 0)
    search, _ = two_parts(lambda mix: 0.5 * sum(mix), 9, ceiling=90.0)
    assert search.best(0.5) is None  # what costs 90 is no answer below 90
    assert search.best().cost == 80.0


def test_of_equal_costs_the_first_mix_is_the_answer():
    search, _ = two_parts(lambda mix: 0.0 if sum(mix) < 3 else 9.0, 9)
    assert search.best().mix == (0, 2)
    known = [Trial(mix=mix, cost=80.0, high=0.0) for mix in ((2, 0), (1, 1))]
    search, _ = two_parts(lambda _mix: 9.0, 9, known=known)
    assert search.best().mix == (1, 1)


def test_what_was_ruled_out_by_its_cost_is_judged_once_it_may_be_the_answer():
    # (2, 2) was built when something cheaper had passed, and not judged; that something is barred now.
    known = [Trial(mix=(2, 2), cost=60.0, high=None)]
    search, calls = two_parts(lambda _mix: 0.0, 9, known=known)
    assert search.best().mix == (2, 2)
    assert calls[0] == ((2, 2), math.inf)
    search, calls = two_parts(lambda _mix: 0.0, 9, known=known, ceiling=60.0)
    assert search.best() is None
    assert (2, 2) not in [mix for mix, _ in calls], "at the ceiling it is no answer, judged or not"


@pytest.mark.parametrize("most", [8, 9])
def test_what_was_refused_elsewhere_is_no_answer(most):
    search, _ = two_parts(lambda mix: 0.0 if sum(mix) < 4 else 9.0, most)
    first = search.best()
    assert first.cost == 70.0
    second = search.best(1.0, {first.mix})
    assert (second.cost, second.mix != first.mix) == (70.0, True)
    third = search.best(1.0, {first.mix, second.mix})
    assert third.cost == 80.0


def test_what_can_only_be_as_cheap_as_the_answer_is_not_built():
    """Of two mixes of 70 the first passes; the other cannot cost less, where costs are as predicted."""
    search, calls = two_parts(lambda mix: 0.0 if sum(mix) < 4 else 9.0, 9, overhead=0.0)
    assert search.best().mix == (1, 2)
    assert [mix for mix, _ in calls] == [(2, 2), (1, 2)]


def test_where_nothing_may_be_lost_the_answer_is_the_finest_mix():
    for seed in range(4):
        world = World(seed, 4, 5)
        search = world.search(0.0, 30)
        assert search.best().mix == (0, 0, 0, 0)
        assert not search.exhaustive


def test_a_move_may_go_to_what_was_built_and_not_judged():
    # Off the frontier, and too dear when it was built: something cheaper had passed, which is not known here.
    unjudged = Trial(mix=(1, 1), cost=80.0, high=None)
    assert (1, 1) not in frontier(TWO_PARTS)
    search, calls = two_parts(lambda mix: 0.0 if max(mix) < 2 else 9.0, 7, known=[unjudged])
    assert not search.exhaustive
    assert search.best().mix == (1, 1)
    assert ((1, 1), 90.0) in calls


def test_the_predicted_cost_and_drop_are_sums():
    search, _ = two_parts(lambda _mix: 0.0, 9)
    assert search.predicted((0, 0)) == (100.0, 0.0)
    assert search.predicted((1, 2)) == (70.0, 1.5)
