"""The PyTorch layer: initialization, lengths, gradients, dropout, state dicts, refusals; parity: test_reference."""

import copy
import math

import numpy as np
import pytest
import torch
from support.cases import build_layer, case_inputs, case_named
from torch import nn

from lstm_edge.layers import LSTM
from lstm_edge_exporters.verify.compare import EXACT, FLOAT64, assert_close
from lstm_edge_runtime.errors import InputError

PEEPHOLES = ("none", "diagonal", "full")


def arrays(result) -> dict[str, np.ndarray]:
    y, (h, c) = result
    return {"y": y.detach().numpy(), "h": h.detach().numpy(), "c": c.detach().numpy()}


def assert_same(got, expected, tolerance=EXACT) -> None:
    left, right = arrays(got), arrays(expected)
    for part in ("y", "h", "c"):
        assert_close(part, left[part], right[part], tolerance)


@pytest.mark.parametrize("peephole", PEEPHOLES)
@pytest.mark.parametrize("projection", [0, 3])
def test_default_initialization(peephole: str, projection: int) -> None:
    torch.manual_seed(7)
    H = 16
    layer = LSTM(5, H, 2, bidirectional=True, proj_size=projection, peephole=peephole)
    kinds = {"bias_ih", "bias_hh", "weight_hh", "weight_ih"} | ({"weight_ch"} if peephole != "none" else set())
    kinds |= {"weight_hr"} if projection else set()
    assert {name.rsplit("_l", 1)[0] for name in layer.state_dict()} == kinds
    for name, value in layer.state_dict().items():
        if name.startswith("bias_ih"):
            expected = torch.zeros(4 * H)
            expected[H : 2 * H] = 1.0
            assert torch.equal(value, expected), name
        elif name.startswith("bias_hh"):
            assert torch.equal(value, torch.zeros(4 * H)), name
        elif name.startswith("weight_hh"):
            for gate in value.chunk(4):
                # Square: orthogonal. With a projection [H, P], P < H: orthonormal columns. float32, 16 terms.
                torch.testing.assert_close(gate.T @ gate, torch.eye(projection or H), atol=2e-6, rtol=0)
        elif name.startswith("weight_ih"):
            limit = math.sqrt(6.0 / (H + value.shape[1]))
            assert 0.8 * limit < value.abs().max() <= limit, name
        elif name.startswith("weight_ch"):
            deviation = 0.1 if peephole == "diagonal" else 0.1 / math.sqrt(H)
            # 48 or 1024 draws: five standard errors are at most half the deviation.
            assert value.std() == pytest.approx(deviation, rel=0.5), name
            assert value.shape == ((3 * H,) if peephole == "diagonal" else (4 * H, H))


def test_initialization_follows_the_seed() -> None:
    torch.manual_seed(3)
    first = LSTM(3, 5, peephole="full").state_dict()
    torch.manual_seed(3)
    second = LSTM(3, 5, peephole="full").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_state_dicts_interchange_with_nn_lstm() -> None:
    layer = LSTM(3, 5, 2, bidirectional=True, proj_size=2, batch_first=True)
    stock = nn.LSTM(3, 5, 2, bidirectional=True, proj_size=2, batch_first=True)
    stock.load_state_dict(layer.state_dict())
    x = torch.randn(2, 7, 3)
    assert_same(layer(x), stock(x))
    layer.load_state_dict(nn.LSTM(3, 5, 2, bidirectional=True, proj_size=2).state_dict())


@pytest.mark.parametrize("peephole", PEEPHOLES)
def test_batch_first_and_one_sequence_without_a_batch_axis(peephole: str) -> None:
    layer = LSTM(3, 5, 2, bidirectional=True, peephole=peephole).double()
    first = LSTM(3, 5, 2, bidirectional=True, peephole=peephole, batch_first=True).double()
    first.load_state_dict(layer.state_dict())
    x, h, c = (torch.randn(*shape, dtype=torch.float64) for shape in ((7, 2, 3), (4, 2, 5), (4, 2, 5)))
    for lengths in (None, torch.tensor([3, 7])):
        y, state = first(x.transpose(0, 1).contiguous(), (h, c), lengths)
        assert_same((y.transpose(0, 1), state), layer(x, (h, c), lengths), FLOAT64)
    y, (h_n, c_n) = layer(x[:, 1], (h[:, 1].contiguous(), c[:, 1].contiguous()))
    expected_y, (expected_h, expected_c) = layer(x, (h, c))
    assert_same((y, (h_n, c_n)), (expected_y[:, 1], (expected_h[:, 1], expected_c[:, 1])), FLOAT64)


