"""Rows are prepared once for a run: handed over from the plan, kept in the run folder, read back on resuming."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from s1ray.config import ConfigError
from s1ray.errors import S1rayError
from s1ray.schemas import Trace, to_table, write_table
from s1ray.training.config import TrainingConfig
from s1ray.training.data import examples, preparation
from s1ray.training.data.preparation import EXAMPLES_FILE, ROWS_FILE, VALIDATION_FILE, keep, prepare
from tests.support.training_runs import training_config
from tests.training.test_trainer import row


@pytest.fixture(autouse=True)
def tokenised(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the traces that were tokenised, each time they were."""
    preparation._forget()
    seen: list[str] = []
    real = examples.tokenise

    def counting(traces: object, *others: object) -> object:
        for found in real(traces, *others):  # type: ignore[arg-type]
            seen.append(found.trace.id if hasattr(found, "trace") else found.id)
            yield found

    monkeypatch.setattr(preparation, "tokenise", counting)
    return seen


def config_of(tmp_path: Path, model_folder: Path, rows: list[Trace] | None = None, **changes: object) -> TrainingConfig:
    rows = [row(i) for i in range(6)] if rows is None else rows
    write_table(to_table(rows, Trace), tmp_path / "traces.parquet")
    settings = {
        "output": str(tmp_path / "run"),
        "model": str(model_folder),
        "traces": str(tmp_path / "traces.parquet"),
        "max_length": 400,
    }
    return training_config(**(settings | changes))


def test_plan_and_run_tokenise_once_and_a_resumed_run_not_at_all(
    tmp_path: Path, model_folder: Path, tokenised: list[str]
) -> None:
    config = config_of(tmp_path, model_folder, validation={"size": 2})
    planned = prepare(config)
    assert planned.folder != tmp_path / "run"
    (tmp_path / "run").mkdir()
    kept = keep(prepare(config), tmp_path / "run")
    assert not planned.folder.exists()
    preparation._forget()
    resumed = prepare(config)
    assert (kept.folder, resumed.folder) == (tmp_path / "run", tmp_path / "run")
    assert list(resumed.examples) == list(kept.examples)
    assert list(resumed.held_out) == list(kept.held_out)
    assert (len(kept.examples), len(kept.held_out)) == (4, 2)
    assert len(tokenised) == 6


def test_another_config_or_other_traces_are_prepared_anew(
    tmp_path: Path, model_folder: Path, tokenised: list[str]
) -> None:
    (tmp_path / "run").mkdir()
    keep(prepare(config_of(tmp_path, model_folder)), tmp_path / "run")
    prepare(config_of(tmp_path, model_folder, num_workers=2, epochs=2))
    assert len(tokenised) == 6
    prepare(config_of(tmp_path, model_folder, max_length=399))
    prepare(config_of(tmp_path, model_folder, [row(0)]))
    assert len(tokenised) == 13


def test_the_same_config_and_input_give_the_same_bytes(tmp_path: Path, model_folder: Path) -> None:
    config = config_of(tmp_path, model_folder, [row(0), row(1, attempt=""), row(2)], unusable_rows="drop")
    files = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        keep(prepare(config), tmp_path / name)
        files.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert set(files[0]) == {EXAMPLES_FILE, ROWS_FILE}
    assert files[0] == files[1]


def test_what_was_dropped_is_known_after_resuming(tmp_path: Path, model_folder: Path) -> None:
    config = config_of(tmp_path, model_folder, [row(0), row(1, attempt=""), row(2)], unusable_rows="drop")
    (tmp_path / "run").mkdir()
    keep(prepare(config), tmp_path / "run")
    again = prepare(config)
    assert (again.num_traces, len(again.unusable), again.unusable.counts) == (3, 1, {"no_answer": 1})
    assert [found.id for found in again.unusable.first] == ["q1-0"]


@pytest.mark.parametrize("name", [EXAMPLES_FILE, VALIDATION_FILE, ROWS_FILE])
def test_damaged_rows_are_made_again(
    tmp_path: Path, model_folder: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(tmp_path, model_folder, validation={"size": 2})
    (tmp_path / "run").mkdir()
    before = list(keep(prepare(config), tmp_path / "run").examples)
    (tmp_path / "run" / name).write_bytes(b"{")
    with caplog.at_level(logging.WARNING):
        assert list(keep(prepare(config), tmp_path / "run").examples) == before
    assert f"{name}" in caplog.text
    assert "made again" in caplog.text


def test_a_temporary_folder_without_room_is_named(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(preparation, "_make", full)
    with pytest.raises(ConfigError, match=r"No space left on device; set TMPDIR"):
        prepare(config_of(tmp_path, model_folder))


def test_rows_that_are_refused_leave_nothing_behind(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    with pytest.raises(S1rayError, match="no usable row"):
        prepare(config_of(tmp_path, model_folder, [row(0, attempt="")], unusable_rows="drop"))
    assert list((tmp_path / "temporary").iterdir()) == []
