"""Run folders in an object store: the same states, locks and words as on a disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s1ray.aside import Kept
from s1ray.cluster import JOB_VARIABLE
from s1ray.config import StageConfig
from s1ray.errors import S1rayError
from s1ray.manifests import RunError, digest, is_complete, read_manifest
from s1ray.runs import LOCK, Run, check_folder
from s1ray.schemas import Question, parquet_files, read_table, to_table, write_table
from s1ray.storage import LostError, StorePath
from s1ray.targets import check_page, check_target
from tests.support.object_store import bucket, objects, s3_environment, s3_server

__all__ = ["bucket", "s3_environment", "s3_server"]


class Config(StageConfig):
    size: int = 1


def write(config: Config, **options: object) -> Run:
    with Run("curate", config, **options) as run:  # type: ignore[arg-type]
        if not run.skipped:
            (run.path / "result.txt").write_text("x" * config.size)
            run.rows = {"out": config.size}
    return run


def test_a_run_is_skipped_resumed_refused_and_replaced_as_on_a_disk(bucket: StorePath) -> None:
    config = Config(output=str(bucket / "runs" / "one"))
    assert not write(config).resumed
    assert is_complete(config.output, ["result.txt"])
    assert write(config).skipped
    (bucket / "runs/one/result.txt").unlink()
    assert write(config, results=["result.txt"]).resumed
    with pytest.raises(RunError, match=r"other config or input \(differs in size\)"):
        write(config.model_copy(update={"size": 2}))
    write(config.model_copy(update={"size": 2}), force=True)
    manifest = read_manifest(config.output)
    assert manifest is not None
    assert manifest["rows"] == {"out": 2}
    assert sorted(objects(bucket / "runs")) == ["one/manifest.json", "one/result.txt"]
    assert not Path("s3:").exists()


def test_the_manifest_and_the_digest_are_those_of_a_run_on_a_disk(bucket: StorePath, tmp_path: Path) -> None:
    inner = ("b/x.txt", "b-c/x.txt", "a.jsonl")
    for name in inner:
        (bucket / "data" / name).write_text(name)
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(name)
    assert digest(bucket / "data") == digest(tmp_path / "data")
    made = [
        write(Config(output=str(folder / "run")), inputs={"data": str(folder / "data")})
        for folder in (bucket, tmp_path)
    ]
    assert made[0].digest == made[1].digest
    local, there = (json.loads((each.path / "manifest.json").read_text()) for each in made)
    for name in ("stage", "status", "digest", "rows", "drops", "seed"):
        assert local[name] == there[name]


def test_files_that_are_no_run_are_neither_used_nor_deleted(bucket: StorePath) -> None:
    (bucket / "run" / "mine.txt").write_text("x")
    for force in (False, True):
        with pytest.raises(RunError, match="holds files but no manifest"):
            write(Config(output=str(bucket / "run")), force=force)
    with pytest.raises(RunError, match="an object is there"):
        write(Config(output=str(bucket / "run" / "mine.txt")))
    assert objects(bucket) == {"run/mine.txt": b"x"}


def test_a_bucket_that_is_not_there_is_refused_before_any_work(s3_environment: None) -> None:
    with pytest.raises(RunError, match="there is no bucket s3://no-such-bucket-here"):
        check_folder("s3://no-such-bucket-here/run")


HOLD = """
import sys, time
from tests.test_runs_in_stores import Config, Run
with Run("curate", Config(output=sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_in_which_another_process_works_is_refused_until_it_is_dead(bucket: StorePath) -> None:
    config = Config(output=str(bucket / "run"))
    root = Path(__file__).parents[1]
    command, environment = [sys.executable, "-c", HOLD, config.output], os.environ | {"PYTHONPATH": str(root)}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, env=environment)
    assert child.stdout is not None
    child.stdout.readline()
    with pytest.raises(RunError, match=f"process {child.pid} on .* is at work there"):
        write(config)
    child.kill()
    child.wait()
    assert write(config).resumed


def test_a_job_goes_on_after_its_earlier_attempt_on_a_lost_node(
    bucket: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(output=str(bucket / "run"))
    monkeypatch.setenv(JOB_VARIABLE, "{}")
    for name, seconds in {"runs.LOOK_S": 0.2, "runs.RENEW_S": 0.1, "storage.locks.LIVE_S": 2.0}.items():
        monkeypatch.setattr(f"s1ray.{name}", seconds)
    with pytest.raises(ZeroDivisionError), Run("curate", config):
        1 / 0  # noqa: B018
    (bucket / "run" / LOCK / "1.json").write_text(json.dumps({"who": "process 1 on gone", "process": 1, "boot": "b"}))
    assert write(config).resumed


def test_a_run_that_loses_its_lock_is_interrupted_and_says_so(
    bucket: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1ray.storage.locks.RENEW_S", 0.2)
    monkeypatch.setattr("s1ray.storage.locks.WATCH_S", 0.1)
    with pytest.raises(LostError, match="taken for dead"):
        _work_without_a_ticket(Config(output=str(bucket / "run")))
    manifest = read_manifest(bucket / "run")
    assert manifest is not None
    assert manifest["status"] == "running"


def _work_without_a_ticket(config: Config) -> None:
    with Run("curate", config) as run:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            # Again and again: a renewal that is under way writes it anew.
            for ticket in (run.path / LOCK).glob("*.json"):
                ticket.unlink(missing_ok=True)


def test_what_is_kept_is_moved_beside_a_replaced_run(bucket: StorePath) -> None:
    config = Config(output=str(bucket / "run"))
    write(config)
    (bucket / "run" / "answers" / "a.jsonl").write_text("{}")
    kept = Kept("1 answers", ("answers",), field="answers_from", suffix="answers")
    write(config, force=True, kept=lambda folder: kept)
    assert objects(bucket / "run.answers-1").keys() == {"manifest.json", "answers/a.jsonl"}


def test_nothing_is_written_over_or_into_a_run(bucket: StorePath) -> None:
    write(Config(output=str(bucket / "run")))
    for target in (bucket / "run" / "new.jsonl", bucket / "run" / "result.txt"):
        with pytest.raises(S1rayError, match="lies in the run folder"):
            check_target(target)
    check_target(bucket / "other.jsonl", [bucket / "run"])
    check_page(bucket / "run" / "page.html", [bucket / "run"])


def test_tables_are_written_and_read(bucket: StorePath) -> None:
    table = to_table([Question(id=str(n), question="q", answer=None, source="s") for n in range(3)], Question)
    write_table(table, bucket / "in" / "part.parquet")
    write_table(table, bucket / "in" / ".hidden.parquet")
    assert parquet_files(bucket / "in") == [bucket / "in" / "part.parquet"]
    assert read_table(str(bucket / "in"), Question) == table
