from __future__ import annotations

import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from s1ray.serving.local import ServingError, error_tail, free_port, progress, wait_until_running

if TYPE_CHECKING:
    from ray.serve.schema import ApplicationStatusOverview


class FakeServe:
    """An application whose deployments become healthy at given seconds of a clock that only `sleep` moves."""

    def __init__(self, known_s: float, healthy_s: dict[str, float], status: Callable[[float], str]) -> None:
        self.known_s, self.healthy_s, self.app_status = known_s, healthy_s, status
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def status(self) -> ApplicationStatusOverview | None:
        if self.now < self.known_s:
            return None
        deployments = {
            name: SimpleNamespace(status="HEALTHY" if self.now >= at else "UPDATING", message="No memory left\n")
            for name, at in self.healthy_s.items()
        }
        found = SimpleNamespace(status=self.app_status(self.now), deployments=deployments, message="")
        return cast("ApplicationStatusOverview", found)

    def wait(self, timeout_s: float) -> None:
        wait_until_running(self.status, timeout_s, clock=lambda: self.now, sleep=self.sleep)


HEALTHY_S = {"BudgetForcingServer:base": 15.0, "BudgetForcingServer:sft": 38.0, "Ingress": 38.0}


def test_progress_names_what_is_ready_and_what_is_starting() -> None:
    serve = FakeServe(12.0, HEALTHY_S, lambda now: "RUNNING" if now >= 38 else "DEPLOYING")
    lines = []
    for serve.now in (10.0, 20.0, 30.0, 38.0):
        lines.append(progress(serve.status(), serve.now))
    assert lines == [
        "deploying (10 s)",
        "base ready, sft starting (20 s), Ingress starting (20 s)",
        "base ready, sft starting (30 s), Ingress starting (30 s)",
        "base ready, sft ready, Ingress ready",
    ]
    serve.now = 0.0
    serve.wait(timeout_s=60)
    assert serve.now == 38


def test_a_failed_deployment_is_named_with_its_error() -> None:
    serve = FakeServe(0.0, HEALTHY_S, lambda now: "DEPLOY_FAILED" if now >= 20 else "DEPLOYING")
    with pytest.raises(ServingError, match="failed to start:\n  BudgetForcingServer:sft: UPDATING: No memory left\n"):
        serve.wait(timeout_s=60)
    assert serve.now == 20


def test_a_start_times_out() -> None:
    with pytest.raises(ServingError, match=r"not ready after 5 s .*\n  Serve does not know it"):
        FakeServe(9.0, HEALTHY_S, lambda now: "DEPLOYING").wait(timeout_s=5)


def test_the_tail_of_an_error_has_the_message_and_no_frames() -> None:
    message = (
        "Failed to start:\nTraceback (most recent call last):\n"
        '  File "a.py", line 3, in start\n    engine.run()\n    ^^^^^^\n'
        "RuntimeError: not enough memory\n"
    )
    assert error_tail(message) == "Failed to start:\n    RuntimeError: not enough memory"
    assert error_tail("") == "(no message)"
    assert error_tail("\n".join("abc"), lines=2) == "b\n    c"


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
