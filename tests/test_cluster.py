"""Questions to every node of a cluster; the cluster is told, not started."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from s1ray.cluster import gathered


def test_a_task_that_fails_or_never_ends_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    class TaskError(Exception):
        cause = OSError("what the task raised")

    results = {"failed": TaskError("ray::task() (pid=1)"), "done": 3}
    cancelled = []

    def wait(tasks: Sequence[str], timeout: float) -> tuple[list[str], list[str]]:
        assert 0 <= timeout <= 5
        done = [task for task in tasks if task in results][:1]
        return done, [task for task in tasks if task not in done]

    def get(task: str) -> object:
        if isinstance(result := results[task], Exception):
            raise result
        return result

    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(ray, "cancel", lambda task, force: cancelled.append((task, force)))
    found = dict(gathered({"never": "a", "failed": "b", "done": "c"}, 5))
    assert found["b"] is TaskError.cause
    assert found["c"] == 3
    assert isinstance(found["a"], TimeoutError)
    assert str(found["a"]) == "no answer within 5 s"
    assert cancelled == [("never", True)]
