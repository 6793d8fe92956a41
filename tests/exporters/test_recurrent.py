"""What a recurrent layer is: nn.LSTM and our layers described, everything else refused or passed over."""

import numpy as np
import pytest
import torch
from support.cases import CASES, LstmCase, build_layer
from torch import nn

from lstm_edge_exporters.pytorch.recurrent import Direction, Recurrence, RecurrentLayer, describe
from lstm_edge_runtime.errors import CaptureError


@pytest.mark.parametrize("case", CASES, ids=str)
def test_our_layer_describes_itself(case: LstmCase) -> None:
    module = build_layer(case)
    recurrence = describe(module)
    assert recurrence is not None
    assert not recurrence.batch_first
    assert len(recurrence.layers) == case.layers
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    for k, layer in enumerate(recurrence.layers):
        sizes = (layer.hidden_size, layer.projection_size, layer.peephole, layer.output_size)
        assert sizes == (case.hidden, case.projection, case.peephole, case.projection or case.hidden)
        suffixes = ("", "_reverse") if case.bidirectional else ("",)
        for direction, suffix in zip(layer.directions, suffixes, strict=True):
            end = f"_l{k}{suffix}"
            zeros = np.zeros(4 * case.hidden, dtype=np.float32)
            peephole = weights.get(f"weight_ch{end}")
            expected = {
                "w_x": weights[f"weight_ih{end}"],
                "w_h": weights[f"weight_hh{end}"],
                "b_x": weights.get(f"bias_ih{end}", zeros),
                "b_h": weights.get(f"bias_hh{end}", zeros),
                "peephole_diagonal": peephole if case.peephole == "diagonal" else None,
                "peephole_full": peephole if case.peephole == "full" else None,
                "projection": weights.get(f"weight_hr{end}"),
            }
            for name, value in expected.items():
                if value is None:
                    assert getattr(direction, name) is None
                else:
                    np.testing.assert_array_equal(getattr(direction, name), value, strict=True)


def test_nn_lstm_is_read_and_copied() -> None:
    module = nn.LSTM(3, 5, 2, batch_first=True, bidirectional=True, proj_size=2)
    recurrence = describe(module)
    assert recurrence is not None
    assert recurrence.batch_first
    assert [layer.input_size for layer in recurrence.layers] == [3, 4]
    with torch.no_grad():
        before = module.weight_hh_l1_reverse.numpy().copy()
        module.weight_hh_l1_reverse.zero_()
    np.testing.assert_array_equal(recurrence.layers[1].directions[1].w_h, before, strict=True)


@pytest.mark.parametrize("module", [nn.Linear(3, 5), nn.Sequential(nn.LSTM(3, 5)), nn.Embedding(3, 5)])
def test_other_modules_are_not_recurrent(module: nn.Module) -> None:
    assert describe(module) is None


def test_other_recurrent_layers_are_refused_by_name() -> None:
    class Third(nn.RNNCellBase):
        pass

    with pytest.raises(CaptureError, match=r"\.Third is a recurrent layer of a kind that this version does not export"):
        describe(Third(3, 5, True, 1))


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_rnns_are_read(nonlinearity: str) -> None:
    stack = describe(nn.RNN(3, 5, 2, batch_first=True, bidirectional=True, nonlinearity=nonlinearity))
    cell = describe(nn.RNNCell(3, 5, bias=False, nonlinearity=nonlinearity))
    assert stack is not None
    assert cell is not None
    assert [(layer.cell, layer.activation, layer.input_size) for layer in stack.layers] == [
        ("rnn", nonlinearity, 3),
        ("rnn", nonlinearity, 10),
    ]
    assert [layer.state_sizes for layer in cell.layers] == [{"h": 5}]
    assert cell.single_step
    assert not cell.layers[0].directions[0].b_h.any()


