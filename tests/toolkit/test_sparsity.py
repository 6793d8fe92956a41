"""The masks of BlockSparsity: density, schedule, order by magnitude, gates, diagonal, exact zeros."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import lstm_edge
from lstm_edge import BlockSparsity

GATES = {nn.LSTM: "ifgo", nn.GRU: "rzn", nn.RNN: "h", nn.LSTMCell: "ifgo", nn.GRUCell: "rzn", lstm_edge.LSTM: "ifgo"}


def blocks_of(weight, gates):
    """Split a matrix [G * H, K] into {(gate, cell // 16, input // 4): values} with slices, as the format says."""
    hidden = weight.shape[0] // gates
    return {
        (gate, cell, row): weight[gate * hidden + cell : gate * hidden + min(cell + 16, hidden), row : row + 4]
        for gate in range(gates)
        for cell in range(0, hidden, 16)
        for row in range(0, weight.shape[1], 4)
    }


def kept_in(weight, gates):
    return {place for place, values in blocks_of(weight.detach(), gates).items() if bool((values != 0).any())}


def matrices(layer):
    return {name: value for name, value in layer.named_parameters() if name.startswith(("weight_ih", "weight_hh"))}


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(list(GATES)),
    hidden=st.integers(1, 70),
    inputs=st.integers(1, 30),
    density=st.floats(0.01, 1.0),
    seed=st.integers(0, 999),
)
def test_the_blocks_of_the_largest_norms_stay_and_their_number_is_the_rounded_density(
    kind, hidden, inputs, density, seed
):
    torch.manual_seed(seed)
    layer = kind(inputs, hidden)
    before = {name: value.detach().clone() for name, value in matrices(layer).items()}
    sparsity = BlockSparsity(layer, density, end=0)
    sparsity.step()
    gates = len(GATES[kind])
    for name, weight in matrices(layer).items():
        blocks = blocks_of(before[name], gates)
        count = max(1, math.floor(density * len(blocks) + 0.5))
        kept = kept_in(weight, gates)
        assert len(kept) == count
        norms = {place: float(values.double().square().sum()) for place, values in blocks.items()}
        for gate in range(gates):
            mine = [place for place in blocks if place[0] == gate]
            chosen = [place for place in mine if place in kept]
            # No gate takes the blocks of another.
            assert len(chosen) == count // gates + (gate < count % gates)
            least = min((norms[place] for place in chosen), default=math.inf)
            assert least >= max((norms[place] for place in mine if place not in kept), default=0.0)
        for place, values in blocks_of(weight.detach(), gates).items():
            # Kept blocks have their bits, dropped ones are +0.
            expected = blocks[place] if place in kept else torch.zeros_like(values)
            assert values.numpy().tobytes() == expected.numpy().tobytes()
    assert sparsity.fixed


def test_of_equal_blocks_the_lower_number_stays():
    layer = nn.GRU(8, 32)
    with torch.no_grad():
        for weight in matrices(layer).values():
            weight.fill_(0.5)
    BlockSparsity(layer, 0.25, end=0).step()
    # The block number is (gate * 2 + cell // 16) * block rows + input // 4.
    assert kept_in(layer.weight_ih_l0, 3) == {(gate, 0, 0) for gate in range(3)}
    assert kept_in(layer.weight_hh_l0, 3) == {(gate, 0, 4 * row) for gate in range(3) for row in range(4)}


def train(model, sparsity, steps, *, seed=0, optimizer=None):
    """Train on noise; return the density after each step."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=0.01)
    densities = []
    for _ in range(steps):
        x = torch.randn(3, 5, 6, generator=generator, dtype=next(model.parameters()).dtype)
        y, _ = model(x)
        optimizer.zero_grad()
        (y - x.mean()).square().mean().backward()
        optimizer.step()
        sparsity.step()
        densities.append(sparsity.density)
    return densities


def test_the_density_falls_on_the_cubic_curve_and_the_masks_stay():
    torch.manual_seed(0)
    model = nn.GRU(6, 64, batch_first=True)
    sparsity = BlockSparsity(model, 0.25, begin=5, end=25, every=2)
    blocks = 3 * 4 * (2 + 16)
    kept_before, kept_at_end = None, None
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(1, 36):
        [density] = train(model, sparsity, 1, seed=step, optimizer=optimizer)
        # The last change at or before this step: every second one after step 5, then the end.
        at = min(step, 25) if step >= 25 else 5 + max(0, (step - 5) // 2 * 2)
        share = max(0.0, (at - 5) / 20)
        expected = 0.25 + 0.75 * (1 - share) ** 3
        assert abs(density - expected) <= 1 / blocks, step
        kept = {name: kept_in(weight, 3) for name, weight in matrices(model).items()}
        assert sum(map(len, kept.values())) == round(density * blocks)
        if kept_before is not None:
            assert all(kept[name] <= kept_before[name] for name in kept)
        assert sparsity.fixed == (step >= 25)
        kept_at_end = kept if step == 25 else kept_at_end
        kept_before = kept
    assert kept_before == kept_at_end
    assert density == pytest.approx(0.25)


@settings(max_examples=20, deadline=None)
@given(begin=st.integers(0, 6), length=st.integers(0, 12), every=st.integers(1, 5), density=st.floats(0.1, 1.0))
def test_the_schedule_never_rises_and_ends_at_the_density(begin, length, every, density):
    torch.manual_seed(1)
    model = nn.RNN(6, 40, batch_first=True)
    sparsity = BlockSparsity(model, density, begin=begin, end=begin + length, every=every)
    densities = train(model, sparsity, begin + length + 4)
    assert densities == sorted(densities, reverse=True)
    assert all(value == 1.0 for value in densities[: max(0, begin - 1)])
    counts = [max(1, math.floor(density * size + 0.5)) for size in (6, 30)]
    assert [matrix.kept for matrix in sparsity.report().matrices] == counts
    assert len(set(densities[max(0, begin + length - 1) :])) == 1


def test_each_gate_and_each_matrix_has_its_own_density():
    torch.manual_seed(0)
    model = nn.LSTM(24, 32, num_layers=2, bidirectional=True)
    gates = {"i": 0.5, "f": 0.25, "g": 0.75, "o": 1.0}
    BlockSparsity(model, gates, end=0, input_density=0.5).step()
    for name, weight in matrices(model).items():
        kept = kept_in(weight, 4)
        if name.startswith("weight_ih"):
            assert len(kept) == weight.shape[1] // 4 * 8 / 2, name
        else:
            assert [len([place for place in kept if place[0] == gate]) for gate in range(4)] == [8, 4, 12, 16]
    with pytest.raises(lstm_edge.InputError, match="density has no density for gate o of weight_ih_l0"):
        BlockSparsity(model, {"i": 1, "f": 1, "g": 1}, end=0)


@pytest.mark.parametrize("hidden", [32, 40, 65])
def test_the_diagonal_is_kept_within_the_density(hidden):
    torch.manual_seed(0)
    model = nn.GRU(8, hidden)
    with torch.no_grad():
        for gate in model.weight_hh_l0.chunk(3):
            gate.diagonal().mul_(1e-3)
    sparsity = BlockSparsity(model, 0.6, end=0, keep_diagonal=True)
    sparsity.step()
    for gate in model.weight_hh_l0.detach().chunk(3):
        assert bool((gate.diagonal() != 0).all())
    found = sparsity.report().matrices[1]
    assert found.kept == max(1, math.floor(0.6 * found.blocks + 0.5))
    with pytest.raises(lstm_edge.InputError, match="but its diagonal alone has"):
        BlockSparsity(model, 0.05, end=0, keep_diagonal=True)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleDict(
            {"gru": nn.GRU(6, 20, batch_first=True), "lstm": lstm_edge.LSTM(20, 24, proj_size=9)}
        )
        self.linear = nn.Linear(9, 6)

    def forward(self, x):
        y, _ = self.inner["gru"](x)
        y, state = self.inner["lstm"](y)
        return self.linear(y), state


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_module_that_contains_layers_is_pruned_and_the_rest_is_not(dtype):
    torch.manual_seed(0)
    model = Tagger().to(dtype)
    others = {name: value.detach().clone() for name, value in model.named_parameters()}
    sparsity = BlockSparsity(model, 0.4, end=0)
    sparsity.step()
    names = [f"inner.{part}.weight_{kind}_l0" for part in ("gru", "lstm") for kind in ("ih", "hh")]
    assert [matrix.name for matrix in sparsity.report().matrices] == names
    for name, value in model.named_parameters():
        assert torch.equal(value, others[name]) != (name in names), name
        assert value.dtype == dtype
    # R of a projected layer has the projection's inputs.
    assert sparsity.report().matrices[3].inputs == 9


def test_the_report_counts_the_bytes_of_the_file():
    model = nn.LSTM(8, 32)
    sparsity = BlockSparsity(model, 0.5, end=0)
    sparsity.step()
    w, r = sparsity.report().matrices
    assert (w.blocks, w.kept, r.blocks, r.kept) == (16, 8, 64, 32)
    assert (w.sparse_bytes, w.dense_bytes) == (8 * 68 + 128 * 4, 8 * 128 + 128 * 4)
    assert (sparsity.report().sparse_bytes, sparsity.density) == (40 * 68 + 256 * 4, 0.5)
    assert sum(r.kept_by_gate.values()) == 32
    assert str(sparsity.report()).splitlines()[1].startswith("weight_hh_l0: density 0.500 (32 of 64 blocks)")


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, lstm_edge.LSTM])
@pytest.mark.parametrize("cut", [1, 7, 12])
def test_a_resumed_loop_gives_the_same_bits(kind, cut):
    def new():
        torch.manual_seed(3)
        model = kind(6, 33, batch_first=True)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        return model, optimizer, BlockSparsity(model, 0.3, begin=2, end=9, every=2)

    def go(model, optimizer, sparsity, steps):
        for step in steps:
            train(model, sparsity, 1, seed=step, optimizer=optimizer)

    whole = new()
    go(*whole, range(14))
    first = new()
    go(*first, range(cut))
    saved = copy.deepcopy([part.state_dict() for part in first])
    second = new()
    second[0].load_state_dict(saved[0], assign=True)  # replaces the parameters
    second = (second[0], torch.optim.Adam(second[0].parameters(), lr=0.01), second[2])
    for part, state in zip(second[1:], saved[1:], strict=True):
        part.load_state_dict(state)
    go(*second, range(cut, 14))
    for name, value in whole[0].state_dict().items():
        assert value.numpy().tobytes() == second[0].state_dict()[name].numpy().tobytes(), name
    assert second[2].report() == whole[2].report()


def test_the_state_can_be_saved_without_pickles_and_belongs_to_its_settings(tmp_path):
    model = nn.LSTM(6, 33)
    sparsity = BlockSparsity(model, 0.3, end=4)
    sparsity.step()
    torch.save(sparsity.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    BlockSparsity(model, 0.3, end=4).load_state_dict(state)
    with pytest.raises(lstm_edge.InputError, match="the state has end 4, this object has 5"):
        BlockSparsity(model, 0.3, end=5).load_state_dict(state)
    with pytest.raises(
        lstm_edge.InputError, match=r"has \[4, 3, 9\] blocks for weight_hh_l0, this module has \[4, 2, 8\]"
    ):
        BlockSparsity(nn.LSTM(6, 32), 0.3, end=4).load_state_dict(state)
    with pytest.raises(lstm_edge.InputError, match="not one that"):
        BlockSparsity(model, 0.3, end=4).load_state_dict({"steps": 1})


def test_zero_blocks_of_a_sparse_module_stay_zero_where_that_is_asked_for():
    torch.manual_seed(0)
    model = nn.GRU(6, 48, batch_first=True)
    BlockSparsity(model, 0.5, end=0).step()
    kept = {name: kept_in(weight, 3) for name, weight in matrices(model).items()}
    again = copy.deepcopy(model)
    train(model, BlockSparsity(model, 0.5, end=6, keep_zeros=True), 3)
    assert {name: kept_in(weight, 3) for name, weight in matrices(model).items()} == kept
    train(again, BlockSparsity(again, 0.5, end=60), 1)
    assert {name: kept_in(weight, 3) for name, weight in matrices(again).items()} != kept


def test_the_arguments_of_a_mistake_are_named():
    model = nn.LSTM(6, 33)
    for density in (0, -1, 1.5, math.nan, "0.3", True):
        with pytest.raises(
            lstm_edge.InputError, match=r"^sparsity: density is .*, expected a number above 0 and at most 1$"
        ):
            BlockSparsity(model, density, end=0)
    with pytest.raises(lstm_edge.InputError, match="end is 3 and begin is 4"):
        BlockSparsity(model, 0.5, begin=4, end=3)
    with pytest.raises(lstm_edge.InputError, match="every is 0, expected a number of steps, 1 or more"):
        BlockSparsity(model, 0.5, end=3, every=0)
    with pytest.raises(lstm_edge.InputError, match=r"density has the gates \['x'\]"):
        BlockSparsity(model, {"x": 0.5}, end=3)
    with torch.no_grad():
        model.weight_hh_l0[3, 4] = math.nan
    with pytest.raises(lstm_edge.InputError, match="weight_hh_l0 holds NaN or infinity"):
        BlockSparsity(model, 0.5, end=0).step()


def test_the_export_of_a_pruned_module_has_the_same_zero_blocks(tmp_path):
    torch.manual_seed(0)
    model = nn.GRU(6, 33, batch_first=True)
    BlockSparsity(model, 0.3, end=0).step()
    lstm_edge.export(model.eval(), [torch.randn(1, 7, 6)], tmp_path / "m.onnx")
    import onnx
    from onnx import numpy_helper

    arrays = [numpy_helper.to_array(entry) for entry in onnx.load(tmp_path / "m.onnx").graph.initializer]
    zeros = sorted(int((array == 0).sum()) for array in arrays if array.ndim == 3)
    expected = sorted(int((weight == 0).sum()) for weight in matrices(model).values())
    assert zeros == expected
    assert np.all(np.array(expected) > 0)
