import os
import signal

import pytest

from training.signals import StopSignal


@pytest.fixture
def stop(monkeypatch):
    """A StopSignal, and the list of statuses with which it would have exited."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    exits = []
    monkeypatch.setattr(os, "_exit", exits.append)
    yield StopSignal(), exits
    for number, handler in before.items():
        signal.signal(number, handler)


def test_stop_signal_ignores_the_second_of_two_signals_at_once(stop):
    stop_signal, exits = stop
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)  # torchrun sends each twice
    assert stop_signal.number == signal.SIGINT and not exits


def test_stop_signal_exits_at_a_second_ctrl_c(stop):
    stop_signal, exits = stop
    signal.raise_signal(signal.SIGINT)
    stop_signal.received_at -= 2
    signal.raise_signal(signal.SIGINT)
    assert exits == [130]
