"""Requests to stop: SIGTERM becomes a file, and the first worker finds it."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from s1ray.manifests import RunError
from s1ray.training.interruption import LOOK, NOTHING, STOP, STOP_FILE, StopRequests, stop_on_sigterm


def test_sigterm_asks_the_workers_to_stop_and_a_second_one_is_as_before(tmp_path: Path) -> None:
    heard: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with stop_on_sigterm(tmp_path, lambda: True):
            os.kill(os.getpid(), signal.SIGTERM)
            assert (tmp_path / STOP_FILE).exists()
            assert heard == []
            os.kill(os.getpid(), signal.SIGTERM)
            assert heard == [signal.SIGTERM]
        assert not (tmp_path / STOP_FILE).exists()
        os.kill(os.getpid(), signal.SIGTERM)
        assert len(heard) == 2
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_before_the_first_step_there_is_nothing_to_save(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="stopped before a step"), stop_on_sigterm(tmp_path, lambda: False):
        os.kill(os.getpid(), signal.SIGTERM)
    assert not (tmp_path / STOP_FILE).exists()


def test_a_request_of_an_earlier_start_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / STOP_FILE).touch()
    with stop_on_sigterm(tmp_path, lambda: True):
        assert not (tmp_path / STOP_FILE).exists()


def test_outside_the_main_thread_no_signal_is_handled(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def run() -> None:
        with stop_on_sigterm(tmp_path, lambda: True):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


def test_the_first_worker_checks_at_intervals_and_signals_what_it_found(tmp_path: Path) -> None:
    assert StopRequests(tmp_path, interval=60).signal() == NOTHING
    eager = StopRequests(tmp_path, interval=0)
    assert eager.signal() == LOOK
    (tmp_path / STOP_FILE).touch()
    assert eager.signal() == STOP