def test_an_activation_that_is_unknown_or_of_another_cell_is_refused() -> None:
    rnn = nn.RNN(3, 5)
    rnn.nonlinearity = "sigmoid"
    with pytest.raises(CaptureError, match=r"^recurrent layer: activation of cell 'rnn' is 'sigmoid', expected 'tanh'"):
        describe(rnn)
    with pytest.raises(CaptureError, match=r"^recurrent layer: activation of cell 'lstm' is 'relu', expected 'tanh'"):
        RecurrentLayer(input_size=3, hidden_size=5, activation="relu", directions=(direction(),))
    with pytest.raises(CaptureError, match=r"^recurrent layer: an RNN has neither peepholes nor a projection$"):
        RecurrentLayer(input_size=3, hidden_size=5, cell="rnn", projection_size=2, directions=(direction(),))


def test_a_subclass_with_equations_of_its_own_is_refused() -> None:
    class Doubled(nn.LSTM):
        def forward(self, *args):
            return super().forward(*args)

    with pytest.raises(CaptureError, match=r"Doubled changes nn\.LSTM's forward, so its equations are unknown"):
        describe(Doubled(3, 5))


def test_a_foreign_layer_may_describe_itself() -> None:
    class Own(nn.Module):
        def __init__(self, value) -> None:
            super().__init__()
            self.value = value

        def describe_recurrence(self):
            return self.value

    recurrence = describe(nn.LSTM(3, 5))
    assert describe(Own(recurrence)) is recurrence
    with pytest.raises(CaptureError, match=r"Own\.describe_recurrence\(\) returned int, expected Recurrence$"):
        describe(Own(3))


def test_other_dtypes_are_refused() -> None:
    message = r"^weight_ih_l0 is torch\.float64, expected torch\.float32: call \.float\(\) on the module before export$"
    with pytest.raises(CaptureError, match=message):
        describe(nn.LSTM(3, 5).double())


def direction(**changes) -> Direction:
    shapes = {"w_x": (20, 3), "w_h": (20, 5), "b_x": (20,), "b_h": (20,)}
    return Direction(**{**{name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"w_x": np.zeros((20, 4), np.float32)}, r"w_x is float32 \(20, 4\), expected float32 \(20, 3\)"),
        ({"w_h": np.zeros((20, 5))}, r"w_h is float64 \(20, 5\), expected float32 \(20, 5\)"),
        ({"b_x": np.zeros((20, 1), np.float32)}, r"b_x is float32 \(20, 1\), expected float32 \(20,\)"),
        ({"b_h": None}, r"b_h is None, expected float32 \(20,\)"),
        ({"peephole_diagonal": np.zeros(15, np.float32)}, r"peephole_diagonal is float32 \(15,\), expected None"),
        ({"projection": np.zeros((2, 5), np.float32)}, r"projection is float32 \(2, 5\), expected None"),
    ],
)
def test_wrong_arrays_are_refused_by_name(changes: dict, message: str) -> None:
    with pytest.raises(CaptureError, match=rf"^recurrent layer: directions\[1\]\.{message}$"):
        RecurrentLayer(input_size=3, hidden_size=5, directions=(direction(), direction(**changes)))


def test_missing_peepholes_and_wrong_stacks_are_refused() -> None:
    with pytest.raises(CaptureError, match=r"directions\[0\]\.peephole_full is None, expected float32 \(20, 5\)$"):
        RecurrentLayer(input_size=3, hidden_size=5, peephole="full", directions=(direction(),))
    with pytest.raises(CaptureError, match=r"^recurrent layer: got 0 directions, expected 1 or 2$"):
        RecurrentLayer(input_size=3, hidden_size=5, directions=())
    layer = RecurrentLayer(input_size=3, hidden_size=5, directions=(direction(),))
    with pytest.raises(CaptureError, match=r"^recurrence: layers\[1\]\.input_size is 3, expected 5, the output width"):
        Recurrence(layers=(layer, layer))
    with pytest.raises(CaptureError, match=r"^recurrence: got no layers, expected at least one$"):
        Recurrence(layers=())
