"""Options, optimizers and schedules: values by hand, and one sentence for each wrong one."""

import math
import re

import pytest
import torch
from torch import nn

from lstm_edge.layers import LSTM
from lstm_edge.training import LanguageOptions, TrainingOptions
from lstm_edge.training.optimizers import clip_gradients, make_optimizer
from lstm_edge.training.schedules import Position, learning_rate
from lstm_edge_runtime.errors import InputError


def rate(options, epoch, update=0, *, updates=10, time_share=0.0, losses=()):
    position = Position(
        epochs_done=epoch, updates_done=update, updates=updates, time_share=time_share, held_out_losses=losses
    )
    return learning_rate(options, position)


def options(**changes):
    return TrainingOptions(**({"epochs": 8, "learning_rate": 0.1} | changes))


def test_constant():
    assert rate(options(schedule="constant"), 0) == rate(options(schedule="constant"), 7, 9) == 0.1


def test_cosine_by_epoch_is_torchs_own():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)
    for epoch in range(8):
        # Torch's recursion and the closed form differ by the last bits of a float64.
        assert abs(rate(options(), epoch, 5) - optimizer.param_groups[0]["lr"]) < 1e-15
        optimizer.step()
        schedule.step()


def test_cosine_by_update_and_by_the_clock():
    chosen = options(schedule_by="update")
    assert rate(chosen, 0) == 0.1
    assert math.isclose(rate(chosen, 4), 0.05)
    assert math.isclose(rate(chosen, 3, 5), 0.05 * (1 + math.cos(math.pi * 3.5 / 8)))
    timed = options(max_minutes=1.0)
    # The larger share counts; with a time budget the rate moves at every update.
    assert math.isclose(rate(timed, 2, time_share=0.5), 0.05)
    assert math.isclose(rate(timed, 4, 5, time_share=0.5), 0.05 * (1 + math.cos(math.pi * 4.5 / 8)))
    assert rate(timed, 0, time_share=1.5) == 0.0


def test_step_and_plateau():
    stepped = options(schedule="step", step_epochs=3, step_factor=0.5)
    assert [rate(stepped, epoch) for epoch in range(7)] == [0.1] * 3 + [0.05] * 3 + [0.025]
    plateau = options(schedule="plateau", step_epochs=2, step_factor=0.1)
    losses = [3.0, 2.0, 2.5, 2.0, 1.9, 1.9, 1.9, 1.9, 1.9]
    found = [round(rate(plateau, n, losses=losses[:n]) / 0.1, 9) for n in range(10)]
    # 2.5 and 2.0 are no lower than 2.0: the first cut; after 1.9 every second epoch brings another.
    assert found == [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001]


def test_warm_up_rises_linearly_and_the_cosine_takes_the_rest():
    chosen = options(warmup=0.25, schedule_by="update")
    # 80 updates, 20 of them warm-up; the first has a twentieth of the rate, none has 0.
    found = [rate(chosen, epoch, update) for epoch in range(2) for update in range(10)]
    assert all(math.isclose(value, 0.1 * (number + 1) / 20) for number, value in enumerate(found))
    assert math.isclose(rate(chosen, 2), 0.1)
    assert math.isclose(rate(chosen, 5), 0.05)
    assert rate(options(warmup=0.5, schedule="constant"), 7) == 0.1


def test_optimizers_by_name_and_no_decay_for_biases():
    model = LSTM(2, 3, peephole="diagonal")
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    for name, kind in kinds.items():
        optimizer = make_optimizer(model, options(optimizer=name, weight_decay=0.3, momentum=0.7))
        assert type(optimizer) is kind
        decayed, spared = optimizer.param_groups
        assert (decayed["weight_decay"], spared["weight_decay"]) == (0.3, 0.0)
        assert {parameter.dim() for parameter in decayed["params"]} == {2}
        assert {parameter.dim() for parameter in spared["params"]} == {1}
        assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters()))
    assert make_optimizer(model, options(optimizer="sgd", momentum=0.7)).param_groups[0]["momentum"] == 0.7
    assert len(make_optimizer(model, options()).param_groups) == 1


@pytest.mark.parametrize("limit", [None, 1.0, 100.0])
def test_clipping_returns_the_norm_before(limit):
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([parameter], limit).item() == 5.0
    after = parameter.grad.norm().item()
    assert abs(after - (1.0 if limit == 1.0 else 5.0)) < 1e-5


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"warmup": 1.0}, "training: warmup is 1.0, expected 0 or more and below 1"),
        ({"label_smoothing": -0.1}, "training: label_smoothing is -0.1, expected 0 or more and below 1"),
        ({"momentum": 1.0}, "training: momentum is 1.0, expected 0 or more and below 1"),
        ({"weight_decay": math.nan}, "training: weight_decay is nan, expected a finite number, 0 or more"),
        ({"step_factor": 0.0}, "training: step_factor is 0.0, expected above 0 and at most 1"),
        ({"max_minutes": 0.0}, "training: max_minutes is 0.0, expected a finite number above 0"),
        ({"forget_bias": math.inf}, "training: forget_bias is inf, expected a finite number"),
        ({"optimizer": "lion"}, "training: optimizer is lion, expected sgd, adam, adamw"),
        ({"loss": "hinge"}, "training: loss is hinge, expected cross-entropy, mse, mae"),
        ({"schedule": "linear"}, "training: schedule is linear, expected constant, cosine, step, plateau"),
        ({"pad": "left"}, "training: pad is left, expected post, pre, random"),
        ({"max_length": 0}, "training: max_length is 0, expected 1 or more"),
        ({"threads": 0}, "training: threads is 0, expected 1 or more"),
        ({"threads": 10**8}, "training: threads is 100000000, expected 1 to 1024"),
        ({"loss": "mse", "label_smoothing": 0.1}, "training: label_smoothing requires cross-entropy, got the loss mse"),
    ],
)
def test_wrong_options_get_one_sentence(changes, sentence):
    with pytest.raises(InputError, match="^" + re.escape(sentence) + "$"):
        TrainingOptions(**changes)


def test_a_wrong_window_gets_one_sentence():
    with pytest.raises(InputError, match=r"^training: window is 0, expected 1 or more$"):
        LanguageOptions(window=0)


@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan])
def test_a_wrong_reset_probability_gets_one_sentence(value):
    with pytest.raises(InputError, match=rf"^training: reset_probability is {value}, expected a share from 0 to 1$"):
        LanguageOptions(reset_probability=value)
