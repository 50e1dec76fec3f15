"""Following a run's metrics file: the log, TensorBoard and other trackers, the plot."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from pathlib import Path
from typing import cast

import pytest

from s1ray.training.config import TrackingConfig
from s1ray.training.monitoring.metrics import MetricsFile, StepMetrics, read_metrics
from s1ray.training.monitoring.plots import plot_loss
from s1ray.training.monitoring.progress import Progress, describe, log
from s1ray.training.monitoring.tracking import TENSORBOARD_FOLDER, TensorBoard, open_trackers, series
from tests.support.mounts import available, small_disk


def line(step: int, **changes: object) -> StepMetrics:
    series = {"loss": 2.0 / step, "grad_norm": 1.0, "tokens_per_second": 1000.0}
    return cast(StepMetrics, {"step": step, "epoch": 1} | series | changes)


def write(path: Path, *lines: StepMetrics) -> None:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in lines))


class Recorder:
    name = "a recorder"

    def __init__(self, fails_at: int | None = None):
        self.steps: list[int] = []
        self.closed: bool | None = None
        self._fails_at = fails_at

    def log(self, metrics: StepMetrics) -> None:
        if metrics["step"] == self._fails_at:
            raise ConnectionError("nobody there")
        self.steps.append(metrics["step"])

    def close(self, *, failed: bool) -> None:
        self.closed = failed


def test_steps_after_the_checkpoint_are_removed_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, line(1), line(2), line(3))
    with path.open("a") as stream:
        stream.write('{"step": 4, "lo')
    assert read_metrics(path) == [line(1), line(2), line(3)]
    metrics = MetricsFile(path, finished_steps=2)
    metrics.write(line(3, tokens=7))
    metrics.close()
    assert read_metrics(path) == [line(1), line(2), line(3, tokens=7)]


def test_numbers_that_are_not_finite_are_null_in_the_file(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl", finished_steps=0)
    metrics.write(line(1, loss=float("nan"), grad_norm=float("inf")))
    assert read_metrics(tmp_path / "metrics.jsonl") == [line(1, loss=None, grad_norm=None)]


def test_trackers_get_each_step_once_and_the_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    recorder = Recorder()
    with Progress(path, 4, trackers=[recorder]) as progress:
        write(path, line(1), line(2))
        progress._latest()
        write(path, *(line(step) for step in (1, 2, 3, 4)))
    assert recorder.steps == [1, 2, 3, 4]
    assert recorder.closed is False


def test_a_tracker_that_fails_is_dropped_and_the_others_continue(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, *(line(step) for step in (1, 2, 3)))
    failing, sound = Recorder(fails_at=2), Recorder()
    with caplog.at_level(logging.WARNING, logger="s1ray"), Progress(path, 3, trackers=[failing, sound]):
        pass
    assert (failing.steps, sound.steps) == ([1], [1, 2, 3])
    assert "a recorder failed (nobody there); it gets no further steps" in caplog.text


def test_a_start_is_not_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = threading.Event()
    monkeypatch.setattr(log, "info", lambda text, *values: said.set() if "are starting" in text % values else None)
    with Progress(tmp_path / "metrics.jsonl", 3, interval=0.01):
        assert said.wait(10)


class Waiting:
    """Always waits for the same, once there was a step."""

    def __init__(self) -> None:
        self.stepped_times = 0

    def stepped(self) -> None:
        self.stepped_times += 1

    def __call__(self, *, finished: bool) -> str | None:
        if self.stepped_times == 0:
            raise ConnectionError("the head node restarts")
        return "the model is being written" if finished else "waiting again for 2 worker(s)"


def test_what_is_awaited_is_said_at_the_start_and_after_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, said = tmp_path / "metrics.jsonl", list[str]()
    heard = threading.Condition()

    def info(text: str, *values: object) -> None:
        with heard:
            said.append(text % values)
            heard.notify()

    def hears(part: str) -> bool:
        with heard:
            return heard.wait_for(lambda: any(part in line for line in said), timeout=10)

    monkeypatch.setattr(log, "info", info)
    with Progress(path, 2, awaited=Waiting(), interval=0.01, patience=0.6):
        assert hears("Ray does not answer (ConnectionError) (")
        write(path, line(1))
        assert hears("waiting again for 2 worker(s) (no step for ")
        write(path, line(1), line(2))
        assert hears("the model is being written (no step for ")


def test_a_step_that_takes_its_time_is_not_remarked_on_at_once(tmp_path: Path) -> None:
    class Steps(Waiting):
        def __call__(self, *, finished: bool) -> str | None:
            return None

    progress = Progress(tmp_path / "metrics.jsonl", 2, awaited=Steps(), patience=60)
    assert progress._waiting(120) is None
    assert "still at a step" in str(progress._waiting(700))


def test_trackers_learn_that_a_run_has_failed(tmp_path: Path) -> None:
    recorder = Recorder()
    with pytest.raises(RuntimeError), Progress(tmp_path / "metrics.jsonl", 3, trackers=[recorder]):
        raise RuntimeError("no workers")
    assert recorder.closed is True


def test_a_step_is_described_with_what_is_known_of_it() -> None:
    assert describe(line(1)) == "loss 2.000, 1,000 tokens/s"
    rich = describe(line(2, validation_loss=1.5, mfu=0.412))
    assert rich == "loss 1.000, validation 1.500, 1,000 tokens/s, MFU 41.2 %"
    skipped = describe(line(3, loss=None, skipped="the loss is nan"))
    assert skipped == "loss not a number, 1,000 tokens/s, skipped: the loss is nan"


def test_tensorboard_gets_every_series_once_also_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        board = TensorBoard(tmp_path / TENSORBOARD_FOLDER)
        for step in (1, 2, 3):
            board.log(line(step))
        board.close(failed=False)
    (events,) = (tmp_path / TENSORBOARD_FOLDER).iterdir()
    assert events.name.startswith("events.out.tfevents")
    assert events.read_bytes().count(b"train/loss") == 3


@pytest.mark.timeout(60)
@pytest.mark.skipif(not available(), reason="needs root, to mount a small file system")
def test_a_full_disk_under_tensorboard_is_an_error_and_no_hang(tmp_path: Path) -> None:
    with small_disk(tmp_path, mebibytes=1):
        board = TensorBoard(tmp_path / TENSORBOARD_FOLDER)
        with pytest.raises(OSError, match="No space left"):
            _log(board, 100_000)
        with contextlib.suppress(OSError):
            board.close(failed=True)


def _log(board: TensorBoard, steps: int) -> None:
    for step in range(1, steps):
        board.log(line(step))


def test_only_numbers_are_drawn_over_the_steps() -> None:
    numbers = {"loss": 2.0, "grad_norm": 1.0, "tokens_per_second": 1000.0}
    assert series(line(1, skipped="why", rows=["a"], validation_loss=None)) == numbers


def test_the_busy_share_is_shown_where_there_are_workers_that_could_wait() -> None:
    assert describe(line(1, workers=4, busy=0.648)) == "loss 2.000, 1,000 tokens/s, workers busy 65 %"
    assert describe(line(1, workers=1, busy=1.0)) == "loss 2.000, 1,000 tokens/s"


def test_nothing_is_opened_that_was_not_asked_for(tmp_path: Path) -> None:
    assert open_trackers(TrackingConfig(tensorboard=False), tmp_path, parameters={}) == []


@pytest.mark.parametrize("name", ["loss.svg", "loss.png"])
def test_the_plot_shows_gaps_and_skipped_steps(tmp_path: Path, name: str) -> None:
    lines = [line(1), line(2, loss=None, grad_norm=None, skipped="the loss is nan"), line(3, validation_loss=0.9)]
    plot_loss(lines, tmp_path / name)
    content = (tmp_path / name).read_bytes()
    assert len(content) > 2000
    if name.endswith("svg"):
        assert b"held out" in content
        assert b"skipped" in content
        plot_loss(lines, tmp_path / "again.svg")
        assert (tmp_path / "again.svg").read_bytes() == content
