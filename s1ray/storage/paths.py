"""Where something lies: a path of this machine, or an address in an object store.

    location("runs/one")              pathlib.Path
    location("s3://bucket/runs/one")  StorePath

Both have the verbs that rooms use, with the same meaning; the type checker sees to it that no others are used where a
store may come. A `StorePath` is no `os.PathLike` on purpose: what takes any path (`os.path`, `shutil`, `open`) would
take the address for a local name, and write a folder called `s3:`. `str(path)` is the address, and
`location(str(path))` the path again.

What a store answers with "later" (503, slow down, a lost connection) is asked for again by its own client, with growing
pauses (for S3 see `s3`). Then the error is told.
"""

from __future__ import annotations

import ctypes
import errno
import fnmatch
import functools
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, TypeAlias, cast, overload
from urllib.parse import parse_qsl, quote

from s1ray.errors import S1rayError

if TYPE_CHECKING:
    from pyarrow import NativeFile, fs

S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""Environment variables of an S3 server that is not Amazon's, the first one first."""
NO_ROOM = "Failed to flush response stream"
"""S3's client says so, and asks no more, where an answer such as a 503 is longer than what it reads into."""
TRIES = 12
"""Of such a reading."""
READ_BYTES = 1 << 20
"""Of a file that is read in order, per request."""


class StoreError(S1rayError, OSError):
    """An object store that does not do what it was asked."""

    def __init__(self, path: StorePath, error: object) -> None:
        """Tell what a client said of a path."""
        why = str(error).partition(" (Request ID")[0].strip()
        super().__init__(errno.EIO, why)
        self.path = path

    def __str__(self) -> str:
        return (
            f"{self.path}: the object store did not do what it was asked: {self.strerror}; see that the bucket is "
            "there, that this machine's role or environment has the rights, and that the store can be reached"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.strerror)


class Stat(NamedTuple):
    """What is known of an object; named as in `os.stat_result`."""

    st_size: int
    st_mtime: float
    """By the store's clock, in seconds."""


