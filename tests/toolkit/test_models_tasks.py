"""Tagger, forecaster and language model: answers, cards, checkpoints, exported files."""

import json
import re

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import save_file

import lstm_edge
from lstm_edge.checkpoint import CHECKPOINT_KEY, load_checkpoint, load_checkpoint_of, save_checkpoint
from lstm_edge.training.models import (
    ClassifierConfig,
    ForecasterConfig,
    LanguageModel,
    LanguageModelConfig,
    SequenceClassifier,
    SequenceForecaster,
    SequenceTagger,
    TaggerConfig,
    set_forget_bias,
)
from lstm_edge_runtime.card import Text
from lstm_edge_runtime.errors import ArtifactError, InputError

# float32 rounding of sums over a batch of other composition: measured below 3e-7 on logits of order one.
SAME_ARITHMETIC = 2e-6
# onnxruntime against PyTorch on a handful of steps: the exporter's own tolerance for outputs of order one.
CLOSE = 1e-5
TOKENS = ("\N{REPLACEMENT CHARACTER}", "<end>", "a", "b", "\n")
TEXT = Text(kind="character", unknown=TOKENS[0], end="<end>")


def tagger(**changes):
    torch.manual_seed(1)
    model = SequenceTagger(TaggerConfig(**({"features": 2, "classes": 3, "hidden": 5} | changes)))
    model.set_standardization(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0]))
    return model.eval()


def forecaster(**changes):
    torch.manual_seed(2)
    model = SequenceForecaster(ForecasterConfig(**({"features": 2, "targets": 3, "hidden": 5} | changes)))
    model.set_target_scale(torch.tensor([100.0, 0.0, -5.0]), torch.tensor([10.0, 1.0, 0.0]))
    return model.eval()


def language_model(**changes):
    torch.manual_seed(3)
    config = {"tokens": 5, "embedding": 3, "hidden": 6, "vocabulary": TOKENS, "text": TEXT}
    return LanguageModel(LanguageModelConfig(**(config | changes))).eval()


MODELS = {
    "tagger": tagger,
    "tagger-both-ways": lambda: tagger(bidirectional=True, layers=2, dropout=0.1, labels=("a", "b", "c")),
    "forecaster": lambda: forecaster(projection=3),
    "language-model": lambda: language_model(layers=2, peephole="diagonal"),
    "language-model-tied": lambda: language_model(tied=True, projection=3),
}


def inputs_of(model, batch=4, time=7):
    generator = np.random.default_rng(3)
    if isinstance(model, LanguageModel):
        return torch.from_numpy(generator.integers(0, 5, size=(batch, time)))
    return torch.from_numpy(generator.normal(size=(batch, time, 2)).astype(np.float32))


