from __future__ import annotations

from pathlib import Path

from s1ray.training.accuracy.snapshots import Accuracy, Snapshots, not_measured


def accuracy(step: int, correct: int) -> Accuracy:
    return {**not_measured(step, ""), "questions": 10, "correct": correct, "accuracy": correct / 10, "error": None}


def test_models_wait_until_they_are_measured(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path)
    assert snapshots.waiting() == []
    for step in (100, 50):
        snapshots.model(step).mkdir(parents=True)
    (snapshots.model(150).parent / f".{snapshots.model(150).name}.tmp").mkdir()
    assert snapshots.waiting() == [50, 100]
    snapshots.record(accuracy(50, 3))
    assert snapshots.waiting() == [100]
    snapshots.record(not_measured(100, "the engine died"))
    assert snapshots.waiting() == []
    assert [found["error"] for found in snapshots.results()] == [None, "the engine died"]


def test_the_best_has_the_most_right_answers_and_of_equal_ones_is_the_latest(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path)
    assert snapshots.best() is None
    snapshots.record(not_measured(300, "no engine"))
    assert snapshots.best() is None
    for step, correct in ((50, 7), (100, 8), (150, 8), (200, 2)):
        snapshots.record(accuracy(step, correct))
    best = snapshots.best()
    assert best is not None
    assert best["step"] == 150


def test_measured_models_are_deleted_but_the_best_stays_if_it_is_to_be_exported(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path)
    for step, correct in ((50, 8), (100, 2)):
        snapshots.model(step).mkdir(parents=True)
        snapshots.record(accuracy(step, correct))
    snapshots.model(150).mkdir()
    snapshots.tidy(keep_best=True)
    assert [snapshots.model(step).exists() for step in (50, 100, 150)] == [True, False, True]
    snapshots.tidy(keep_best=False)
    assert [snapshots.model(step).exists() for step in (50, 100, 150)] == [False, False, True]


def test_a_resumed_run_forgets_the_steps_that_it_takes_again(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path)
    for step in (50, 100):
        snapshots.model(step).mkdir(parents=True)
        snapshots.record(accuracy(step, 1))
    snapshots.forget_after(60)
    assert [found["step"] for found in snapshots.results()] == [50]
    assert not snapshots.model(100).exists()
    assert snapshots.model(50).exists()
