import os
import signal
import sys

import pytest

from training.signals import StopSignal

HANGUP = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []  # Windows has none


@pytest.fixture
def stop(monkeypatch):
    """A StopSignal, and the list of statuses with which it would have exited."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, *HANGUP)}
    for number in HANGUP:
        signal.signal(number, signal.SIG_DFL)  # under nohup it is ignored
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


@pytest.mark.skipif(not HANGUP, reason="no SIGHUP here")
def test_stop_signal_of_a_closed_terminal_is_remembered_but_not_under_nohup(stop):
    signal.raise_signal(signal.SIGHUP)
    assert stop[0].number == signal.SIGHUP
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.raise_signal(signal.SIGHUP)
    assert StopSignal().number == 0 and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


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
