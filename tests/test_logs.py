import logging
import threading

import pytest

from s1ray import logs


def test_long_work_is_not_silent_and_the_heartbeat_ends_with_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logs, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr(logging.getLogger("s1ray"), "propagate", True)
    beats = threading.Semaphore(0)

    def line(seconds: float) -> str:
        beats.release()
        return f"at work for {seconds:.0f} s"

    with caplog.at_level(logging.INFO, "s1ray"), logs.heartbeat(line):
        assert beats.acquire(timeout=30)
        assert beats.acquire(timeout=30)
    assert caplog.messages[0] == "at work for 0 s"
    assert not any(thread.name == "heartbeat" for thread in threading.enumerate())