@pytest.mark.parametrize("peephole", PEEPHOLES)
def test_full_lengths_change_nothing_and_no_state_is_zeros(peephole: str) -> None:
    layer = LSTM(3, 5, 2, bidirectional=True, proj_size=2, peephole=peephole).double()
    x = torch.randn(6, 4, 3, dtype=torch.float64)
    zeros = (torch.zeros(4, 4, 2, dtype=torch.float64), torch.zeros(4, 4, 5, dtype=torch.float64))
    assert_same(layer(x, None, torch.full((4,), 6)), layer(x, zeros), FLOAT64)
    assert_same(layer(x), layer(x, zeros), FLOAT64)


@pytest.mark.parametrize("peephole", PEEPHOLES)
def test_padding_never_matters_not_even_nan_nor_in_gradients(peephole: str) -> None:
    layer = LSTM(3, 5, 2, bidirectional=True, peephole=peephole)
    x = torch.randn(6, 3, 3)
    lengths = torch.tensor([2, 0, 6], dtype=torch.int32)
    spoiled = x.clone()
    spoiled[2:, 0] = math.nan
    spoiled[:, 1] = math.inf
    assert_same(layer(spoiled, None, lengths), layer(x, None, lengths))
    y, (h, c) = layer(spoiled, None, lengths)
    (y.sum() + h.sum() + c.sum()).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in layer.parameters())


@pytest.mark.parametrize("peephole", PEEPHOLES)
def test_length_0_keeps_the_initial_state_to_the_bit(peephole: str) -> None:
    layer = LSTM(3, 5, bidirectional=True, peephole=peephole)
    h, c = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    y, (h_n, c_n) = layer(torch.randn(4, 3, 3), (h, c), torch.tensor([0, 4, 0]))
    assert torch.equal(h_n[:, [0, 2]], h[:, [0, 2]])
    assert torch.equal(c_n[:, [0, 2]], c[:, [0, 2]])
    assert torch.equal(y[:, [0, 2]], torch.zeros(4, 2, 10))
    assert not torch.equal(h_n[:, 1], h[:, 1])


@pytest.mark.slow
@pytest.mark.parametrize("peephole", PEEPHOLES)
@pytest.mark.parametrize("lengths", [None, (3, 0)], ids=["whole", "lengths"])
def test_gradients_of_inputs_states_and_weights(peephole: str, lengths: tuple[int, ...] | None) -> None:
    torch.manual_seed(11)
    layer = LSTM(2, 3, bidirectional=True, proj_size=2, peephole=peephole).double()
    names = [name for name, _ in layer.named_parameters()]
    shapes = ((3, 2, 2), (2, 2, 2), (2, 2, 3))
    x, h, c = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    rows = None if lengths is None else torch.tensor(lengths)

    def run(x, h, c, *values):
        parameters = dict(zip(names, values, strict=True))
        y, (h_n, c_n) = torch.func.functional_call(layer, parameters, (x, (h, c), rows))
        return y, h_n, c_n

    weights = [parameter.detach().clone().requires_grad_() for parameter in layer.parameters()]
    assert torch.autograd.gradcheck(run, (x, h, c, *weights))


