"""What is said of storage that nodes see, see late, see otherwise, or do not answer for; no node is started."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s1ray import probe
from s1ray.probe import NAME, StorageError, Token, check_seen, judged, look, written
from s1ray.storage import AnyPath, StorePath, location
from tests.support.object_store import bucket, s3_environment, s3_server  # noqa: F401

Answers = Callable[[Token, str], str | Exception | None]
"""What a node gives for a token and its own name."""


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets how long a file is waited for: long, where it comes; shortly, where it does not."""
    monkeypatch.setattr(probe, "PAUSE_S", 0.02)
    monkeypatch.setattr(probe, "LOOK_S", 0.2)
    return lambda seconds: monkeypatch.setattr(probe, "LOOK_S", seconds)


@pytest.fixture
def a_cluster(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Stand for the connected cluster: nodes by name, and what each answers."""

    def made(**nodes: Answers) -> None:
        import ray

        entries = [{"NodeID": name, "NodeManagerAddress": f"10.0.0.{name}", "Alive": True} for name in nodes]

        def ask_nodes(function: object, token: Token, *, seconds: float) -> Iterator[tuple[dict[str, Any], object]]:
            assert (function, seconds) == (look, probe.ANSWER_S)
            yield from ((entry, nodes[str(entry["NodeID"])](token, str(entry["NodeID"]))) for entry in entries)

        monkeypatch.setattr(ray, "nodes", lambda: [*entries, {"NodeID": "gone", "Alive": False}])
        monkeypatch.setattr(probe, "ask_nodes", ask_nodes)

    return made


def in_folder(folder: AnyPath) -> Answers:
    """A node that has another folder at that path."""
    return lambda token, node: look(replace(token, folder=str(folder)), node)


def late(token: Token, node: str) -> None:
    """A node whose answer is seen by others a while after it was written."""
    threading.Timer(0.1, look, (token, node)).start()


def refusal(place: AnyPath) -> str:
    with pytest.raises(StorageError) as told:
        check_seen(place)
    return str(told.value)


def test_nodes_that_read_and_write_are_let_through_and_nothing_is_left(
    tmp_path: Path, a_cluster: Callable[..., None], waits: Callable[[float], None]
) -> None:
    waits(60)
    a_cluster(a=look, b=late)
    check_seen(tmp_path / "new" / "run")
    assert list((tmp_path / "new" / "run").iterdir()) == []


def test_a_single_node_is_not_asked(tmp_path: Path, a_cluster: Callable[..., None]) -> None:
    a_cluster(a=lambda token, node: "never")
    check_seen(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_node_with_another_folder_is_named(tmp_path: Path, a_cluster: Callable[..., None]) -> None:
    a_cluster(a=look, b=in_folder(tmp_path / "elsewhere"), c=in_folder(tmp_path / "elsewhere"))
    told = refusal(tmp_path / "run")
    assert told.startswith(
        f"{tmp_path / 'run'}: 2 of 3 nodes do not read and write there (10.0.0.b: the file that was just written there "
        "is not seen; 10.0.0.c: "
    )
    assert "output=s3://BUCKET/RUN" in told
    assert list((tmp_path / "run").iterdir()) == []


def test_a_node_that_reads_another_content_is_named(tmp_path: Path, a_cluster: Callable[..., None]) -> None:
    (tmp_path / NAME).write_bytes(b"\xff an older token")
    a_cluster(a=look, b=in_folder(tmp_path))
    assert "10.0.0.b: the file that was just written there has another content" in refusal(tmp_path / "run")


def test_a_node_that_cannot_read_or_write_says_why(tmp_path: Path, a_cluster: Callable[..., None]) -> None:
    (tmp_path / "unreadable" / NAME).mkdir(parents=True)

    def barred(token: Token, node: str) -> str | None:
        (Path(token.folder) / node).mkdir()
        return look(token, node)

    a_cluster(a=look, b=barred, c=in_folder(tmp_path / "unreadable"))
    told = refusal(tmp_path / "run")
    assert "10.0.0.b: nothing can be written there: Is a directory" in told
    assert "10.0.0.c: the file that was just written there cannot be read: Is a directory" in told


def test_a_node_whose_answer_does_not_come_here_is_named(tmp_path: Path, a_cluster: Callable[..., None]) -> None:
    def other(token: Token, node: str) -> None:
        (Path(token.folder) / node).write_text("of another run")

    a_cluster(a=look, b=lambda token, node: None, c=other)
    told = refusal(tmp_path / "run")
    assert "10.0.0.b: the file that it wrote there is not seen here" in told
    assert "10.0.0.c: the file that it wrote there has another content here" in told


def test_a_node_that_never_answers_or_whose_task_fails_is_named(tmp_path: Path, a_cluster: Callable[..., None]) -> None:
    silent = TimeoutError("no answer within 120 s")
    a_cluster(a=look, b=lambda *_: silent, c=lambda *_: ModuleNotFoundError("No module named 's1ray'\nof https://x"))
    told = refusal(tmp_path / "run")
    assert "10.0.0.b: TimeoutError: no answer within 120 s" in told
    assert "10.0.0.c: ModuleNotFoundError: No module named 's1ray')" in told
    assert list((tmp_path / "run").iterdir()) == []


def test_a_place_where_this_process_cannot_write_is_an_error_of_its_own(
    tmp_path: Path, a_cluster: Callable[..., None]
) -> None:
    (tmp_path / "file").write_text("")
    a_cluster(a=look, b=look)
    with pytest.raises(NotADirectoryError):
        check_seen(tmp_path / "file" / "run")


def test_a_node_waits_for_a_file_that_comes_late(tmp_path: Path, waits: Callable[[float], None]) -> None:
    waits(60)
    token = Token(str(tmp_path), "text")
    threading.Timer(0.1, (tmp_path / NAME).write_text, ("text",)).start()
    assert look(token, "a") is None
    assert judged(token, {"a": None, "b": "told"}) == {"a": None, "b": "told"}


def test_all_answers_are_waited_for_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = [0.0]

    def sleep(seconds: float) -> None:
        passed[0] += seconds

    monkeypatch.setattr(probe, "time", SimpleNamespace(monotonic=lambda: passed[0], sleep=sleep))
    problems = judged(Token(str(tmp_path), "text"), dict.fromkeys(map(str, range(20))))
    assert None not in problems.values()
    assert passed[0] == pytest.approx(probe.LOOK_S, abs=2 * probe.PAUSE_S)


def test_a_relative_place_is_the_same_on_nodes_with_another_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with written("run") as token:
        monkeypatch.chdir("/")
        assert look(token, "a") is None
    assert list((tmp_path / "run").iterdir()) == []


def test_a_store_is_seen_by_its_nodes_and_left_as_it_was(
    bucket: StorePath,  # noqa: F811
    a_cluster: Callable[..., None],
    waits: Callable[[float], None],
) -> None:
    waits(60)
    run = bucket / "runs" / "one"
    (run / "kept").write_text("kept")
    a_cluster(a=look, b=late)
    check_seen(run)
    waits(0.2)
    a_cluster(a=look, b=in_folder(f"{bucket}/elsewhere"), c=in_folder("s3://no-such-bucket-of-ours/run"))
    told = refusal(run)
    assert "10.0.0.b: the file that was just written there is not seen" in told
    assert "10.0.0.c: the file that was just written there " in told
    assert [path.name for path in run.rglob("*")] == ["kept"]


def test_a_store_that_takes_no_writes_is_an_error_of_its_own(
    s3_environment: None,  # noqa: F811
    a_cluster: Callable[..., None],
) -> None:
    a_cluster(a=look, b=look)
    with pytest.raises(OSError, match="no-such-bucket-of-ours"):
        check_seen(location("s3://no-such-bucket-of-ours/run"))
