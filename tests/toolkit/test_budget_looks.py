"""Which files are evaluated on the held-out data: the plain ones always, each candidate clearly safer, five at most."""

import itertools
import json

import numpy as np
import pytest
from support.auto_worlds import AutoWorld

from lstm_edge.precision_search.candidates import MARGIN, is_clearly_safer
from lstm_edge.precision_search.measure import Evaluation
from lstm_edge.precision_search.space import SCHEMES, SearchPart

FINENESS = ("float32", *SCHEMES)


def schemes(data):
    return json.loads(data)["parts"]


def plain(data):
    values = json.loads(data)
    return values["parts"]["p0"] if values["plain"] else ""


def evaluation(parts, snr_db, **more):
    known = {"number": 1, "stage": "search", "bytes": 1, "saved": 0, "step_us": None, "drop": 0.0, "high": 0.0}
    return Evaluation(**known | more, parts=parts, snr_db=snr_db)


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_verdicts_are_the_answer_is_no_larger_than_a_plain_file_that_passed(seed, labels):
    """Verdicts at random: nothing that a search assumes about losses holds."""
    for draw in range(5):
        random = np.random.default_rng([seed, draw])
        verdicts = {}

        def passes(data, _loss, random=random, verdicts=verdicts):
            return verdicts.setdefault(data, bool(random.random() < 0.5))

        world = AutoWorld(seed, passes, parts=2 + seed % 3, labels=labels, max_evaluations=60)
        looked = world.search()
        assert len(world.judged) == len(set(world.judged)) <= 5
        assert {plain(data) for data in world.judged} >= {"float16", "int8"}
        sizes = [len(data) for data in world.judged if plain(data) and verdicts[data]]
        assert (looked.answer is None) == (not any(verdicts.values()))
        if looked.answer is not None:
            assert looked.answer.passed
            # A candidate's card grows by its metric; a plain file is written as it is.
            assert looked.answer.bytes + (0 if looked.answer.plain else world.note) <= min(sizes, default=np.inf)


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("limit", [0.0, 1e-8, 3e-6, 1e-4, 3e-4, 1e-3, 1.0])
def test_after_a_failure_only_what_is_clearly_safer_is_evaluated(limit, labels):
    for seed in range(6):
        world = AutoWorld(seed, lambda _data, loss: loss <= limit, labels=labels)
        looked = world.search()
        for number, data in enumerate(world.judged):
            failed = [other for other in world.judged[:number] if world.loss(schemes(other)) > limit]
            for other in failed if not plain(data) else ():
                mine, theirs = schemes(data), schemes(other)
                if labels:
                    pairs = [(FINENESS.index(side.get(p, "float32")) for side in (mine, theirs)) for p in world.bytes]
                    assert all(a < b or a == b == 0 for a, b in pairs)
                else:
                    assert world.loss(mine) * MARGIN <= world.loss(theirs) * (1 + 1e-9)
        assert len(looked.left_out) + len(world.judged) <= 5


def test_the_five_files_are_the_same_whatever_their_verdicts_are():
    """The reason why five is the number that the error is shared by: an outcome adds none."""
    for seed in range(3):
        files = set()
        for verdicts in itertools.product([False, True], repeat=5):
            left = iter(verdicts)
            world = AutoWorld(seed, lambda _data, _loss, left=left: next(left), max_evaluations=40)
            world.search()
            files |= set(world.judged)
        assert len(files) <= 5


@pytest.mark.long
def test_bad_files_are_accepted_no_more_often_than_the_confidence_says():
    """Every file is bad, and each evaluation errs in one of a hundred cases."""
    random, accepted, cases = np.random.default_rng(0), 0, 400
    world = AutoWorld(1, lambda _data, _loss: bool(random.random() < 0.01), max_evaluations=40)
    for _ in range(cases):
        world.bench.evaluations.clear()
        # What was measured on the tuning data stays; each case has other held-out data.
        world.journal.forget("held-out")
        accepted += world.search().answer is not None
    # 400 cases at 5 % are 20, and 29 are two standard errors more.
    assert accepted <= 29


def test_what_was_left_out_and_why_is_said():
    def int8_is_over(data, _loss):
        return plain(data) != "int8"

    looked = AutoWorld(0, int8_is_over).search()
    assert looked.answer.name == "float16"
    assert looked.left_out
    assert all("it is not clearly safer than int8, over the budget" in sentence for sentence in looked.left_out)
    looked = AutoWorld(0, lambda data, _loss: bool(plain(data))).search()
    assert looked.answer.name == "int8"
    looked = AutoWorld(0, lambda _data, _loss: True).search()
    assert looked.answer.name == "candidate 1"
    assert looked.left_out == ()


def test_a_larger_file_is_no_answer_although_it_is_within_the_budget():
    world = AutoWorld(0, lambda data, _loss: plain(data) == "int8")
    world.extra["int8"] = 500_000
    looked = world.search()
    assert plain(world.judged[0]) == "int8", "the larger plain file first"
    assert looked.answer is None


def test_clearly_safer_is_a_quarter_of_the_loss_or_finer_in_every_part():
    parts = [SearchPart(part=part, layer=part[0], kind="recurrent", schemes=SCHEMES) for part in ("a.W", "a.R", "b")]
    one, other = {"a.W": "int8", "a.R": "float16"}, {"a.W": "int4:32", "a.R": "int4:32"}
    snr_db = 10 * np.log10(MARGIN)
    assert is_clearly_safer(evaluation(one, 40.0 + 1.0001 * snr_db), evaluation(other, 40.0), parts)
    assert not is_clearly_safer(evaluation(one, 39.9 + snr_db), evaluation(other, 40.0), parts)
    # Equal outputs have no loss, and nothing is safer than that.
    assert is_clearly_safer(evaluation(one, None), evaluation(other, 40.0), parts)
    assert not is_clearly_safer(evaluation(one, None), evaluation(other, None), parts)
    labels = {"has_loss": False}
    assert is_clearly_safer(evaluation(one, None, **labels), evaluation(other, None, **labels), parts)
    assert not is_clearly_safer(evaluation(other, None, **labels), evaluation(one, None, **labels), parts)
    half = {"a.W": "int4:32", "a.R": "float16"}
    assert not is_clearly_safer(evaluation(half, None, **labels), evaluation(other, None, **labels), parts)
    assert not is_clearly_safer(evaluation({}, None, **labels), evaluation({}, None, **labels), parts)
    # A plain file's card names the whole layer.
    assert is_clearly_safer(evaluation(one, None, **labels), evaluation({"a": "int4:32"}, None, **labels), parts)
