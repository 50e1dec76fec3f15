"""What happens between the steps of a training run, without workers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from s1ray.storage import StorePath
from s1ray.training.interruption import NOTHING
from s1ray.training.loop import _WorkerRun
from s1ray.training.monitoring.metrics import MetricsFile, read_metrics
from tests.support.object_store import bucket, s3_environment, s3_server
from tests.support.training_runs import training_config
from tests.training.monitoring.test_progress import line

__all__ = ["bucket", "s3_environment", "s3_server"]


def test_a_checkpoint_is_past_no_step_that_is_missing_in_the_metrics(
    bucket: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1ray.storage.appending.FLUSH_S", 60.0)
    path, saved = bucket / "metrics.jsonl", list[tuple[int, list[int]]]()

    def save(state: Any, *, validation_loss: float | None) -> None:
        saved.append((state.finished_steps, [metrics["step"] for metrics in read_metrics(path)]))

    def step(number: int, signal: int) -> Any:
        return SimpleNamespace(metrics=line(number + 1), problem=None, signal=signal)

    metrics_file = MetricsFile(path, finished_steps=0)
    run: Any = _WorkerRun(
        config=training_config(checkpoints={"every": 2}),
        stepper=SimpleNamespace(total=3, step=step),  # type: ignore[arg-type]
        monitor=SimpleNamespace(losses=[], norms=[], skipped=0),  # type: ignore[arg-type]
        checkpointer=SimpleNamespace(save=save),  # type: ignore[arg-type]
        state=SimpleNamespace(finished_steps=0, best_loss=None),  # type: ignore[arg-type]
        held_out=None,
        stop_requests=SimpleNamespace(signal=lambda: NOTHING),  # type: ignore[arg-type]
        metrics_file=metrics_file,
        snapshots=None,
    )
    assert run.resume(None).status == "complete"
    assert saved == [(2, [1, 2]), (3, [1, 2, 3])]
