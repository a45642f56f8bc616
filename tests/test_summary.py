import pytest

from training.summary import format_duration


@pytest.mark.parametrize("seconds, text", [(5, "0:05"), (65, "1:05"), (4000, "1 h 06 min"), (10**6, "11.6 days")])
def test_format_duration_has_minutes_hours_or_days(seconds, text):
    assert format_duration(seconds) == text
