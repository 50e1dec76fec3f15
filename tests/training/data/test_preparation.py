"""Rows are prepared once for a run: handed over from the plan, kept in the run folder, read back on resuming."""

from __future__ import annotations

import datetime
import errno
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from s1ray.config import ConfigError
from s1ray.errors import S1rayError
from s1ray.manifests import RunError
from s1ray.runs import Run
from s1ray.schemas import Trace, to_table, write_table
from s1ray.training.config import TrainingConfig
from s1ray.training.data import examples, preparation
from s1ray.training.data.preparation import EXAMPLES_FILE, ROWS_FILE, VALIDATION_FILE, keep, prepare
from s1ray.training.inspection import InspectedRow, inspect_rows
from tests.support.training_runs import training_config
from tests.training.conftest import MakeTokenizer
from tests.training.data.test_chat import DATED, SPECIAL
from tests.training.test_trainer import row


@pytest.fixture(autouse=True)
def tokenised(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the traces that were tokenised, each time they were."""
    preparation._forget()
    seen: list[str] = []
    real = examples.tokenise

    def counting(traces: object, *others: object) -> object:
        for found in real(traces, *others):  # type: ignore[arg-type]
            seen.append(found.id)
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
    with pytest.raises(S1rayError, match="no usable row of 1: 1 no_answer"):
        prepare(config_of(tmp_path, model_folder, [row(0, attempt="")], unusable_rows="drop"))
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.fixture
def dated(tmp_path: Path, make_tokenizer: MakeTokenizer) -> str:
    folder = tmp_path / "dated"
    make_tokenizer(SPECIAL, DATED).save_pretrained(folder)
    return str(folder)


class Calendar(datetime.date):
    """A clock that stands still where it is put."""

    now = datetime.date(2026, 1, 31)

    @classmethod
    def today(cls) -> Calendar:
        return cls(cls.now.year, cls.now.month, cls.now.day)


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> type[Calendar]:
    monkeypatch.setattr("datetime.date", Calendar)
    monkeypatch.setattr(Calendar, "now", datetime.date(2026, 1, 31))
    return Calendar


def text_of(config: TrainingConfig) -> str:
    (found,) = inspect_rows(config, rows=1)
    assert isinstance(found, InspectedRow)
    return "".join(span.text for span in found.spans)


def test_a_run_that_resumes_on_another_day_is_the_same_run_with_the_same_bytes(
    tmp_path: Path, model_folder: Path, dated: str, calendar: type[Calendar], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path, model_folder, tokenizer=dated)
    with Run("train", config, preparation.inputs(config)) as first:
        started = keep(prepare(config), first.path)
        before = (first.path / EXAMPLES_FILE).read_bytes()
    assert started.template_date == "2026-01-31"
    preparation._forget()
    monkeypatch.setattr(calendar, "now", datetime.date(2026, 2, 1))
    again = Run("train", config, preparation.inputs(config))
    assert again.digest == first.digest
    assert keep(prepare(config), again.path).template_date == "2026-01-31"
    assert (again.path / EXAMPLES_FILE).read_bytes() == before
    assert "Today is 31 January 2026." in text_of(config)
    # Also where the rows are lost: the date is not.
    (again.path / EXAMPLES_FILE).write_bytes(b"")
    keep(prepare(config), again.path)
    assert (again.path / EXAMPLES_FILE).read_bytes() == before
    elsewhere = config.model_copy(update={"output": str(tmp_path / "other")})
    assert prepare(elsewhere).template_date == "2026-02-01"
    assert "Today is 01 February 2026." in text_of(elsewhere)


def test_a_date_that_cannot_be_read_is_not_taken_for_none(
    tmp_path: Path, model_folder: Path, dated: str, calendar: type[Calendar], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path, model_folder, tokenizer=dated)
    with Run("train", config, preparation.inputs(config)) as run:
        keep(prepare(config), run.path)
    preparation._forget()
    monkeypatch.setattr(calendar, "now", datetime.date(2026, 2, 1))
    real = Path.read_text

    def fails(path: Path, *args: Any, **options: Any) -> str:
        if path.name == ROWS_FILE:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", fails)
    for look in (prepare, text_of):
        with pytest.raises(RunError, match=f"{ROWS_FILE}: cannot be read: .*Input/output error"):
            look(config)


def test_the_config_may_give_the_date(tmp_path: Path, model_folder: Path, dated: str, calendar: type[Calendar]) -> None:
    config = config_of(tmp_path, model_folder, tokenizer=dated, template_date="2025-07-08")
    assert prepare(config).template_date == "2025-07-08"
    assert "Today is 08 July 2025." in text_of(config)


def test_rows_without_a_date_are_the_same_on_any_day(
    tmp_path: Path, model_folder: Path, calendar: type[Calendar]
) -> None:
    assert prepare(config_of(tmp_path, model_folder)).template_date is None
