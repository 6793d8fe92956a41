"""Training on text: windows, the carried state, the corpus, budgets."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from support.training_cases import ids, train
from torch.nn import functional

from lstm_edge.training import LanguageOptions, train_language_model
from lstm_edge.training.corpus import check_device_bytes, load_corpus
from lstm_edge.training.language import LanguageTask
from lstm_edge.training.models import LanguageModel, LanguageModelConfig
from lstm_edge_runtime.errors import DataError, InputError, OutputError

# float32 rounding between one long run and its windows: measured below 3e-7.
SAME_ARITHMETIC = 2e-6


def build(**changes):
    torch.manual_seed(3)
    return LanguageModel(LanguageModelConfig(**({"tokens": 7, "embedding": 3, "hidden": 5} | changes)))


@pytest.mark.parametrize("peephole", ["none", "full"])
def test_the_state_goes_on_from_window_to_window_and_the_gradient_does_not(peephole):
    model = build(peephole=peephole, layers=2)
    task = LanguageTask(ids(), ids(200), LanguageOptions(batch_size=4, window=20))
    rows = ids()[: 4 * 174].reshape(4, 174)
    with torch.no_grad():
        whole = functional.cross_entropy(
            model(torch.from_numpy(rows)).transpose(1, 2),
            torch.from_numpy(ids()[1 : 4 * 174 + 1].reshape(4, 174)),
            reduction="none",
        )
    starts = list(range(0, 174, 20))
    assert task.updates == len(starts)
    for epoch in (1, 2):  # the second starts from zero again
        for start, batch in zip(starts, task.batches(epoch), strict=True):
            loss = task.loss(model, batch)
            assert abs(loss.item() - whole[:, start : start + 20].mean().item()) < SAME_ARITHMETIC
            assert batch.items == batch.x.numel()
            loss.backward()
            h, c = task._state  # private: that the graph is cut shows in the memory alone
            assert not h.requires_grad
            assert not c.requires_grad


def resets(probability, *, seed=0, epoch=1):
    """Return for each window the states that it began with and left."""
    model = build(layers=2)
    options = LanguageOptions(batch_size=4, window=20, reset_probability=probability)
    task = LanguageTask(ids(), ids(200), options, seed=seed)
    steps = []
    with torch.no_grad():
        for batch in task.batches(epoch):
            before = task._state
            task.loss(model, batch)
            steps.append((before, task._state))
    return steps


@pytest.mark.parametrize("probability", [0.0, 0.4, 1.0])
def test_rows_start_again_from_a_fresh_state_as_often_as_asked(probability):
    fresh = []
    for epoch in range(1, 11):
        steps = resets(probability, epoch=epoch)
        assert steps[0][0] is None
        for (_, left), (taken, _) in itertools.pairwise(steps):
            for row in range(4):
                parts = [(a[:, row], b[:, row]) for a, b in zip(left, taken, strict=True)]
                # A row goes on in all layers, h and c, or starts again in all of them.
                carried = all(torch.equal(a, b) for a, b in parts)
                zero = all(not b.any() for _, b in parts)
                assert carried != zero
                fresh.append(zero)
    # 320 draws: three standard deviations of their share are 0.082 at 0.4, and 0 at the ends.
    assert abs(np.mean(fresh) - probability) <= 3 * math.sqrt(probability * (1 - probability) / len(fresh))


def test_resets_depend_on_the_seed_and_the_epoch_alone():
    def places(**changes):
        return [[bool(taken[0][:, row].any()) for row in range(4)] for taken, _ in resets(0.4, **changes)[1:]]

    torch.manual_seed(99)
    first = places()
    torch.manual_seed(100)
    assert places() == first
    assert places(epoch=2) != first
    assert places(seed=1) != first


def test_resets_draw_nothing_from_the_generator_of_weights_and_dropout():
    before = train("language-model", options={"epochs": 1}, config={"dropout": 0.2})[0].state_dict()
    # The first window has no state to reset: with one window an epoch the weights are those without resets.
    again = train("language-model", options={"epochs": 1, "window": 200}, config={"dropout": 0.2})[0].state_dict()
    reset = train(
        "language-model", options={"epochs": 1, "window": 200, "reset_probability": 1.0}, config={"dropout": 0.2}
    )[0].state_dict()
    assert all(torch.equal(value, reset[name]) for name, value in again.items())
    assert not all(torch.equal(value, reset[name]) for name, value in before.items())


def test_the_held_out_text_is_read_with_its_state():
    model = build().eval()
    held_out = ids(3001)
    task = LanguageTask(ids(), held_out, LanguageOptions(batch_size=4, window=20))
    with torch.no_grad():
        loss, perplexity = task.evaluate(model)
        rows, length = 12, 250  # 3001 tokens are 12 rows of 250, each one window
        logits = model(torch.from_numpy(held_out[:-1].reshape(rows, length)))
        expected = functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(held_out[1:]).clone())
    assert abs(loss - expected.item()) < SAME_ARITHMETIC
    assert perplexity == math.exp(loss)
    longer = LanguageTask(ids(), ids(4817), LanguageOptions(batch_size=4))
    with torch.no_grad():
        whole = model(torch.from_numpy(ids(4817)[:-1].reshape(16, 301)))
        expected = functional.cross_entropy(whole.flatten(0, 1), torch.from_numpy(ids(4817)[1:]))
        # 16 rows of 301 are read in windows of 250: the state goes on here too.
        assert abs(longer.evaluate(model)[0] - expected.item()) < SAME_ARITHMETIC


def test_two_runs_give_equal_bits_and_it_learns():
    first, report = train("language-model", options={"epochs": 12, "learning_rate": 0.02}, config={"dropout": 0.2})
    second, again = train("language-model", options={"epochs": 12, "learning_rate": 0.02}, config={"dropout": 0.2})
    assert report.history == again.history
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    # The next token is the one plus one in 90 of 100: 0.1 ln 10 + 0.9 ln (10 / 9) = 0.325 nats at best.
    assert 0.3 < report.best.held_out_loss < 1.0
    assert math.isclose(report.best.held_out_metric, math.exp(report.best.held_out_loss))


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (np.zeros(4, np.int64), "data text, training part: has 4 tokens, expected at least 5 (batch size plus one)"),
        (np.zeros(9, np.int32), "data text, training part: got int32 [9], expected token ids, int64 [N]"),
        (np.array([0, 1, 7, 2, 3, 4]), "data text, training part: token 2 has the id 7, expected 0 to 6"),
        ([1, 2, 3], "data text, training part: got list, expected token ids, int64 [N]"),
    ],
)
def test_text_that_does_not_fit_is_refused(bad, sentence):
    config = LanguageModelConfig(tokens=7, embedding=3, hidden=5)
    with pytest.raises(DataError, match="^" + re.escape(sentence) + "$"):
        train_language_model(bad, ids(200), config, options=LanguageOptions(batch_size=4))
    sentence = "data text, held-out part: has 1 tokens, expected at least 2 (an input and a target)"
    with pytest.raises(DataError, match="^" + re.escape(sentence) + "$"):
        train_language_model(ids(200), ids(1), config, options=LanguageOptions(batch_size=4))


def test_a_corpus_is_cut_by_position_and_its_vocabulary_is_of_the_training_part(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("ab" * 90 + "abcc" * 2 + "ab" + "d" * 10)
    corpus = load_corpus(str(path))
    assert (len(corpus.train), len(corpus.held_out)) == (180, 10)
    assert corpus.vocabulary.tokens == ("\N{REPLACEMENT CHARACTER}", "a", "b")
    assert corpus.vocabulary.decode(corpus.held_out) == "ab\ufffd\ufffdab\ufffd\ufffdab"
    other = tmp_path / "o.txt"
    other.write_text("ba")
    assert load_corpus(str(path), validation=str(other)).train.size == 200


def test_lines_are_closed_by_the_end_token(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("ab\n\nb\n" * 40)
    corpus = load_corpus(str(path), lines=True)
    end = corpus.vocabulary.end_id
    a, b = (corpus.vocabulary.tokens.index(token) for token in "ab")
    assert corpus.train[:5].tolist() == [a, b, end, b, end]
    assert (corpus.train == end).sum() == 72


def test_a_vocabulary_larger_than_the_devices_budget_is_refused(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("".join(map(chr, range(33, 120))) * 3)
    with pytest.raises(InputError, match=r"more than the 50 that --max-vocabulary allows"):
        load_corpus(str(path), max_size=50)
    config = LanguageModelConfig(tokens=1000, embedding=8, hidden=16)
    check_device_bytes(config, config.device_bytes)
    # 1000 rows of 8 with a scale each, 1000 rows of 16 with a scale and a bias each.
    sentence = (
        f"language model: the weights take {config.device_bytes:,} bytes as int8, 36,000 of them for the vocabulary of "
        f"1,000 tokens, but --max-bytes is {config.device_bytes - 1:,}: choose a smaller --vocabulary-size"
    )
    with pytest.raises(InputError, match="^" + re.escape(sentence)):
        check_device_bytes(config, config.device_bytes - 1)


@pytest.mark.slow
def test_a_drawing_needs_a_known_ending(tmp_path):
    from lstm_edge.training import plot_curves

    _, report = train("language-model", options={"epochs": 2})
    plot_curves(report, tmp_path / "c.svg")
    text = (tmp_path / "c.svg").read_text()
    assert all(word in text for word in ("Perplexity on held-out data", "(before clipping)", "Loss"))
    first = (tmp_path / "c.svg").read_bytes()
    plot_curves(report, tmp_path / "c.svg")
    assert (tmp_path / "c.svg").read_bytes() == first
    with pytest.raises(OutputError, match=r"c.gif: the name of a plot must end in .svg, .png, .pdf$"):
        plot_curves(report, tmp_path / "c.gif")


# bfloat16 keeps 8 bits of a number: a loss of 2 nats moves by less than a hundredth.
BFLOAT16_LOSS = 0.02


def test_bfloat16_rounds_the_products_and_keeps_weights_states_and_held_out_loss_in_float32():
    options = {"batch_size": 4, "window": 20}
    plain, half = (
        LanguageTask(ids(), ids(200), LanguageOptions(**options, precision=precision))
        for precision in ("float32", "bfloat16")
    )
    model = build(hidden=48, layers=2)
    losses = []
    for task in (plain, half):
        batch = next(task.batches(1))
        model.zero_grad()
        loss = task.loss(model, batch)
        loss.backward()
        losses.append(loss)
        assert {loss.dtype, *(value.dtype for value in task._state)} == {torch.float32}
        assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())
    assert 0 < abs(losses[0].item() - losses[1].item()) < BFLOAT16_LOSS
    model.eval()
    with torch.no_grad():
        assert plain.evaluate(model) == half.evaluate(model)


def test_bfloat16_trains_resumes_and_is_refused_with_simulated_quantization(tmp_path):
    options = {"epochs": 12, "learning_rate": 0.02, "precision": "bfloat16"}
    first, report = train("language-model", options=options, config={"dropout": 0.2})
    second, _ = train("language-model", options=options, config={"dropout": 0.2})
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    assert 0.3 < report.best.held_out_loss < 1.0
    assert report.to_json()["options"]["precision"] == "bfloat16"
    assert "precision" not in LanguageOptions().to_json()  # the identity of earlier trainings
    with pytest.raises(InputError, match=r"^training: precision is bfloat16, but quantize_aware needs float32: "):
        LanguageOptions(precision="bfloat16", quantize_aware="int8")
    with pytest.raises(InputError, match=r"^training: precision is half, expected float32, bfloat16$"):
        LanguageOptions(precision="half")