def test_a_few_steps_of_training_lower_the_loss_and_move_the_peepholes() -> None:
    torch.manual_seed(5)
    layer = LSTM(3, 6, peephole="full", proj_size=2)
    before = layer.weight_ch_l0.detach().clone()
    x, target = torch.randn(8, 4, 3), torch.zeros(8, 4, 2)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    losses = []
    for _ in range(20):
        loss = (layer(x)[0] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert (layer.weight_ch_l0.detach() - before).abs().max() > 1e-3


@pytest.mark.parametrize("peephole", PEEPHOLES)
def test_dropout_acts_between_layers_and_only_in_training(peephole: str) -> None:
    layer = LSTM(3, 5, 2, dropout=1.0, peephole=peephole).double()
    plain = LSTM(3, 5, 2, peephole=peephole).double()
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    assert_same(layer.eval()(x), plain(x))
    # Everything dropped: the second layer sees zeros, and its own output is not dropped.
    second = LSTM(5, 5, peephole=peephole).double()
    weights = {name.replace("_l1", "_l0"): value for name, value in layer.state_dict().items() if "_l1" in name}
    second.load_state_dict(weights)
    expected, _ = second(torch.zeros(6, 2, 5, dtype=torch.float64))
    y, _ = layer.train()(x)
    assert_close("y", y.detach().numpy(), expected.detach().numpy(), FLOAT64)


@pytest.mark.parametrize("peephole", PEEPHOLES)
def test_copies_answer_alike(peephole: str) -> None:
    layer = LSTM(3, 5, 2, peephole=peephole)
    x = torch.randn(6, 2, 3)
    assert_same(copy.deepcopy(layer)(x), layer(x))


def test_packed_sequences_pass_through_without_peepholes_only() -> None:
    x, lengths = torch.randn(6, 2, 3), torch.tensor([6, 4])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths)
    layer = LSTM(3, 5)
    y, state = layer(packed)
    assert_same((nn.utils.rnn.pad_packed_sequence(y)[0], state), layer(x, None, lengths))
    message = r'^input: got a PackedSequence, which only peephole="none" without lengths takes: '
    with pytest.raises(InputError, match=message):
        LSTM(3, 5, peephole="full")(packed)
    with pytest.raises(InputError, match=message):
        layer(packed, None, lengths)


def test_the_inputs_are_not_written_to() -> None:
    case = case_named("full-lengths")
    given = {name: torch.from_numpy(value) for name, value in case_inputs(case).items()}
    build_layer(case)(given["x"], (given["h"], given["c"]), given["lengths"])
    for name, expected in case_inputs(case).items():
        assert_close(name, given[name].numpy(), expected, EXACT)


def test_repr_names_the_peephole() -> None:
    assert repr(LSTM(3, 5, 2, peephole="full", batch_first=True)) == (
        "LSTM(3, 5, num_layers=2, batch_first=True, peephole='full')"
    )


@pytest.mark.parametrize("peephole", PEEPHOLES)
def test_wrong_inputs_are_refused_with_a_sentence(peephole: str) -> None:
    layer = LSTM(3, 5, peephole=peephole)
    x = torch.zeros(7, 2, 3)
    state = (torch.zeros(1, 2, 5), torch.zeros(1, 2, 5))
    refused = {
        r"input: got shape \(7, 2, 4\), expected \[time, batch, 3\]": (torch.zeros(7, 2, 4),),
        r"input: got shape \(3,\), expected \[time, batch, 3\]": (torch.zeros(3),),
        r"input: got shape \(0, 2, 3\) with no time steps, expected at least one": (torch.zeros(0, 2, 3),),
        r"initial state h: got shape \(1, 1, 5\), expected \(1, 2, 5\)": (x, (torch.zeros(1, 1, 5), state[1])),
        r"initial state c: got shape \(1, 2, 4\), expected \(1, 2, 5\)": (x, (state[0], torch.zeros(1, 2, 4))),
        r"lengths: got \[8, 1\], expected values from 0 to 7": (x, state, torch.tensor([8, 1])),
        r"lengths: got \[-1, 1\], expected values from 0 to 7": (x, state, torch.tensor([-1, 1])),
        r"lengths: got torch.int64 \(3,\), expected torch.int64 \(2,\)": (x, state, torch.tensor([1, 2, 3])),
        r"lengths: got torch.float32 \(2,\), expected torch.int64 \(2,\)": (x, state, torch.tensor([1.0, 2.0])),
        r"lengths: got torch.bool \(2,\), expected torch.int64 \(2,\)": (x, state, torch.tensor([True, True])),
        r"lengths: got them with an input of shape \(7, 3\), which has no batch axis": (
            x[:, 0],
            None,
            torch.tensor([7]),
        ),
    }
    for message, arguments in refused.items():
        with pytest.raises(InputError, match=f"^{message}$"):
            layer(*arguments)
    with pytest.raises(InputError, match=r"^input: got shape \(2, 0, 3\) with no time steps"):
        LSTM(3, 5, peephole=peephole, batch_first=True)(torch.zeros(2, 0, 3))


def test_an_unknown_peephole_is_refused() -> None:
    with pytest.raises(InputError, match=r"^peephole: got 'half', expected none, diagonal or full$"):
        LSTM(3, 5, peephole="half")
