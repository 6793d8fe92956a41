"""Writing and scoring text with a language model: the state is carried, draws follow the probabilities."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_edge_runtime import generate as module
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.generate import LanguageStream, check_language_model, generate, sample, score, score_in_chunks
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.stream import Stream

MODELS = Path(__file__).parent / "models"
SESSION = Session(MODELS / "language_model.onnx")
TIME_FIRST = Session(MODELS / "language_model_time_first.onnx")
IDS = np.random.default_rng(3).integers(0, 11, 40)
PROMPT = [5, 3, 9]
UNKNOWN = 0
# float32 logits of order one, in chunks of another length than the whole: onnxruntime sums in another order.
REORDERED = 2e-6


def whole(session, ids):
    """Logits of a text in one run, from a zero state: float64 [T, V]."""
    logits = session.run({"ids": np.asarray(ids, np.int64)[np.newaxis]})[0]["logits"]
    return logits[0].astype(np.float64)


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def test_scores_are_the_log_probabilities_of_the_whole_text():
    scores = score(SESSION, IDS)
    expected = log_softmax(whole(SESSION, IDS))[np.arange(39), IDS[1:]]
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected, atol=REORDERED, rtol=0)
    assert np.ptp(expected) > 1, "a model of equal logits would show nothing"


@pytest.mark.parametrize("steps", [1, 2, 13, 38, 39, 40])
def test_chunks_carry_the_state(monkeypatch, steps):
    monkeypatch.setattr(module, "_MOST_STEPS", steps)
    parts = list(score_in_chunks(SESSION, IDS))
    assert [len(part) for part in parts] == [steps] * (39 // steps) + [39 % steps] * (39 % steps > 0)
    expected = log_softmax(whole(SESSION, IDS))[np.arange(39), IDS[1:]]
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=REORDERED, rtol=0)


def test_a_chunk_of_logits_is_bounded():
    assert LanguageStream(SESSION).chunk == 512
    assert LanguageStream(SESSION, 1000).chunk == 1_000_000 // 11_000


def test_files_of_either_axis_order_answer_the_same():
    np.testing.assert_allclose(score(TIME_FIRST, IDS), score(SESSION, IDS), atol=REORDERED, rtol=0)
    assert list(generate(TIME_FIRST, PROMPT, 30, seed=2)) == list(generate(SESSION, PROMPT, 30, seed=2))
    rows = IDS.reshape(4, 10)
    a, b = LanguageStream(SESSION, 4).push(rows), LanguageStream(TIME_FIRST, 4).push(rows)
    assert a.shape == b.shape == (4, 10, 11)
    np.testing.assert_allclose(a, b, atol=REORDERED, rtol=0)


def test_greedy_takes_the_most_probable_each_time():
    written = list(generate(SESSION, PROMPT, 12, temperature=0))
    assert len(written) == 12
    for index, token in enumerate(written):
        assert token == 1 + whole(SESSION, PROMPT + written[:index])[-1][1:].argmax()


def test_draws_follow_the_whole_past():
    # The draws of a seed, made again from logits of the whole text so far, without any carried state.
    written = list(generate(SESSION, PROMPT, 25, temperature=0.9, top_k=7, top_p=0.95, seed=11))
    assert len(written) > 10
    generator, text = np.random.default_rng(11), list(PROMPT)
    for token in written:
        assert sample(whole(SESSION, text)[-1], generator, 0.9, 7, 0.95, avoid=UNKNOWN) == token
        text.append(token)


def test_the_unknown_token_is_never_drawn():
    assert SESSION.card.vocabulary.index(SESSION.card.text.unknown) == UNKNOWN
    drawn = Counter(token for seed in range(40) for token in generate(SESSION, PROMPT, 30, temperature=3.0, seed=seed))
    assert UNKNOWN not in drawn
    assert len(drawn) == 9, "every other token but the end is"
    # Where it is the most probable, greedy takes the second, and where there is no other it is drawn.
    logits = np.array([9.0, 1.0, 2.0])
    for options in ({"temperature": 0.0}, {"top_k": 1}, {"top_p": 0.1}):
        assert sample(logits, np.random.default_rng(0), **options, avoid=0) == 2
        assert sample(logits, np.random.default_rng(0), **options) == 0
    assert sample(np.array([1.0]), np.random.default_rng(0), avoid=0) == 0


def test_a_long_prompt_is_fed_in_chunks(monkeypatch):
    expected = list(generate(SESSION, IDS, 10, seed=4))
    monkeypatch.setattr(module, "_MOST_STEPS", 7)
    assert list(generate(SESSION, IDS, 10, seed=4)) == expected


def test_a_seed_gives_the_same_text_and_another_seed_another():
    texts = [tuple(generate(SESSION, PROMPT, 30, seed=seed)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_it_stops_at_the_end_token_and_does_not_yield_it():
    lengths = {}
    for seed in range(40):
        written = list(generate(SESSION, PROMPT, 200, seed=seed))
        assert 1 not in written
        lengths[seed] = len(written)
    seed, length = min(lengths.items(), key=lambda item: item[1])
    assert length < 200, "no seed drew the end token"
    # The same draws without an end token: the next one is the end.
    generator, text = np.random.default_rng(seed), list(PROMPT)
    for _ in range(length + 1):
        text.append(sample(whole(SESSION, text)[-1], generator, avoid=UNKNOWN))
    assert text[-1] == 1


def test_the_number_of_tokens_is_a_limit_and_nothing_runs_beyond_it():
    assert len(list(generate(SESSION, PROMPT, 1, temperature=0))) == 1


def test_frequencies_are_the_probabilities():
    logits = np.log(np.array([0.5, 0.125, 0.25, 0.125]))
    generator = np.random.default_rng(0)
    counts = Counter(sample(logits, generator) for _ in range(20_000))
    # Four standard deviations of a share over 20,000 draws are at most 0.0142.
    for token, probability in enumerate((0.5, 0.125, 0.25, 0.125)):
        assert counts[token] / 20_000 == pytest.approx(probability, abs=0.0142)
    cold = Counter(sample(logits, generator, 0.5) for _ in range(20_000))
    # Temperature 0.5 squares the probabilities: 16, 1, 4, 1 of 22.
    assert cold[0] / 20_000 == pytest.approx(16 / 22, abs=0.0142)
    assert cold[2] / 20_000 == pytest.approx(4 / 22, abs=0.0142)


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"top_k": 1}, {0}),
        ({"top_k": 2}, {0, 2}),
        ({"top_k": 3}, {0, 1, 2}),
        ({"top_k": 99}, {0, 1, 2, 3}),
        ({"top_p": 0.4}, {0}),
        ({"top_p": 0.5}, {0}),
        ({"top_p": 0.6}, {0, 2}),
        ({"top_p": 0.8}, {0, 1, 2}),
        ({"top_p": 1.0}, {0, 1, 2, 3}),
        # Of 0.5 and 0.25, which are left, the first has two thirds.
        ({"top_k": 2, "top_p": 0.66}, {0}),
        ({"top_k": 2, "top_p": 0.67}, {0, 2}),
    ],
)
def test_top_k_and_top_p_leave_the_most_probable(options, allowed):
    logits = np.log(np.array([0.5, 0.125, 0.25, 0.125]))
    generator = np.random.default_rng(0)
    assert {sample(logits, generator, **options) for _ in range(300)} == allowed


@given(
    st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=1, max_size=9),
    st.floats(0, 1e308),
    st.integers(1, 12),
    st.floats(0, 1, exclude_min=True),
)
def test_any_logits_and_options_give_a_token(values, temperature, top_k, top_p):
    token = sample(np.array(values, np.float32), np.random.default_rng(0), temperature, top_k, top_p)
    assert 0 <= token < len(values)


def test_equal_logits_are_taken_by_the_lower_id():
    assert sample(np.array([1.0, 2.0, 2.0]), np.random.default_rng(0), 0.0) == 1
    assert sample(np.array([1.0, 2.0, 2.0]), np.random.default_rng(0), top_k=1) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([], 5), "the prompt has 0 tokens, expected at least 1"),
        (([[1, 2]], 5), "the prompt is int64 [1, 2], expected integers [tokens]"),
        (([1.5], 5), "the prompt is float64 [1], expected integers [tokens]"),
        (([1], 0), "tokens is 0, expected 1 or more"),
        (([1], 5, {"temperature": -0.1}), "temperature is -0.1, expected a number, 0 or more"),
        (([1], 5, {"temperature": float("nan")}), "temperature is nan, expected a number, 0 or more"),
        (([1], 5, {"top_k": 0}), "top_k is 0, expected 1 or more"),
        (([1], 5, {"top_p": 0.0}), "top_p is 0.0, expected a number above 0 and at most 1"),
        (([1], 5, {"top_p": 1.1}), "top_p is 1.1, expected a number above 0 and at most 1"),
        (([1], 5, {"seed": -1}), "seed is -1, expected 0 or more"),
    ],
)
def test_options_out_of_range_are_refused_at_the_call(arguments, sentence):
    prompt, tokens, *options = arguments
    with pytest.raises(InputError, match="^" + re.escape(sentence) + "$"):
        generate(SESSION, prompt, tokens, **(options[0] if options else {}))


def test_ids_outside_the_vocabulary_are_refused():
    for ids in ([3, 11], [3, -1, 2]):
        with pytest.raises(InputError, match=r"^the ids go from -?\d+ to \d+, but the model has 11 tokens: expected 0"):
            list(generate(SESSION, ids, 2))
    with pytest.raises(InputError, match=r"^the text has 1 tokens, expected at least 2$"):
        score(SESSION, [3])


def test_a_model_of_another_task_is_refused():
    with pytest.raises(InputError, match=r"^the model is not a language model: card.task is 'tagging', expected task"):
        check_language_model(Session(MODELS / "tagger.onnx"))
    with pytest.raises(InputError, match=r"^the model is not a language model: it has no model card, expected task"):
        check_language_model(Session(MODELS / "no_card.onnx"))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "two_inputs",
            "expected one input of ids [batch, time], got x: float32[batch, time, 3], ids: int64[batch, time]",
        ),
        ("tagger", "expected one input of ids [batch, time], got x: float32[batch, time, 3]"),
    ],
)
def test_a_card_that_only_claims_to_be_one_is_refused(name, sentence):
    session = Session(MODELS / f"{name}.onnx")
    session.card = session.card.replace(task="language-model")
    with pytest.raises(InputError, match="^the model is not a language model: " + re.escape(sentence) + "$"):
        check_language_model(session)


def test_a_stream_that_keeps_steps_is_no_language_model():
    session = Session(MODELS / "kept_strided.onnx")
    session.card = session.card.replace(task="language-model")
    sentence = "^the model is not a language model: it does not give one output step for each input step .*every 2"
    with pytest.raises(InputError, match=sentence):
        check_language_model(session)


def test_logits_that_are_not_finite_are_refused(monkeypatch):
    stream = LanguageStream(SESSION)
    monkeypatch.setattr(Stream, "push", lambda _stream, ids: np.full((1, 2, 11), np.inf, np.float32))
    with pytest.raises(InputError, match=r"^the model's logits hold NaN or infinity before token 0$"):
        stream.push(np.array([[1, 2]]))