@pytest.mark.parametrize("make", [tagger, forecaster, lambda: tagger(bidirectional=True), lambda: forecaster(layers=2)])
def test_lengths_give_each_rows_answer_alone(make):
    model, lengths = make(), torch.tensor([7, 1, 4, 6])
    x = inputs_of(model)
    poisoned = x.clone()
    for row, length in enumerate(lengths):
        poisoned[row, length:] = torch.nan
    with torch.no_grad():
        together = model(poisoned, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = model(x[row : row + 1, :length])[0]
            mine = together[row, :length] if alone.dim() == 2 else together[row]
            assert (mine - alone).abs().max() < SAME_ARITHMETIC * max(1.0, alone.abs().max().item())


def test_a_forecast_is_scaled_back():
    model = forecaster()
    plain = forecaster()
    plain.set_target_scale(torch.zeros(3), torch.ones(3))
    x = inputs_of(model)
    with torch.no_grad():
        # A target that never varies has the standard deviation 1.
        expected = plain(x) * torch.tensor([10.0, 1.0, 1.0]) + torch.tensor([100.0, 0.0, -5.0])
        assert torch.equal(model(x), expected)
    with pytest.raises(InputError, match=r"^forecaster: target_std holds a negative number, expected 0 or more$"):
        model.set_target_scale(torch.zeros(3), -torch.ones(3))


@pytest.mark.parametrize("changes", [{}, {"tied": True, "embedding": 6}, {"peephole": "full", "layers": 2}])
def test_a_text_in_two_parts_with_the_state_is_the_text(changes):
    model = language_model(**changes)
    ids = inputs_of(model, time=9)
    with torch.no_grad():
        whole = model(ids)
        first, state = model.run(ids[:, :4], None)
        second, _ = model.run(ids[:, 4:], state)
    assert whole.shape == (4, 9, 5)
    assert (torch.cat((first, second), dim=1) - whole).abs().max() < SAME_ARITHMETIC


def test_tied_embeddings_share_one_matrix():
    model = language_model(tied=True, embedding=6)
    names = dict(model.named_parameters())
    assert "linear.weight" not in names
    ids = inputs_of(model)
    model(ids).sum().backward()
    y, _ = model.lstm(model.embedding(ids))
    assert torch.allclose(model(ids), y @ model.embedding.weight.T + model.output_bias)


def test_the_forget_bias_is_set_in_every_layer_and_direction():
    model = tagger(layers=2, bidirectional=True)
    set_forget_bias(model, 2.5)
    biases = {name: value for name, value in model.lstm.named_parameters() if name.startswith("bias")}
    assert len(biases) == 2 * 2 * 2
    for name, bias in biases.items():
        i, f, g, o = bias.detach().chunk(4)
        assert torch.equal(f, torch.full_like(f, 2.5 if name.startswith("bias_ih") else 0.0)), name
        assert not i.any()
        assert not g.any()
        assert not o.any()


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_gives_the_same_model_and_the_same_bytes(tmp_path, name):
    model = MODELS[name]()
    save_checkpoint(model, tmp_path / "a.safetensors")
    loaded = load_checkpoint(tmp_path / "a.safetensors")
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    x = inputs_of(model)
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))
    save_checkpoint(loaded, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_checkpoint_of_another_task_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    save_checkpoint(tagger(), path)
    assert isinstance(load_checkpoint_of(SequenceTagger, path), SequenceTagger)
    sentence = f"checkpoint {path}: it is a checkpoint of another task, a SequenceTagger; expected a LanguageModel"
    with pytest.raises(ArtifactError, match="^" + re.escape(sentence) + "$"):
        load_checkpoint_of(LanguageModel, path)


def test_a_classifier_of_the_first_version_is_still_read(tmp_path):
    model = SequenceClassifier(ClassifierConfig(features=2, classes=3))
    config = model.config.to_json()
    del config["projection"]
    content = {"version": "1", "kind": "sequence-classifier", "config": config}
    save_file(model.state_dict(), tmp_path / "m.safetensors", metadata={CHECKPOINT_KEY: json.dumps(content)})
    assert load_checkpoint(tmp_path / "m.safetensors").config == model.config


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tagger", "forecaster", "language-model-tied"])
def test_an_exported_model_answers_alike_and_says_what_it_is(tmp_path, name):
    model = MODELS[name]()
    report = lstm_edge.export(model, None, tmp_path / "m.onnx")
    card = report.card
    x = inputs_of(model, batch=3, time=5)
    outputs, _ = lstm_edge.Session(tmp_path / "m.onnx").run(x.numpy())
    with torch.no_grad():
        expected = model(x).numpy()
    (found,) = outputs.values()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=CLOSE, atol=CLOSE)
    if name == "language-model-tied":
        assert (card.task, card.vocabulary, card.text) == ("language-model", TOKENS, TEXT)
        assert card.streaming.verdict == "every-step"
    else:
        assert card.task == {"tagger": "tagging", "forecaster": "forecast"}[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"layers": 2}, {"peephole": "diagonal"}, {"peephole": "full"}, {"projection": 4}, {"tied": True}]
)
def test_device_bytes_are_those_of_the_int8_files_weights(tmp_path, changes):
    model = language_model(**({"hidden": 8, "embedding": 8} | changes))
    lstm_edge.export(model, None, tmp_path / "f.onnx")
    lstm_edge.quantize(tmp_path / "f.onnx", tmp_path / "q.onnx")
    initializers = onnx.load(tmp_path / "q.onnx").graph.initializer
    # int64 constants are shapes, not weights.
    stored = [numpy_helper.to_array(tensor) for tensor in initializers if tensor.dims]
    weights = sum(array.nbytes for array in stored if array.dtype != np.int64)
    assert weights == model.config.device_bytes


@pytest.mark.parametrize(
    ("make", "changes", "sentence"),
    [
        (tagger, {"projection": 5}, "tagger: projection is 5, expected less than hidden, which is 5"),
        (tagger, {"labels": ("a",)}, "tagger: got 1 labels, expected 3, one for each class"),
        (forecaster, {"targets": 0}, "forecaster: targets is 0, expected an integer from 1 to 16384"),
        (language_model, {"tokens": 1}, "language model: tokens is 1, expected an integer from 2 to 1000000"),
        (language_model, {"vocabulary": ("a",)}, "language model: got 1 vocabulary, expected 5, one for each token"),
        (
            language_model,
            {"tied": True},
            "language model: tied embeddings need an embedding of the recurrent output's size, 6 (projection, else "
            "hidden), got 3",
        ),
    ],
)
def test_a_wrong_configuration_gets_one_sentence(make, changes, sentence):
    with pytest.raises(InputError, match="^" + re.escape(sentence) + "$"):
        make(**changes)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ({"kind": "emoji", "unknown": None, "end": None, "tokenizer": None}, "language model: text is"),
        ([1], "language model: text is"),
        ({"kind": "byte", "unknown": 3, "end": None, "tokenizer": None}, "language model: text.unknown is 3, expected"),
    ],
)
def test_a_damaged_text_in_a_configuration_is_refused(text, sentence):
    values = language_model().config.to_json() | {"text": text}
    with pytest.raises(InputError, match="^" + re.escape(sentence)):
        LanguageModelConfig.from_json(values)
