import pytest

from text import progress


@pytest.mark.parametrize("delay", [0.0, 1.0])
def test_progress_gives_all_items(delay, monkeypatch):
    monkeypatch.setattr(progress, "DELAY", delay)
    assert list(progress.progress([1, 2, 3], "read", "files")) == [1, 2, 3]


def test_progress_shows_nothing_when_it_is_fast(capsys):
    list(progress.progress([1, 2, 3], "read", "files"))
    assert capsys.readouterr().err == ""
