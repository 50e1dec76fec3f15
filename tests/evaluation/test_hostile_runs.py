"""Run folders whose files do not say what a finished run's say."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s1ray.evaluation.config import Endpoint
from s1ray.evaluation.interchange.export import export
from s1ray.evaluation.loading import RESULTS, load_all_results
from s1ray.evaluation.traffic import Record, Traffic
from s1ray.manifests import RunError
from tests.support.evaluations import finished_run


@pytest.mark.parametrize(
    ("field", "value"), [("seconds", None), ("finished", "yesterday"), ("finished", None), ("digest", 5)]
)
def test_a_manifest_without_its_facts_is_refused_before_anything_is_written(
    tmp_path: Path, field: str, value: object
) -> None:
    run = finished_run(tmp_path, questions=3)
    path = run / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    for kind in ("inspect", "lm-eval"):
        with pytest.raises(RunError, match=f"manifest.json: damaged in {field}"):
            export([run], kind, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_that_are_there_twice_are_refused(tmp_path: Path) -> None:
    run = finished_run(tmp_path, questions=3)
    rows = pq.read_table(run / RESULTS)
    pq.write_table(pa.concat_tables([rows, rows]), run / RESULTS)
    with pytest.raises(RunError, match=r"3 rows of model 'base' with arm 'max=0' are there more than once"):
        load_all_results([run])


@pytest.mark.parametrize("text", ["", "[]", '{"all": 5}', '{"all": {"tally": {"x": 1}}}'])
def test_damaged_sums_of_calls_are_not_counted_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "calls.json"
    assert not Record(path, [Traffic(Endpoint(base_url="http://a/v1"))]).spent
    path.write_text(text)
    with pytest.raises(RunError, match=r"calls\.json: is damaged; delete it"):
        Record(path, [Traffic(Endpoint(base_url="http://a/v1"))])


def test_sums_of_calls_that_cannot_be_read_now_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **options: object) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    path = tmp_path / "calls.json"
    path.write_text("{}")
    monkeypatch.setattr(Path, "read_text", fails)
    with pytest.raises(RunError, match=r"calls\.json: cannot be read .*run again when it can be$"):
        Record(path, [Traffic(Endpoint(base_url="http://a/v1"))])
