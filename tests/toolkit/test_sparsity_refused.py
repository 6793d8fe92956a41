"""Modules whose recurrent weights cannot be pruned are refused with the reason; wrappers are looked into."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import lstm_edge
from lstm_edge import BlockSparsity, InputError


def refused(module, sentence, **options):
    with pytest.raises(InputError, match=sentence):
        BlockSparsity(module, 0.5, end=3, **options)


def test_a_module_without_recurrent_layers():
    refused(nn.Sequential(nn.Linear(3, 4)), r"^sparsity: Sequential contains no nn\.LSTM, nn\.GRU, nn\.RNN")
    own = lstm_edge.Recurrent(nn.Linear(3, 3), state=[(3,)], features=(3,))
    refused(own, "Steps has equations of its own, for which there is no sparse operator")


@pytest.mark.parametrize("kind", ["weight_norm", "parametrized", "prune"])
def test_a_computed_weight(kind):
    layer = nn.LSTM(6, 20)
    if kind == "weight_norm":
        with pytest.warns(FutureWarning):
            nn.utils.weight_norm(layer, "weight_hh_l0")
    elif kind == "parametrized":
        nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    else:
        prune.random_unstructured(layer, "weight_hh_l0", 0.5)
    refused(
        nn.ModuleDict({"a": layer}), r"a\.weight_hh_l0 is not a parameter of its layer: weight norm, pruning or another"
    )


def test_a_weight_that_becomes_computed_later():
    layer = nn.LSTM(6, 20)
    sparsity = BlockSparsity(layer, 0.5, end=3)
    nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    with pytest.raises(InputError, match="weight_hh_l0 is not a parameter of its layer"):
        sparsity.step()


def test_a_frozen_weight_and_one_without_values():
    layer = nn.GRU(6, 20)
    layer.weight_ih_l0.requires_grad_(False)
    refused(layer, r"weight_ih_l0 is frozen \(requires_grad is False\)")
    refused(nn.GRU(6, 20, device="meta"), "weight_ih_l0 is on the meta device")


def test_shared_weights():
    first, second = nn.LSTM(20, 20), nn.LSTM(20, 20)
    second.weight_hh_l0 = first.weight_hh_l0
    model = nn.ModuleDict({"a": first, "b": second, "c": first})
    sparsity = BlockSparsity(model, 0.5, end=0)
    sparsity.step()
    names = ["a.weight_ih_l0", "a.weight_hh_l0", "b.weight_ih_l0"]
    assert [matrix.name for matrix in sparsity.report().matrices] == names
    assert sparsity.density == 0.5
    first.weight_ih_l0 = first.weight_hh_l0
    refused(first, "weight_ih_l0 and weight_hh_l0 are one parameter with two roles")
    third, linear = nn.GRU(20, 20), nn.Linear(20, 60)
    linear.weight = third.weight_ih_l0
    refused(nn.ModuleDict({"r": third, "l": linear}), r"r\.weight_ih_l0 is also l\.weight of a Linear")


def test_a_projected_layer_has_no_diagonal():
    refused(nn.LSTM(6, 20, proj_size=8), "has 8 inputs for 20 cells", keep_diagonal=True)


def test_wrappers_are_looked_into():
    layer = nn.LSTM(6, 20)
    for wrapped in (torch.compile(layer), nn.DataParallel(layer), nn.DataParallel(nn.Sequential(layer))):
        sparsity = BlockSparsity(wrapped, 0.5, end=0)
        sparsity.step()
        assert sparsity.report().matrices[0].name.endswith("weight_ih_l0")
        assert "module" not in sparsity.report().matrices[0].name
    assert (layer.weight_hh_l0 == 0).any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_same_blocks_stay():
    torch.manual_seed(0)
    layer = nn.LSTM(6, 40)
    moved = nn.LSTM(6, 40)
    moved.load_state_dict(layer.state_dict())
    first, second = BlockSparsity(layer, 0.4, end=0), BlockSparsity(moved, 0.4, end=0)
    moved.cuda()
    first.step()
    second.step()
    assert torch.equal(layer.weight_hh_l0, moved.weight_hh_l0.cpu())
