"""What becomes of a run's measurements at its end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from s1ray.training.accuracy import watch
from s1ray.training.accuracy.snapshots import Snapshots, not_measured
from s1ray.training.accuracy.watch import AccuracyWatch, finish
from tests.support.training_runs import training_config


def test_a_fault_in_tidying_does_not_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: Snapshots, *, keep_best: bool) -> None:
        raise OSError("stale file handle")

    measured: list[int] = []

    def measure(self: AccuracyWatch, step: int, model: Path) -> None:
        measured.append(step)
        self._snapshots.record(not_measured(step, "x"))

    monkeypatch.setattr(watch, "PATIENCE", 0.05)
    monkeypatch.setattr(Snapshots, "tidy", fail)
    monkeypatch.setattr(AccuracyWatch, "measure", measure)
    snapshots = Snapshots(tmp_path)
    with AccuracyWatch(training_config(accuracy={"benchmark": "b"}), tmp_path, []):
        for step in (10, 20):
            snapshots.model(step).mkdir(parents=True)
            while not snapshots.is_measured(step):
                time.sleep(0.05)
    assert measured == [10, 20]
    assert "could not be recorded or deleted" in caplog.text


@pytest.mark.parametrize(("exported", "best"), [(30, 20), (20, 20), (30, 30)])
def test_the_best_snapshot_is_exported_and_a_killed_end_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: int, best: int
) -> None:
    """`exported`: the step that `validation.export: best` chose, or the last."""
    monkeypatch.setattr(watch, "choose_questions", lambda settings, seed: [])
    config = training_config(accuracy={"benchmark": "b", "export": "best"})
    snapshots = Snapshots(tmp_path)
    for step in (10, 20, 30):
        snapshots.model(step).mkdir(parents=True)
        (snapshots.model(step) / "weights").write_text(str(step))
        correct = 5 if step == best else 1
        snapshots.record(
            not_measured(step, "") | {"error": None, "questions": 9, "correct": correct, "accuracy": correct / 9}
        )
    for _ in range(2):
        model = tmp_path / "model"
        model.mkdir(exist_ok=True)
        (model / "weights").write_text(str(exported))
        figures = finish(config, tmp_path, model, exported)
        assert figures["exported_step"] == best
        assert (model / "weights").read_text() == str(best)