@dataclass(frozen=True)
class StorePath:
    """A place in an object store, with pathlib's verbs. It may be pickled; each process connects for itself."""

    root: str
    """Scheme and bucket: "s3://bucket"."""
    key: str
    """What follows, without slashes at its ends; empty for the bucket."""
    query: str = ""
    """Options of the connection, as they stand after `?`."""

    def __str__(self) -> str:
        key = "".join(quote(character) if character in "%?#" else character for character in self.key)
        return f"{self.root}/{key}".rstrip("/") + (f"?{self.query}" if self.query else "")

    def __lt__(self, other: StorePath) -> bool:
        # By the parts, as pathlib's: "a/b" comes before "a-b".
        return (self.root, self.key.split("/")) < (other.root, other.key.split("/"))

    def __truediv__(self, name: str | PurePosixPath) -> StorePath:
        inner = [part for part in str(name).split("/") if part not in ("", ".")]
        if ".." in inner:
            raise ValueError(f"{name!r}: an object store has no '..'")
        return self._at("/".join([self.key, *inner]).strip("/"))

    def joinpath(self, *names: str) -> StorePath:
        """A path below."""
        return functools.reduce(StorePath.__truediv__, names, self)

    @property
    def name(self) -> str:
        """The last part; the bucket's name where there is no other."""
        return PurePosixPath(self.key).name or self.root.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The name's ending."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> StorePath:
        """The folder around it; a bucket is its own."""
        return self._at(self.key.rpartition("/")[0])

    @property
    def bucket(self) -> StorePath:
        """What all of its like lie in."""
        return self._at("")

    @property
    def parents(self) -> list[StorePath]:
        """The folders around it, the nearest first."""
        return [] if not self.key else [self.parent, *self.parent.parents]

    def with_name(self, name: str) -> StorePath:
        """Another name in the same folder."""
        return self.parent / name

    def with_suffix(self, suffix: str) -> StorePath:
        """The same name with another ending."""
        return self.parent / PurePosixPath(self.name).with_suffix(suffix).name

    def relative_to(self, other: Path | StorePath) -> PurePosixPath:
        """The path from a folder around it.

        Raises:
            ValueError: it does not lie there.
        """
        if not isinstance(other, StorePath) or (self.root, self.query) != (other.root, other.query):
            raise ValueError(f"{self} does not lie in {other}")
        return PurePosixPath(self.key).relative_to(other.key)

    def absolute(self) -> StorePath:
        """Itself."""
        return self

    def resolve(self) -> StorePath:
        """Itself: a store has no links."""
        return self

    def is_symlink(self) -> bool:
        """False."""
        return False

    def exists(self) -> bool:
        """Whether an object is there, or some are below."""
        return self._info() is not None

    def is_file(self) -> bool:
        """Whether an object is there."""
        info = self._info()
        return info is not None and bool(info.is_file)

    def is_dir(self) -> bool:
        """Whether objects are below."""
        info = self._info()
        return info is not None and not info.is_file

    def stat(self) -> Stat:
        """Size and time of an object.

        Raises:
            FileNotFoundError: nothing is there.
        """
        info = self._info()
        if info is None:
            raise self._missing()
        return Stat(info.size or 0, info.mtime_ns / 1e9 if info.mtime_ns else 0.0)

    def iterdir(self) -> Iterator[StorePath]:
        """What lies in the folder.

        Raises:
            FileNotFoundError: there is no such folder.
        """
        found = self._listed(recursive=False)
        if not found and not self.is_dir():
            raise self._missing()
        return iter(found)

    def glob(self, pattern: str) -> Iterator[StorePath]:
        """What matches in the folder, `*` within one name only; nothing where the folder is not there."""
        wanted = pattern.split("/")
        for path in self._listed(recursive=len(wanted) > 1):
            parts = path.relative_to(self).parts
            if len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted)):
                yield path

    def rglob(self, pattern: str) -> Iterator[StorePath]:
        """What lies in the folder and those below, and whose name matches."""
        return (path for path in self._listed(recursive=True) if fnmatch.fnmatchcase(path.name, pattern))

    def mkdir(self, *, parents: bool = True, exist_ok: bool = True) -> None:
        """Nothing: a folder is there when an object is in it."""

    @overload
    def open(self, mode: Literal["rb"]) -> BinaryIO: ...

    @overload
    def open(self, mode: Literal["r"] = "r", encoding: str | None = None) -> IO[str]: ...

    def open(self, mode: Literal["r", "rb"] = "r", encoding: str | None = None) -> IO[Any]:
        """The object's content, from any position on.

        Raises:
            FileNotFoundError: there is no such object.
        """
        stream = io.BufferedReader(_Reader(self), READ_BYTES)
        return cast(BinaryIO, stream) if mode == "rb" else io.TextIOWrapper(stream, encoding or "utf-8")

    def read_bytes(self) -> bytes:
        """The whole content."""
        with self.open("rb") as stream:
            return stream.read()

    def read_range(self, offset: int, length: int) -> bytes:
        """Some bytes of the content."""
        with _Reader(self) as raw:
            raw.seek(offset)
            found = bytearray(length)
            got = 0
            while got < length and (more := raw.readinto(memoryview(found)[got:])):
                got += more
            return bytes(found[:got])

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The whole content as text."""
        return self.read_bytes().decode(encoding, errors)

    def write_bytes(self, data: bytes) -> int:
        """Write an object; others see the old one, or none, until all of it is there."""
        with self.writing() as stream:
            stream.write(data)
        return len(data)

    def write_text(self, data: str, encoding: str = "utf-8", errors: str = "strict") -> int:
        """Write an object with a text."""
        return self.write_bytes(data.encode(encoding, errors))

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete an object.

        Raises:
            FileNotFoundError: there is none, and that is not allowed.
        """
        try:
            with self._told():
                self.filesystem.delete_file(self.place)
        except FileNotFoundError:
            if not missing_ok:
                raise

    @contextmanager
    def writing(self) -> Iterator[NativeFile]:
        """A stream whose content is the object when the block ends well; its bytes are written as they are.

        After an error in the block the object that is there stays, whosever it is. As after a kill, a large upload that
        was begun is left unfinished in the store.
        """
        with self._told():
            # Left to itself, pyarrow compresses what goes into a name that ends in .gz.
            stream = self.filesystem.open_output_stream(self.place, compression=None)
            try:
                yield stream
            except BaseException:
                # pyarrow cannot give a stream up: closed or freed, it writes what it has. So this one is never freed.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(stream))
                raise
            stream.close()

    @property
    def filesystem(self) -> fs.FileSystem:
        """The connection, one in each process."""
        with self._told():
            return _connection(self.root, self.query)[0]

    @property
    def place(self) -> str:
        """The path as the connection wants it."""
        base = _connection(self.root, self.query)[1]
        return f"{base.rstrip('/')}/{self.key}".rstrip("/") or "/"

    def _at(self, key: str) -> StorePath:
        return StorePath(self.root, key, self.query)

    def _missing(self) -> FileNotFoundError:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))

    def _info(self) -> fs.FileInfo | None:
        from pyarrow import fs

        with self._told():
            info = self.filesystem.get_file_info(self.place)
        return None if info.type == fs.FileType.NotFound else info

    def _listed(self, *, recursive: bool) -> list[StorePath]:
        from pyarrow import fs

        base = self.place
        with self._told():
            found = self.filesystem.get_file_info(fs.FileSelector(base, recursive=recursive, allow_not_found=True))
        # Some stores keep an empty object as the mark of a folder.
        inner = sorted({info.path.removeprefix(base).strip("/") for info in found} - {""})
        return [self / name for name in inner]

    @contextmanager
    def _told(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except FileNotFoundError:
            raise self._missing() from None
        except StoreError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise StoreError(self, error) from None


class _Reader(io.RawIOBase):
    """An object that is read, its errors in words."""

    def __init__(self, path: StorePath) -> None:
        self._path = path
        with path._told():
            self._file = path.filesystem.open_input_file(path.place)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        for attempt in range(TRIES):
            try:
                with self._path._told():
                    return int(self._file.readinto(buffer))
            except StoreError as error:
                # Or the object went since it was opened.
                if not self._path.exists():
                    raise self._path._missing() from None
                if NO_ROOM not in str(error.strerror) or attempt + 1 == TRIES:
                    raise
                time.sleep(attempt and 0.025 * 2**attempt)
        raise AssertionError

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


@functools.lru_cache(maxsize=32)
def _connection(root: str, query: str) -> tuple[fs.FileSystem, str]:
    """The file system of a bucket, and the bucket's path there."""
    from pyarrow import fs

    if not root.startswith("s3://"):
        try:
            found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(f"{root}/")
        except (ImportError, ValueError) as error:
            raise OSError(errno.ENOTSUP, f"pyarrow cannot open it: {error}") from None
        return found
    from s1ray.storage.s3 import PatientS3FileSystem

    options = dict(parse_qsl(query))
    endpoint = next((os.environ[name] for name in S3_ENDPOINTS if os.environ.get(name)), None)
    options.setdefault("endpoint_override", endpoint or "")
    return (
        PatientS3FileSystem(
            # A small object is one request; its errors come when it is closed.
            allow_delayed_open=True,
            **{name: value for name, value in options.items() if value},
        ),
        root.removeprefix("s3://"),
    )


Location: TypeAlias = Path | StorePath
"""Where something lies."""
AnyPath: TypeAlias = str | os.PathLike[str] | StorePath
"""What `location` takes."""
