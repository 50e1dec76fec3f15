"""Run folders: complete runs are skipped, killed ones resumed, foreign ones refused."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import Field

from s1ray.aside import Kept
from s1ray.cluster import JOB_VARIABLE
from s1ray.config import StageConfig
from s1ray.errors import InputError
from s1ray.manifests import RunError, digest, is_complete, read_manifest
from s1ray.runs import OtherRunError, Run
from s1ray.schemas import MANIFEST
from s1ray.storage import Location


class Toy(StageConfig):
    incidental: ClassVar[frozenset[str]] = frozenset({"output", "how.at_once", "how.models.*.slots"})

    size: int = 1
    how: dict[str, Any] = Field(default_factory=dict)


def finish(config: Toy, inputs: dict[str, Path] | None = None, *, force: bool = False) -> Run:
    with Run("toy", config, inputs, force=force) as run:
        if not run.skipped:
            (run.path / "data.txt").write_text(str(config.size))
            run.rows["out"] = config.size
    return run


def test_a_complete_run_is_skipped_and_keeps_its_counts(tmp_path: Path) -> None:
    config = Toy(output=str(tmp_path / "r"), size=3)
    assert not finish(config).skipped
    again = finish(config)
    assert again.skipped
    assert again.rows == {"out": 3}


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("file", "cannot be a folder, as .*file is a file"),
        ("file/below", "cannot be a folder, as .*file is a file"),
        ("dangling", "cannot be a folder, as .*dangling is a file"),
        ("x" * 300, "cannot be a folder .*too long"),
        ("a\0b", "cannot be a folder .*null byte"),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_a_folder_that_cannot_be_one_is_refused(tmp_path: Path, output: str, message: str, force: bool) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(RunError, match=message):
        finish(Toy(output=f"{tmp_path}/{output}"), force=force)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["dangling", "file"]


def test_a_folder_that_may_not_be_written_is_refused_unless_its_run_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Toy(output=str(tmp_path / "r"))
    finish(config)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert finish(config).skipped
    with pytest.raises(RunError, match="nothing may be written in"):
        finish(Toy(output=str(tmp_path / "s")))


def test_a_killed_run_is_resumed(tmp_path: Path) -> None:
    config = Toy(output=str(tmp_path / "r"))
    killed = Run("toy", config).__enter__()
    (killed.path / "part").write_text("half")
    killed.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    manifest = read_manifest(killed.path)
    assert manifest is not None
    assert manifest["status"] == "running"
    with Run("toy", config) as second:
        assert second.resumed
        assert (second.path / "part").exists()


def test_a_run_that_is_left_unfinished_is_resumed(tmp_path: Path) -> None:
    config = Toy(output=str(tmp_path / "r"), size=3)
    with Run("toy", config) as run:
        run.unfinished = True
    assert (read_manifest(tmp_path / "r") or {})["status"] == "running"
    with pytest.raises(RunError, match="differs in size"):
        Run("toy", Toy(output=str(tmp_path / "r"), size=4))
    again = finish(config)
    assert (again.resumed, again.skipped) == (True, False)
    assert (read_manifest(tmp_path / "r") or {})["status"] == "complete"


def test_another_config_is_refused_by_field_and_replaced_only_by_force(tmp_path: Path) -> None:
    finish(Toy(output=str(tmp_path / "r"), size=1))
    with pytest.raises(RunError, match=r"differs in size.*--force"):
        Run("toy", Toy(output=str(tmp_path / "r"), size=2))
    assert not finish(Toy(output=str(tmp_path / "r"), size=2), force=True).skipped


def test_what_cannot_change_the_result_may_change_however_deep_it_lies(tmp_path: Path) -> None:
    def toy(at_once: int, slots: int, **changes: Any) -> Toy:
        models = {"a": {"slots": slots, "name": "x"} | changes, "b": {"slots": slots}}
        return Toy(output=str(tmp_path / "r"), how={"at_once": at_once, "models": models})

    finish(toy(1, 2))
    assert finish(toy(3, 4)).skipped
    with pytest.raises(RunError, match=r"\(differs in how\.models\.a\.name\)"):
        finish(toy(3, 4, name="y"))


def test_changed_input_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("a")
    finish(Toy(output=str(tmp_path / "r")), {"pool": source})
    source.write_text("b")
    with pytest.raises(RunError, match="input pool"):
        Run("toy", Toy(output=str(tmp_path / "r")), {"pool": source})


def test_a_folder_with_other_things_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for force in (False, True):
        with pytest.raises(RunError, match="no manifest"):
            Run("toy", Toy(output=str(tmp_path)), force=force)
    assert (tmp_path / "thesis.tex").exists()


def test_a_broken_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(RunError, match="not a readable manifest"):
        Run("toy", Toy(output=str(tmp_path)))
    assert not finish(Toy(output=str(tmp_path)), force=True).skipped


def test_a_manifest_that_cannot_be_read_now_is_no_reason_to_start_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object, **options: object) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    finish(Toy(output=str(tmp_path)))
    monkeypatch.setattr(Path, "read_text", fails)
    with pytest.raises(RunError, match=r"cannot be read .*run again") as told:
        read_manifest(tmp_path)
    assert "--force" not in str(told.value)


def test_the_digest_of_a_folder_follows_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert digest(tmp_path) != first
    with pytest.raises(FileNotFoundError):
        digest(tmp_path / "absent")


@pytest.mark.parametrize(
    ("manifest", "field"),
    [
        ('{"stage": "toy", "inputs": 5}', "inputs"),
        ('{"stage": "toy", "inputs": {"a": 1}}', "inputs"),
        ('{"stage": "toy", "inputs": {"a": {"path": "b"}}}', "inputs"),
        ('{"stage": 1, "config": []}', "stage, config"),
    ],
)
def test_a_damaged_manifest_is_named_with_its_field(tmp_path: Path, manifest: str, field: str) -> None:
    (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(RunError, match=f"damaged in {field};"):
        Run("toy", Toy(output=str(tmp_path)))


def test_a_manifest_without_inputs_is_another_run(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('{"stage": "toy", "config": {"size": 1}}')
    with pytest.raises(OtherRunError, match=r"differs in seed, size\)"):
        Run("toy", Toy(output=str(tmp_path), size=2))


def test_a_complete_run_without_its_result_is_finished_again(tmp_path: Path) -> None:
    config, results = Toy(output=str(tmp_path / "r")), ("data.txt",)
    finish(config)
    assert is_complete(config.output, results)
    assert Run("toy", config, results=results).missing == []
    (tmp_path / "r" / "data.txt").unlink()
    assert not is_complete(config.output, results)
    run = Run("toy", config, results=results)
    assert (run.skipped, run.resumed, run.missing) == (False, True, ["data.txt"])


def test_force_sets_aside_what_must_be_kept(tmp_path: Path) -> None:
    def kept(folder: Location) -> Kept | None:
        there = (folder / "paid").is_dir()
        return Kept("2 answers", ("paid", "paid too"), field="from", suffix="answers") if there else None

    output = tmp_path / "r"
    for size in (1, 2):
        with Run("toy", Toy(output=str(output), size=size), force=size == 2, kept=kept):
            (output / "paid").mkdir()
            (output / "paid" / "a").write_text(str(size))
    (tmp_path / "link").symlink_to(output)
    third = Toy(output=str(tmp_path / "link"), size=3)
    message = rf"`output` and from={tmp_path}/link to take over its 2 answers.*2 answers .*{output}\.answers-2\)"
    with pytest.raises(OtherRunError, match=message):
        Run("toy", third, kept=kept)
    Run("toy", third, force=True, kept=kept)
    assert [entry.name for entry in output.iterdir()] == [".lock"]
    for number in (1, 2):
        place = tmp_path / f"r.answers-{number}"
        assert (place / "paid" / "a").read_text() == str(number)
        assert ((read_manifest(place) or {})["config"])["size"] == number


def test_force_deletes_nothing_where_it_cannot_be_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Toy(output=str(tmp_path / "r"))
    finish(config)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    kept = Kept("2 answers", ("paid",), field="from", suffix="answers")
    with pytest.raises(RunError, match=r"2 answers cannot be set aside \(Permission denied\)"):
        Run("toy", config, force=True, kept=lambda folder: kept)
    assert is_complete(config.output, ("data.txt",))


@pytest.mark.parametrize("after", range(4))
def test_a_replacement_that_is_killed_leaves_what_force_may_replace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    config, removed = Toy(output=str(tmp_path / "r")), list[str]()
    finish(config)
    for name in ("a", "z"):
        (tmp_path / "r" / name).touch()

    def dies(entry: Path) -> None:
        if len(removed) == after:
            raise KeyboardInterrupt
        removed.append(entry.name)
        entry.unlink()

    with monkeypatch.context() as patch:
        patch.setattr("s1ray.runs.remove", dies)
        with pytest.raises(KeyboardInterrupt):
            Run("toy", config, force=True)
    assert not is_complete(config.output)
    with pytest.raises(RunError, match="pass --force"):
        Run("toy", config)
    assert not finish(config, force=True).skipped
    assert is_complete(config.output, ("data.txt",))


def test_a_lock_that_is_a_folder_is_named(tmp_path: Path) -> None:
    config = Toy(output=str(tmp_path / "r"))
    (tmp_path / "r" / ".lock").mkdir(parents=True)
    with pytest.raises(RunError, match=r"\.lock: cannot be opened \(Is a directory\)"), Run("toy", config):
        pass


@pytest.mark.parametrize(("name", "message"), [("x" * 300, "too long"), ("a\0b", "no such file")])
def test_an_input_that_is_no_name_of_a_file_is_one_sentence(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises((InputError, FileNotFoundError), match=message):
        digest(tmp_path / name)


def test_two_processes_never_write_one_folder(tmp_path: Path) -> None:
    config = Toy(output=str(tmp_path / "r"))
    with Run("toy", config):
        for force in (False, True):
            with (
                pytest.raises(RunError, match=rf"process {os.getpid()} on .* is at work there"),
                Run("toy", config, force=force),
            ):
                pass
    assert finish(config).skipped


def test_a_job_waits_for_a_lock_that_a_lost_node_may_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config, holder = Toy(output=str(tmp_path / "r")), Run("toy", Toy(output=str(tmp_path / "r")))
    monkeypatch.setenv(JOB_VARIABLE, "{}")
    monkeypatch.setattr("s1ray.runs.LOOK_S", 0.1)
    holder.__enter__()
    threading.Timer(0.5, holder._release).start()
    assert finish(config).resumed
    assert caplog.text.count("or was on a node that is lost; waiting for at most 180 s") == 1


def test_a_job_does_not_repeat_what_was_completed_while_it_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, holder = Toy(output=str(tmp_path / "r")), Run("toy", Toy(output=str(tmp_path / "r")))
    monkeypatch.setenv(JOB_VARIABLE, "{}")
    monkeypatch.setattr("s1ray.runs.LOOK_S", 0.1)
    holder.__enter__()
    holder.rows["out"] = 5
    threading.Timer(0.5, lambda: holder.__exit__(None, None, None)).start()
    waited = finish(config)
    assert waited.skipped
    assert waited.rows == {"out": 5}
    assert not (tmp_path / "r" / "data.txt").exists()


def test_a_job_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Toy(output=str(tmp_path / "r"))
    monkeypatch.setenv(JOB_VARIABLE, "{}")
    monkeypatch.setattr("s1ray.runs.LOOK_S", 0.1)
    monkeypatch.setattr("s1ray.runs.LOST_NODE_S", 0.5)
    with Run("toy", config), pytest.raises(RunError, match="is at work there"), Run("toy", config):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    script = f"""
import os
from tests.test_runs import Run, Toy
Run("toy", Toy(output={str(tmp_path / "r")!r})).__enter__()
os._exit(9)
"""
    killed = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[1])
    assert killed.returncode == 9
    again = finish(Toy(output=str(tmp_path / "r")))
    assert again.resumed


def test_force_leaves_no_lock_in_a_foreign_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="deletes run folders only"):
        Run("toy", Toy(output=str(tmp_path)), force=True)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_input_counts_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    class Reader(Toy):
        source: str

    def run(folder: Path) -> Run:
        source = folder / "source.txt"
        return finish(Reader(output=str(tmp_path / "r"), source=str(source)), {"source": source})

    for name, text in (("one", "same"), ("two", "same"), ("three", "other")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "source.txt").write_text(text)
    assert not run(tmp_path / "one").skipped
    assert run(tmp_path / "two").skipped
    with pytest.raises(RunError, match="differs in source, input source"):
        run(tmp_path / "three")
