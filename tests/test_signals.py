import os
import signal
import sys

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


def test_stop_signal_is_remembered_when_the_terminal_is_gone(stop, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1, closefd=False) as broken:
        monkeypatch.setattr(sys, "stderr", broken)
        signal.raise_signal(signal.SIGINT)
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # for what is left in the buffer
    assert stop[0].number == signal.SIGINT


def test_stop_signal_exits_at_a_second_ctrl_c(stop):
    stop_signal, exits = stop
    signal.raise_signal(signal.SIGINT)
    stop_signal.received_at -= 2
    signal.raise_signal(signal.SIGINT)
    assert exits == [130]
