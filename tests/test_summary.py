import pytest

from model import GPT, GPTConfig
from training.schedule import Limits
from training.summary import expected_seconds, format_duration, two_digits
from training.trainer_state import TrainerState


@pytest.mark.parametrize("seconds, text", [(5, "0:05"), (65, "1:05"), (4000, "1 h 06 min"), (10**6, "11.6 days")])
def test_format_duration_has_minutes_hours_or_days(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize("number, text", [(0.331, "0.33"), (4.42, "4.4"), (105.2, "105"), (5213.0, "5,213")])
def test_two_digits_has_no_exponent(number, text):
    assert two_digits(number) == text


def test_expected_seconds_of_recomputed_activations_are_a_third_more():
    model, limits = GPT(GPTConfig(64, 8, 1, 1, 8)), Limits(max_iters=10, epochs=0, max_minutes=0, windows_per_epoch=1)
    plain = expected_seconds(model, limits, TrainerState(), 4, 0, peak_flops=1e6)
    model.checkpoint_activations = True
    assert expected_seconds(model, limits, TrainerState(), 4, 0, peak_flops=1e6) == pytest.approx(4 / 3 * plain)
