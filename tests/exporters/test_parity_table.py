"""The parity table: onnxruntime runs each case's file and gives the reference equations' answers and states.

The files are traced at another shape than any case has, and each runs at the case's shape and at a second one.
"""

from dataclasses import replace

import numpy as np
import pytest
from support.cases import CASES, LstmCase, case_inputs, case_weights, reference_answer
from support.networks import structure, structure_bytes

from lstm_edge_exporters.verify.compare import CLOSE, assert_close
from lstm_edge_runtime.errors import ProviderError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State

pytestmark = pytest.mark.slow

# Cases of one structure share one file, that of the first of them, and so its weights.
REPRESENTATIVES = {structure(case): case.name for case in reversed(CASES)}
CASE_OF = {case.name: case for case in CASES}


def open_case(case: LstmCase, provider: str) -> Session:
    try:
        return Session(structure_bytes(REPRESENTATIVES[structure(case)]), provider=provider)
    except ProviderError as error:
        if provider == "cpu":
            raise
        pytest.skip(f"no {provider} here: {error}")


def other_shape(case: LstmCase) -> LstmCase:
    """The same layers at another batch and length, ragged and with an empty row where the case has lengths."""
    lengths = (5, 0, 9, 1, 8) if case.lengths is not None else None
    return replace(case, name=f"{case.name}/other", batch=5, time=9, lengths=lengths, state=True)


def state_of(session: Session, case: LstmCase, inputs: dict) -> State:
    """PyTorch's stacked h and c, cut into the file's explicit states."""
    D = 2 if case.bidirectional else 1
    arrays = {spec.input: inputs[spec.kind][spec.layer * D : (spec.layer + 1) * D] for spec in session.states}
    return State.from_arrays(session.states, arrays)


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_onnxruntime_gives_the_references_answer(case: LstmCase, provider: str) -> None:
    session = open_case(case, provider)
    weights = case_weights(CASE_OF[REPRESENTATIVES[structure(case)]])
    for shaped in (case, other_shape(case)):
        inputs = case_inputs(shaped)
        expected = reference_answer(shaped, weights=weights, inputs=inputs)
        outputs, state = session.run(
            inputs["x"], state_of(session, case, inputs), inputs.get("lengths") if case.lengths is not None else None
        )
        got = {**outputs, "h": state.stacked("h"), "c": state.stacked("c")}
        assert set(got) == {"output", "h", "c"}
        for name, part in (("y", "output"), ("h", "h"), ("c", "c")):
            assert_close(f"{shaped}: {name}", got[part], expected[name].astype(np.float32), CLOSE)


def test_the_table_shares_files_only_between_equal_structures() -> None:
    assert len(REPRESENTATIVES) < len(CASES)
    for case in CASES:
        representative = CASE_OF[REPRESENTATIVES[structure(case)]]
        assert replace(
            case,
            name="",
            batch=1,
            time=1,
            state=True,
            lengths=None if case.lengths is None else (1,),
        ) == replace(
            representative,
            name="",
            batch=1,
            time=1,
            state=True,
            lengths=None if representative.lengths is None else (1,),
        )
