import pytest
import torch
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from training.schedule import Limits, Schedule
from training.trainer_state import TrainerState


def rates(lr_decay: str, steps: int = 100) -> list[float]:
    schedule, limits = Schedule(10, 0.0, lr_decay, min_lr=0.1), Limits(steps, 0, 0, 7)
    return [schedule.lr_scale(step, limits.progress(TrainerState(step))) for step in range(steps + 1)]


@pytest.mark.parametrize("lr_decay", ["linear", "cosine"])
def test_schedule_warms_up_then_decays_to_min_lr_at_the_end(lr_decay):
    scales = rates(lr_decay)
    assert scales[0] < 0.2 and max(scales) == max(scales[8:12]) and scales[-1] == pytest.approx(0.1)


@pytest.mark.parametrize(
    "lr_decay, reference", [("linear", get_linear_schedule_with_warmup), ("cosine", get_cosine_schedule_with_warmup)]
)
@pytest.mark.parametrize("warmup_iters, warmup_share", [(30, 0.0), (0, 0.3)])
def test_schedule_is_that_of_transformers_after_the_warm_up(lr_decay, reference, warmup_iters, warmup_share):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    expected = reference(optimizer, num_warmup_steps=30, num_training_steps=100)
    schedule = Schedule(warmup_iters, warmup_share, lr_decay, min_lr=0.0)
    for step in range(100):
        if step >= 30:
            assert schedule.lr_scale(step, step / 100) == pytest.approx(expected.get_last_lr()[0])
        optimizer.step()
        expected.step()


def test_schedule_warms_up_over_a_share_of_the_run():
    schedule = Schedule(warmup_iters=0, warmup_share=0.1, lr_decay="constant", min_lr=0.0)
    scales = [schedule.lr_scale(step, step / 100) for step in range(100)]
    assert 0 < scales[0] < 0.05 and scales[5] == pytest.approx(0.5) and set(scales[10:]) == {1.0}


def test_schedule_without_warm_up_begins_at_the_highest():
    assert Schedule(0, 0.0, "constant", 0.0).lr_scale(0, 0.0) == 1.0


def test_schedule_constant_stays_at_the_highest():
    assert set(rates("constant")[10:]) == {1.0}


def test_schedule_ends_when_time_is_up():
    limits, state = Limits(100, 0, 1, 7), TrainerState(step=50, seconds=60)
    assert Schedule(10, 0.0, "linear", 0.1).lr_scale(50, limits.progress(state)) == pytest.approx(0.1)


def test_limits_epochs_end_with_the_last_window():
    limits = Limits(0, 2, 0, windows_per_epoch=75)
    progress = [limits.progress(TrainerState(step=10, windows_seen=n)) for n in (149, 150)]
    assert progress[0] < 1 == progress[1]


def test_limits_name_the_setting_that_was_reached_first():
    limits = Limits(100, 2, 0, windows_per_epoch=75)
    assert limits.reached(TrainerState(step=10, windows_seen=150)) == "epochs"
    assert limits.reached(TrainerState(step=100, windows_seen=10)) == "max_iters"
