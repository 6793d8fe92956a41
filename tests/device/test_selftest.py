"""The self-test tells a device that gives the right answers from one that does not."""

import dataclasses
import json

import numpy as np
import pytest

from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.golden import Golden, GoldenVector, decode_golden, encode_golden
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session


def altered(session, change) -> Session:
    """A session whose golden vectors were changed: as if the device computed something else."""
    golden = session.golden()
    vector = golden.vectors[0]
    new = dataclasses.replace(golden, vectors=(change(vector), *golden.vectors[1:]))
    text = encode_golden(new)
    session.golden = lambda: decode_golden(text)
    return session


def with_output(name, edit):
    def change(vector):
        array = vector.outputs[name].copy()
        edit(array)
        return dataclasses.replace(vector, outputs=dict(vector.outputs) | {name: array})

    return change


@pytest.mark.parametrize("name", ["tagger", "lengths", "bidirectional", "two_inputs", "last_step", "quantized"])
def test_every_model_passes_its_own_vectors(models, name):
    report = self_test(models / f"{name}.onnx")
    assert report.passed
    assert report.worst <= report.tolerance == 1e-5
    assert (report.vectors, report.kind, report.verified) == (2, "bodies", True)
    session = Session(models / f"{name}.onnx")
    expected = {spec.name for spec in session.outputs} | {spec.output for spec in session.states}
    assert {difference.name for difference in report.outputs} == expected


def test_a_difference_past_the_tolerance_fails_and_is_located(models):
    def edit(array):
        array.reshape(-1)[7] += 2e-5

    report = self_test(altered(Session(models / "tagger.onnx"), with_output("lstm.1.c_out", edit)))
    assert not report.passed
    assert report.worst == pytest.approx(2e-5, rel=0.1)  # 2e-5 plus a last bit of float32
    (worst,) = [d for d in report.outputs if d.max_abs_difference == report.worst]
    assert (worst.name, worst.vector, worst.index) == ("lstm.1.c_out", 0, 7)


def test_a_difference_within_the_tolerance_passes(models):
    def edit(array):
        array += np.float32(5e-6)

    report = self_test(altered(Session(models / "tagger.onnx"), with_output("logits", edit)))
    assert report.passed
    assert report.worst > 4e-6


def with_tolerances(session, **tolerances) -> Session:
    text = encode_golden(dataclasses.replace(session.golden(), **tolerances))
    session.golden = lambda: decode_golden(text)
    return session


def test_each_output_has_its_own_tolerance(models):
    """Within the file's tolerance, which a large cell state scales, but not within that of the answers."""

    def edit(array):
        array += np.float32(1e-4)

    def session(name):
        return altered(Session(models / "tagger.onnx"), with_output(name, edit))

    tolerances = {"tolerance_bodies": 1e-3, "tolerance_outputs": {"logits": 1e-5}}
    report = self_test(with_tolerances(session("logits"), **tolerances))
    assert (report.passed, report.tolerance) == (False, 1e-5)
    assert report.worst == pytest.approx(1e-4, rel=0.1)
    report = self_test(with_tolerances(session("lstm.0.c_out"), **tolerances))
    assert (report.passed, report.tolerance) == (True, 1e-3)
    assert {output.name: output.tolerance for output in report.outputs}["logits"] == 1e-5
    report = self_test(with_tolerances(session("logits"), tolerance_outputs={"logits": 0.0}))
    assert (report.passed, report.tolerance) == (False, 0.0)


def test_nan_never_passes(models):
    def edit(array):
        array[0, 0, 0] = np.nan

    report = self_test(altered(Session(models / "tagger.onnx"), with_output("logits", edit)))
    assert not report.passed
    assert report.worst == np.inf
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["worst"] is None


def test_another_shape_never_passes(models):
    def change(vector):
        return dataclasses.replace(vector, outputs=dict(vector.outputs) | {"logits": vector.outputs["logits"][:1]})

    assert self_test(altered(Session(models / "tagger.onnx"), change)).worst == np.inf


def test_a_sampled_output_is_compared_by_its_sample(models):
    session = Session(models / "tagger.onnx")
    x = np.random.default_rng(2).normal(size=(3, 700, 3)).astype(np.float32)
    outputs, _ = session.run(x)
    golden = Golden(
        vectors=(GoldenVector(inputs={"x": x[:, :400]}, outputs={"logits": session.run(x[:, :400])[0]["logits"]}),),
        tolerance_bodies=1e-5,
        tolerance_kernels=1e-5,
    )
    text = encode_golden(golden)
    assert outputs["logits"].size > 4096
    assert decode_golden(text).vectors[0].strides["logits"] > 1
    session.golden = lambda: decode_golden(text)
    assert self_test(session).passed


def test_a_vector_that_is_not_of_this_model_is_refused(models):
    def change(vector):
        return dataclasses.replace(vector, outputs=dict(vector.outputs) | {"other": np.zeros(1, np.float32)})

    with pytest.raises(ArtifactError, match="golden vector 0 has the output 'other', which the model lacks"):
        self_test(altered(Session(models / "tagger.onnx"), change))


def test_a_file_without_vectors_says_so(models):
    with pytest.raises(ArtifactError, match="carries no golden vectors: export it with lstm-edge"):
        self_test((models / "no_card.onnx").read_bytes())
