"""`lstm-edge run --prompt` and `--score`: what they print, and what they refuse."""

import io
import json
import math
import sys

import numpy as np
import pytest
import typer
from support.text_models import CHARACTERS, exported_model, quantized_model, with_vocabulary
from typer.testing import CliRunner

from lstm_edge.cli._device import add_to
from lstm_edge.cli._frame import CommandGroup
from lstm_edge_runtime.card import Text
from lstm_edge_runtime.generate import generate, score
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.text import Vocabulary

app = typer.Typer(cls=CommandGroup, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Keep `run` a command of its own."""


add_to(app, "run")
TEXT = "bad cafe\nhi é"


def call(*arguments, stdin=None, exit_code=0):
    """Run `lstm-edge run`; returns (stdout, stderr) and asserts the exit code and that errors are one sentence."""
    result = CliRunner().invoke(app, ["run", *map(str, arguments)], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == exit_code, result.output
    if exit_code:
        assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("lm") / "lm.onnx"
    path.write_bytes(exported_model())
    return path


@pytest.mark.slow
@pytest.mark.parametrize("data", [exported_model, quantized_model], ids=["float32", "int8"])
def test_the_prompt_and_what_follows_are_printed(tmp_path, data):
    path = tmp_path / "lm.onnx"
    path.write_bytes(data())
    out, err = call(path, "--prompt", "bad c", "--tokens", 60, "--temperature", 0.8, "--top-k", 9, "--seed", 1)
    ids = generate(Session(path), CHARACTERS.encode("bad c"), 60, temperature=0.8, top_k=9, seed=1)
    assert out == "bad c" + CHARACTERS.decode(ids) + "\n"
    assert err == "· at most 60 tokens, temperature 0.8, seed 1\n"


def test_a_seed_makes_the_text(model):
    texts = [call(model, "--prompt", "a", "--tokens", 50, "--seed", seed)[0] for seed in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]
    greedy = [call(model, "--prompt", "a", "--temperature", 0, "--seed", seed)[0] for seed in (3, 4)]
    assert greedy[0] == greedy[1]


def test_the_continuation_as_json(model):
    out, err = call(model, "--prompt", "a", "--tokens", 5, "--temperature", 0, "--json")
    answer = json.loads(out)
    assert answer["prompt"] == "a"
    assert answer["text"] == CHARACTERS.decode(answer["ids"])
    assert (len(answer["ids"]), answer["seed"], err) == (5, 0, "")


def test_what_a_terminal_would_obey_is_shown_and_not_sent(tmp_path):
    """A vocabulary comes out of a file that others made; tabs and the joiners of scripts are text."""
    hostile = {"a": "\x1b", "b": "\u202e", "c": "\t", "d": "\u200c"}
    tokens = tuple(hostile.get(token, token) for token in CHARACTERS.tokens)
    path = tmp_path / "lm.onnx"
    path.write_bytes(with_vocabulary(exported_model(), Vocabulary(tokens=tokens, text=CHARACTERS.text)))
    ids = {text: tokens.index(text) for text in hostile.values()}
    out = "".join(call(path, "--prompt", "e", "--tokens", 60, "--temperature", 5, "--seed", s)[0] for s in range(20))
    assert "\\u001b" in out
    assert "\\u202e" in out
    assert "\t" in out
    assert "\u200c" in out
    assert not {"\x1b", "\u202e"} & set(out)
    (tmp_path / "t.txt").write_text("e\u202ee\te", encoding="utf-8")
    lines, _ = call(path, "--score", tmp_path / "t.txt", "--json")
    assert "\u202e" not in lines
    assert [json.loads(line)["token"] for line in lines.splitlines()[:2]] == ["\u202e", "e"]
    assert json.loads(lines.splitlines()[0])["id"] == ids["\u202e"]


def test_a_prompt_with_unknown_characters_says_so(model):
    _, err = call(model, "--prompt", "a漢Z", "--tokens", 1)
    assert err.startswith(
        "· the prompt: 2 of 3 tokens are not in the model's vocabulary and become the unknown token\n"
    )


def test_characters_of_several_bytes_come_out_whole(tmp_path):
    # Four of the model's 17 tokens are the bytes of two characters; an untrained model writes them in any order.
    tokens = [f"<0x{byte:02X}>" for byte in (*"é漢 abcdefghi\n".encode(), 0xFF)][:17]
    vocabulary = Vocabulary(tokens=tuple(tokens), text=Text(kind="byte"))
    path = tmp_path / "bytes.onnx"
    path.write_bytes(with_vocabulary(exported_model(), vocabulary))
    out, _ = call(path, "--prompt", "é漢", "--tokens", 300, "--seed", 5)
    ids = list(generate(Session(path), vocabulary.encode("é漢"), 300, seed=5))
    assert out == "é漢" + vocabulary.decode(ids) + "\n"
    assert "\N{REPLACEMENT CHARACTER}" in out


class Screen(io.RawIOBase):
    """Standard output behind every buffer: what a reader has seen so far."""

    def __init__(self):
        self.seen = b""

    def writable(self):
        return True

    def write(self, data):
        self.seen += bytes(data)
        return len(data)


def test_the_text_is_seen_as_it_is_written(model, monkeypatch):
    """Each piece is on the screen before the next token is asked for."""
    screen, seen = Screen(), []

    def watched(*_arguments, **_options):
        for index in CHARACTERS.encode("cafe"):
            seen.append(screen.seen)
            yield int(index)
        seen.append(screen.seen)

    monkeypatch.setattr("lstm_edge_runtime.commands.run.generate", watched)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(screen), "utf-8"))
    app(["run", str(model), "--prompt", "bad"], standalone_mode=False)
    assert seen == [b"bad", b"badc", b"badca", b"badcaf", b"badcafe"]
    assert screen.seen == b"badcafe\n"


def test_scores_as_a_table(model, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    out, err = call(model, "--score", path)
    ids = CHARACTERS.encode(TEXT)
    expected = score(Session(model), ids)
    lines = out.splitlines()
    assert lines[0].split() == ["position", "id", "log", "p", "(nats)", "token"]
    assert len(lines) == len(TEXT) + 1
    for position, line in enumerate(lines[1:-1], start=1):
        at, index, value, token = line.split(maxsplit=3)
        assert (int(at), int(index), token) == (position, ids[position], repr(TEXT[position]))
        assert float(value) == pytest.approx(expected[position - 1], abs=5e-5)
    bits = -expected.mean() / math.log(2)
    assert lines[-1] == (
        f"12 tokens scored: perplexity {math.exp(-expected.mean()):.4f}, {bits:.4f} bits per character, "
        "0 unknown tokens in the text"
    )
    assert err == ""


def test_scores_as_json_lines_from_standard_input(model):
    out, err = call(model, "--score", "-", "--json", stdin="ab漢é")
    lines = [json.loads(line) for line in out.splitlines()]
    expected = score(Session(model), CHARACTERS.encode("ab漢é"))
    assert [line["position"] for line in lines[:-1]] == [1, 2, 3]
    assert [line["token"] for line in lines[:-1]] == ["b", "\N{REPLACEMENT CHARACTER}", "é"]
    assert [line["log_probability_nats"] for line in lines[:-1]] == expected.tolist()
    assert lines[-1] == {
        "tokens": 3,
        "log_probability_nats": pytest.approx(expected.sum()),
        "perplexity": pytest.approx(math.exp(-expected.mean())),
        "bits_per_character": pytest.approx(-expected.mean() / math.log(2)),
        "unknown_tokens": 1,
    }
    assert err == "· -: 1 of 4 tokens are not in the model's vocabulary and become the unknown token\n"


def test_a_long_text_is_numbered_through(model):
    text = "abc d\n" * 300
    lines = [json.loads(line) for line in call(model, "--score", "-", "--json", stdin=text)[0].splitlines()]
    assert [line["position"] for line in lines[:-1]] == list(range(1, len(text)))
    np.testing.assert_array_equal(
        [line["log_probability_nats"] for line in lines[:-1]], score(Session(model), CHARACTERS.encode(text))
    )


def test_bits_are_counted_for_characters_not_tokens(tmp_path):
    # Bytes: "é" is two tokens, so a text of 4 characters has 7.
    tokens = tuple(f"<0x{byte:02X}>" for byte in (*"é abcdefghiklmno".encode(),))
    path = tmp_path / "bytes.onnx"
    path.write_bytes(with_vocabulary(exported_model(), Vocabulary(tokens=tokens, text=Text(kind="byte"))))
    last = json.loads(call(path, "--score", "-", "--json", stdin="aééé")[0].splitlines()[-1])
    per_token = -last["log_probability_nats"] / last["tokens"] / math.log(2)
    assert (last["tokens"], last["bits_per_character"]) == (6, pytest.approx(per_token * 7 / 4))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--prompt", "a", "--score", "-"), "--prompt and --score exclude one another: give one of INPUT, --stream, "),
        (("x.npy", "--prompt", "a"), "INPUT and --prompt exclude one another"),
        (("--stream", "--score", "-"), "--stream and --score exclude one another"),
        (
            (),
            "give an INPUT.npy or INPUT.npz, or --stream to read JSON lines from standard input; for a language model",
        ),
        (("--score", "-", "--tokens", 5), "--tokens requires --prompt"),
        (("--stream", "--top-k", 5), "--top-k requires --prompt"),
        (("--prompt", "a", "-o", "y.npy"), "-o requires an array input, but --prompt takes text: leave it out"),
        (
            ("--score", "-", "--load-state", "s.npz"),
            "--load-state requires an array input, but --score takes text",
        ),
        (("--prompt", ""), "the prompt has 0 tokens, expected at least 1"),
        (("--prompt", "a", "--tokens", 0), "--tokens is '0', expected 1 or more"),
        (("--prompt", "a", "--temperature", -1), "--temperature is -1.0, expected a number, 0 or more"),
        (("--prompt", "a", "--top-p", 0), "--top-p is 0.0, expected a number above 0 and at most 1"),
        (("--score", "none.txt"), "data none.txt: no such file"),
        (("--score", "-"), "data standard input: the text is empty, expected at least one character"),
    ],
)
def test_what_cannot_be_done_is_exit_2_and_one_sentence(model, arguments, sentence):
    assert sentence in " ".join(call(model, *arguments, stdin="", exit_code=2)[1].split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--tokens", 0), "--tokens is '0', expected 1 or more"),
        (("--temperature", "nan"), "--temperature is nan, expected a number, 0 or more"),
        (("--top-k", 0), "--top-k is '0', expected 1 or more"),
        (("--seed", -1), "--seed is '-1', expected 0 or more"),
    ],
)
def test_options_are_refused_before_the_model_is_opened(arguments, sentence):
    error = call("none.onnx", "--prompt", "a", *arguments, exit_code=2)[1]
    assert error.partition("; ")[0].rstrip() == f"error: {sentence}"
    assert "none.onnx: no such file" in call("none.onnx", "--prompt", "a", exit_code=2)[1]


def test_the_unknown_token_is_not_written(model):
    out = "".join(call(model, "--prompt", "a", "--temperature", 3, "--seed", seed)[0] for seed in range(15))
    assert len(out) > 150
    assert CHARACTERS.text.unknown not in out


def test_a_text_of_one_token_has_nothing_to_score(model):
    assert "the text has 1 tokens, expected at least 2" in call(model, "--score", "-", stdin="a", exit_code=2)[1]


def test_a_model_without_a_vocabulary_says_what_it_lacks(tmp_path):
    path = tmp_path / "lm.onnx"
    path.write_bytes(with_vocabulary(exported_model(), None))
    _, err = call(path, "--prompt", "a", exit_code=2)
    assert "card.vocabulary and card.text must be given, the file does not say which text its ids represent" in err


def test_a_model_of_another_task_is_refused(tmp_path):
    path = tmp_path / "lm.onnx"
    path.write_bytes(with_vocabulary(exported_model(), CHARACTERS, task="tagging"))
    for option in (("--prompt", "a"), ("--score", "-")):
        _, err = call(path, *option, stdin="abc", exit_code=2)
        assert (
            err == "error: the model is not a language model: card.task is 'tagging', expected task 'language-model'\n"
        )
