"""The parity table: named LSTM cases, their seeded layers and inputs, and what the equations answer.

Sizes make mistakes visible: hidden differs from input, batch from time, weights, biases and states are all random.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from lstm_edge import reference
from lstm_edge.layers import LSTM

__all__ = [
    "CASES",
    "Answer",
    "LstmCase",
    "build_layer",
    "case_inputs",
    "case_named",
    "case_weights",
    "layer_answer",
    "reference_answer",
]

Float64 = npt.NDArray[np.float64]
# "y": [T, B, D*P], "h": [L*D, B, P], "c": [L*D, B, H]
Answer = dict[str, npt.NDArray[np.floating]]


@dataclass(frozen=True, kw_only=True)
class LstmCase:
    """One row of the table. ``lengths`` has ``batch`` entries or is None; ``state`` False means zeros."""

    name: str
    input: int = 3
    hidden: int = 5
    layers: int = 1
    bidirectional: bool = False
    peephole: Literal["none", "diagonal", "full"] = "none"
    projection: int = 0
    bias: bool = True
    batch: int = 2
    time: int = 7
    lengths: tuple[int, ...] | None = None
    state: bool = True

    def __str__(self) -> str:
        return self.name


CASES = (
    LstmCase(name="standard"),
    LstmCase(name="standard-zero-state", state=False),
    LstmCase(name="standard-no-bias", bias=False, batch=3, time=4),
    LstmCase(name="standard-batch-1", batch=1, time=6),
    LstmCase(name="standard-one-step", batch=4, time=1),
    LstmCase(name="standard-one-step-batch-1", batch=1, time=1, layers=2),
    LstmCase(name="standard-2-layers", layers=2, batch=3, time=5),
    LstmCase(name="standard-3-layers", layers=3, input=6, hidden=4),
    LstmCase(name="standard-wide", input=48, hidden=64, layers=2, batch=4, time=20),
    LstmCase(name="standard-lengths", batch=4, lengths=(7, 2, 5, 1)),
    LstmCase(name="standard-lengths-zero", layers=2, batch=3, time=5, lengths=(0, 5, 3)),
    LstmCase(name="standard-lengths-all-zero", batch=2, time=3, lengths=(0, 0)),
    LstmCase(name="bidirectional", bidirectional=True, batch=3, time=6),
    LstmCase(name="bidirectional-2-layers", bidirectional=True, layers=2),
    LstmCase(name="bidirectional-3-layers-no-bias", bidirectional=True, layers=3, bias=False, state=False),
    LstmCase(name="bidirectional-lengths", bidirectional=True, layers=2, batch=3, time=8, lengths=(4, 8, 1)),
    LstmCase(name="bidirectional-lengths-zero", bidirectional=True, batch=4, time=6, lengths=(0, 6, 3, 0)),
    LstmCase(name="projection", hidden=6, projection=2, batch=3, time=5),
    LstmCase(name="projection-2-layers-bidirectional", hidden=6, projection=4, layers=2, bidirectional=True),
    LstmCase(name="projection-lengths", hidden=7, projection=3, batch=4, time=6, lengths=(6, 0, 2, 5)),
    LstmCase(name="diagonal", peephole="diagonal"),
    LstmCase(name="diagonal-zero-state-no-bias", peephole="diagonal", state=False, bias=False, batch=3, time=4),
    LstmCase(name="diagonal-one-step-batch-1", peephole="diagonal", batch=1, time=1),
    LstmCase(name="diagonal-2-layers-bidirectional", peephole="diagonal", layers=2, bidirectional=True, batch=3),
    LstmCase(name="diagonal-lengths", peephole="diagonal", bidirectional=True, batch=3, time=5, lengths=(5, 0, 3)),
    LstmCase(name="diagonal-projection", peephole="diagonal", hidden=6, projection=2, batch=3, time=5),
    LstmCase(name="full", peephole="full"),
    LstmCase(name="full-zero-state-no-bias", peephole="full", state=False, bias=False, batch=3, time=4),
    LstmCase(name="full-one-step", peephole="full", batch=3, time=1),
    LstmCase(name="full-batch-1", peephole="full", batch=1, time=9),
    LstmCase(name="full-3-layers", peephole="full", layers=3, batch=3, time=5),
    LstmCase(name="full-2-layers-bidirectional", peephole="full", layers=2, bidirectional=True, batch=3, time=5),
    LstmCase(name="full-lengths", peephole="full", layers=2, batch=4, time=6, lengths=(3, 6, 0, 1)),
    LstmCase(name="full-lengths-bidirectional", peephole="full", bidirectional=True, batch=3, lengths=(7, 4, 2)),
    LstmCase(
        name="full-projection-lengths",
        peephole="full",
        hidden=6,
        projection=4,
        layers=2,
        bidirectional=True,
        batch=3,
        time=5,
        lengths=(2, 5, 0),
    ),
    LstmCase(name="full-wide", peephole="full", input=24, hidden=40, batch=3, time=16),
)


def case_named(name: str) -> LstmCase:
    """Return the case of that name."""
    return next(case for case in CASES if case.name == name)


def build_layer(case: LstmCase) -> LSTM:
    """Build the case's float32 layer in eval mode, every weight, bias and peephole random, the same at each call.

    Matrices have standard deviation 1 / sqrt(columns), so that each of a gate's parts is of order one whatever the
    size; biases and peepholes have half that weight: large enough that a wrong one moves an output by over 1e-3.
    """
    layer = LSTM(
        case.input,
        case.hidden,
        case.layers,
        bias=case.bias,
        bidirectional=case.bidirectional,
        proj_size=case.projection,
        peephole=case.peephole,
    )
    generator = _generator(case, "weights")
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            scale = 0.5 if name.startswith(("bias", "weight_ch")) else 1.0
            columns = parameter.shape[1] if parameter.dim() == 2 else 1
            values = generator.standard_normal(tuple(parameter.shape)) * scale / np.sqrt(columns)
            parameter.copy_(torch.from_numpy(values))
    return layer.eval()


def case_inputs(case: LstmCase) -> dict[str, npt.NDArray]:
    """Draw the case's inputs, the same at each call.

    Returns:
        float32 ``x`` [T, B, I], ``h`` [L*D, B, P or H], ``c`` [L*D, B, H] (zeros without ``case.state``), and int64
        ``lengths`` [B] where the case has them.
    """
    generator = _generator(case, "inputs")
    count = case.layers * (2 if case.bidirectional else 1)
    scale = 1.0 if case.state else 0.0
    inputs: dict[str, npt.NDArray] = {
        "x": generator.standard_normal((case.time, case.batch, case.input)).astype(np.float32),
        "h": (scale * generator.uniform(-0.9, 0.9, (count, case.batch, case.projection or case.hidden))).astype(
            np.float32
        ),
        "c": (scale * generator.standard_normal((count, case.batch, case.hidden))).astype(np.float32),
    }
    if case.lengths is not None:
        inputs["lengths"] = np.array(case.lengths, dtype=np.int64)
    return inputs


def case_weights(case: LstmCase) -> dict[str, Float64]:
    """Return the case's weights by ``nn.LSTM``'s names, float64."""
    return {name: value.double().numpy() for name, value in build_layer(case).state_dict().items()}


def reference_answer(
    case: LstmCase,
    *,
    weights: Mapping[str, npt.NDArray] | None = None,
    inputs: Mapping[str, npt.NDArray] | None = None,
) -> Answer:
    """Run the equations on the case, or on other weights or inputs of its sizes: float64 y, h and c."""
    given = case_inputs(case) if inputs is None else inputs
    y, (h, c) = reference.lstm(
        given["x"],
        case_weights(case) if weights is None else weights,
        hidden_size=case.hidden,
        num_layers=case.layers,
        bidirectional=case.bidirectional,
        peephole=case.peephole,
        proj_size=case.projection,
        state=(given["h"], given["c"]),
        lengths=given.get("lengths"),
    )
    return {"y": y, "h": h, "c": c}


def layer_answer(case: LstmCase, *, dtype: torch.dtype = torch.float32) -> Answer:
    """Run our layer on the case, in the given dtype: y, h and c."""
    given = {name: torch.from_numpy(value) for name, value in case_inputs(case).items()}
    layer = build_layer(case).to(dtype)
    state = (given["h"].to(dtype), given["c"].to(dtype))
    with torch.no_grad():
        y, (h, c) = layer(given["x"].to(dtype), state, given.get("lengths"))
    return {"y": y.numpy(), "h": h.numpy(), "c": c.numpy()}


def _generator(case: LstmCase, purpose: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(f"{case.name}/{purpose}".encode()))
