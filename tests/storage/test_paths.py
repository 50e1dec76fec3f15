"""An address in a store has pathlib's verbs, on a real S3 server."""

from __future__ import annotations

import contextlib
import io
import pickle
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s1ray.errors import InputError, S1rayError
from s1ray.storage import StoreError, StorePath, location, readable
from tests.support.object_store import reach

ATTEMPTS = 4


@pytest.mark.parametrize(
    ("text", "path"),
    [("runs/one", "runs/one"), ("/a/b", "/a/b"), ("file:///a/b%20c", "/a/b c"), ("~/x", "~/x"), (Path("a"), "a")],
)
def test_paths_of_this_machine_are_pathlibs(text: str, path: str) -> None:
    assert location(text) == Path(path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://bucket/runs/one/", "s3://bucket/runs/one"),
        ("S3://bucket//runs/./one", "s3://bucket/runs/one"),
        ("s3://bucket", "s3://bucket"),
        ("gs://bucket/a=1 b", "gs://bucket/a=1 b"),
        ("abfss://box@account.dfs.core.windows.net/a", "abfss://box@account.dfs.core.windows.net/a"),
        ("s3://bucket/a?region=eu-west-1", "s3://bucket/a?region=eu-west-1"),
        ("s3://bucket/a%3Fb%23c%25", "s3://bucket/a%3Fb%23c%25"),
    ],
)
def test_an_address_is_shown_as_it_is_read(text: str, shown: str) -> None:
    path = location(text)
    assert isinstance(path, StorePath)
    assert str(path) == shown
    assert location(str(path)) == path == pickle.loads(pickle.dumps(path))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("s3://key:secret@bucket/a", "may hold no user, password"),
        ("s3://key@bucket/a", "may hold no user, password"),
        ("s3://bucket/a?access_key=secret", "AWS_ACCESS_KEY_ID"),
        ("abfss://account:secret@box/a", "may hold no user, password"),
        ("gs://bucket/a?key=secret", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("az://box/a", "abfss://CONTAINER@ACCOUNT"),
        ("http://host/a", "begins with s3://"),
        ("ftp://host/a", "unknown storage"),
        ("s3:///a", "has no bucket"),
        ("s3://bucket/a/../b", "no '..'"),
        ("s3://bucket/a#b", "%23"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_in_words_without_its_secret(text: str, why: str) -> None:
    with pytest.raises(InputError, match=re.escape(why)) as refused:
        location(text)
    assert "secret" not in str(refused.value)


def test_the_verbs_of_names_are_pathlibs() -> None:
    path = location("s3://bucket/runs/one/part.parquet")
    local = Path("/bucket/runs/one/part.parquet")
    for verb in ("name", "stem", "suffix"):
        assert getattr(path, verb) == getattr(local, verb)
    assert str(path.with_suffix(".x")) == "s3://bucket/runs/one/part.x"
    assert str(path.with_name("x")) == "s3://bucket/runs/one/x"
    assert [str(each) for each in path.parents] == ["s3://bucket/runs/one", "s3://bucket/runs", "s3://bucket"]
    assert str(path.relative_to(path.parent.parent)) == "one/part.parquet"  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        path.relative_to(location("s3://other/runs"))  # type: ignore[arg-type]


def test_what_takes_any_path_of_the_machine_does_not_take_an_address() -> None:
    with pytest.raises(TypeError):
        Path(location("s3://bucket/a"))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [10, 5000])
def test_an_object_that_goes_while_it_is_read_is_missing(bucket: StorePath, size: int) -> None:
    (bucket / "ticket").write_bytes(bytes(size))
    with (bucket / "ticket").open("rb") as stream:
        (bucket / "ticket").unlink()
        with pytest.raises(FileNotFoundError):
            stream.read()


def test_objects_are_written_listed_read_and_deleted(bucket: StorePath) -> None:
    run = bucket / "runs" / "a=1 b%?#ä"
    assert not run.exists()
    assert list(run.glob("*")) == []
    with pytest.raises(FileNotFoundError):
        run.iterdir()
    (run / "one.txt").write_text("ä\nb\n")
    (run / "inner" / ".hidden.txt").write_bytes(b"12345")
    assert run.is_dir()
    assert not run.is_file()
    assert (run / "one.txt").is_file()
    assert (run / "inner" / ".hidden.txt").stat().st_size == 5
    assert [path.name for path in run.iterdir()] == ["inner", "one.txt"]
    assert [path.name for path in run.glob("*.txt")] == ["one.txt"]
    assert [path.name for path in run.glob("*/*.txt")] == [".hidden.txt"]
    assert sorted(path.name for path in run.rglob("*.txt")) == [".hidden.txt", "one.txt"]
    assert location(str(run / "one.txt")).read_text() == "ä\nb\n"
    with (run / "one.txt").open() as lines:
        assert list(lines) == ["ä\n", "b\n"]
    with (run / "inner" / ".hidden.txt").open("rb") as stream:
        stream.seek(-2, io.SEEK_END)
        assert stream.read() == b"45"
    (run / "one.txt").unlink()
    (run / "one.txt").unlink(missing_ok=True)
    for wrong in ((run / "one.txt").unlink, (run / "one.txt").read_text, (run / "one.txt").stat):
        with pytest.raises(FileNotFoundError, match="one"):
            wrong()


def test_pyarrow_reads_what_is_readable(bucket: StorePath) -> None:
    table = pa.table({"a": range(5)})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    (bucket / "a.parquet").write_bytes(sink.getvalue())
    assert pq.read_table(readable(bucket / "a.parquet"), columns=["a"]) == table
    assert pq.read_metadata(readable(str(bucket / "a.parquet"))).num_rows == 5


def test_a_bucket_that_is_not_there_is_told_in_words(s3_environment: None) -> None:
    path = location("s3://no-such-bucket-here/run/a")
    with pytest.raises(StoreError, match="s3://no-such-bucket-here/run/a: the object store did not") as told:
        path.write_text("x")
    assert isinstance(told.value, S1rayError)
    assert "Request ID" not in str(told.value)
    assert str(pickle.loads(pickle.dumps(told.value))) == str(told.value)


@contextlib.contextmanager
def answering(handler: type[BaseHTTPRequestHandler], patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside the block, S3 is a server of this handler."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    reach(patch, f"http://127.0.0.1:{server.server_port}")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class _Busy(BaseHTTPRequestHandler):
    """Answers 503 so many times, then as an S3 server without the object would."""

    refusals, asked = 0, 0

    def do_PUT(self) -> None:
        type(self).asked += 1
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        busy = type(self).asked <= type(self).refusals
        body = (
            b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>" if busy else b""
        )
        self.send_response(503 if busy else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.parametrize(("refusals", "asked"), [(3, 4), (1000, ATTEMPTS)])
def test_a_store_that_says_slow_down_is_asked_again_and_not_for_ever(
    refusals: int, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Busy, "refusals", refusals)
    monkeypatch.setattr(_Busy, "asked", 0)
    monkeypatch.setattr("s1ray.storage.s3.ATTEMPTS", ATTEMPTS)
    path = location(f"s3://busy-{refusals}/a")
    with answering(_Busy, monkeypatch):
        if refusals < ATTEMPTS:
            path.write_bytes(b"x")
        else:
            with pytest.raises(StoreError, match="SLOW_DOWN"):
                path.write_bytes(b"x")
    assert _Busy.asked == asked


class _EveryThird(BaseHTTPRequestHandler):
    """Answers 503 to every third request, and an object to the others."""

    asked, content = 0, b""

    def do_GET(self) -> None:
        type(self).asked += 1
        busy = type(self).asked % 3 == 2
        body = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
        self.send_response(503 if busy else 200)
        self.send_header("Content-Length", str(len(body if busy else self.content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body if busy else self.content)

    do_HEAD = do_GET

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.parametrize(("content", "times"), [(b"hello " * 100, 300), (b"hello", 10)])
def test_a_store_that_is_busy_for_long_is_asked_as_often_as_needed(
    content: bytes, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More often than a client of S3 allows a process in all; and where its answer is longer than the object."""
    monkeypatch.setattr(_EveryThird, "content", content)
    monkeypatch.setattr(_EveryThird, "asked", 0)
    path = location(f"s3://often-{times}/a")
    assert isinstance(path, StorePath)
    with answering(_EveryThird, monkeypatch):
        assert {path.read_bytes() for _ in range(times)} == {content}
        sent = pickle.loads(pickle.dumps(path.filesystem))
        if times > 100:
            assert {sent.open_input_file(path.place).read() for _ in range(times)} == {content}
    assert _EveryThird.asked > times
