"""Whole files on kernels: every case of the parity table as float32 where it has our operators, int8 and int4."""

from functools import cache

import numpy as np
import pytest
from support.cases import CASES, LstmCase, case_inputs, case_weights, reference_answer
from support.networks import NETWORKS, exported, random_inputs, random_network_state, snr_db, structure, structure_bytes

from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_exporters.verify.compare import CLOSE, assert_close
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State

# Cases of one structure share one file, that of the first of them, and so its weights.
REPRESENTATIVES = {structure(case): case.name for case in reversed(CASES)}
CASE_OF = {case.name: case for case in CASES}
# One step of a rounding of h, carried through a few steps and layers: at most a few percent of outputs of order one.
FLIP = 5e-2


@cache
def file_of(name: str, scheme: str) -> bytes:
    data = structure_bytes(name)
    return data if scheme == "float32" else quantize_bytes(data, scheme=scheme).data


@cache
def session_of(name: str, scheme: str, kernels: str) -> Session:
    return Session(file_of(name, scheme), kernels=kernels)


def run(session: Session, case: LstmCase):
    inputs = case_inputs(case)
    D = 2 if case.bidirectional else 1
    arrays = {spec.input: inputs[spec.kind][spec.layer * D : (spec.layer + 1) * D] for spec in session.states}
    outputs, state = session.run(inputs["x"], State.from_arrays(session.states, arrays), inputs.get("lengths"))
    return {"y": outputs["output"], "h": state.stacked("h"), "c": state.stacked("c")}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_float32_parity_case_on_kernels_against_the_equations(library, case: LstmCase) -> None:
    name = REPRESENTATIVES[structure(case)]
    kernels = session_of(name, "float32", "auto")
    ours = case.peephole == "full" or case.projection > 0
    assert (kernels.kernels is not None) == ours  # other float32 cells are ONNX's own LSTM
    got = run(kernels, case)
    reference = reference_answer(case, weights=case_weights(CASE_OF[name]), inputs=case_inputs(case))
    for part, want in reference.items():
        assert_close(f"{case} on kernels: {part}", got[part], want.astype(np.float32), CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["int8", "int4"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_quantized_parity_case_on_kernels_and_on_bodies(library, case: LstmCase, scheme: str) -> None:
    name = REPRESENTATIVES[structure(case)]
    kernels, bodies = (session_of(name, scheme, choice) for choice in ("auto", "off"))
    assert kernels.kernels is not None
    got, expected = run(kernels, case), run(bodies, case)
    differences = np.concatenate([np.abs(got[part] - expected[part]).ravel() for part in expected])
    assert np.median(differences) < 1e-6
    assert differences.max() < FLIP


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", ["tagger", "language-model", "full-projected-bidirectional", "last-step"])
@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_a_quantized_network_runs_whole_on_kernels(library, name: str, scheme: str) -> None:
    assert name in NETWORKS
    data = quantize_bytes(exported(name), scheme=scheme).data
    session, bodies = Session(data, kernels="required"), Session(data, kernels="off")
    assert self_test(session).passed
    for batch, time in ((1, 1), (3, 8)):
        inputs, state = random_inputs(session, batch, time), random_network_state(session, batch)
        outputs, last = session.run(inputs, state)
        expected, expected_last = bodies.run(inputs, state)
        for part, want in {**expected, **expected_last}.items():
            # Kernels and bodies are the same arithmetic except for flips, which leave 30 dB and more.
            assert snr_db(want, {**outputs, **last}[part]) > 30
