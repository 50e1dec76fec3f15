"""What readers give: records by column, and records that cannot be used."""

from __future__ import annotations

import dataclasses
import difflib
import platform
from collections.abc import Iterable, Iterator

from s1ray.errors import InputError
from s1ray.storage import StoreError, location

MAX_BYTES = 32 << 20
"""A longer line or cell is no question: a file in which a newline or a quote is missing, or an image."""
SHOWN = 200
"""Characters of a bad record that are kept."""

Record = dict[str, object]
"""A row of a file or data set, by column."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bad:
    """A record that cannot be used."""

    kind: str
    """What is wrong, in words that many records share ("not JSON"): they are counted by it."""
    detail: str = ""
    """What is wrong with this one."""
    text: str = ""
    """The beginning of the record."""

    @property
    def reason(self) -> str:
        """Kind and detail."""
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


Items = Iterator[tuple[int, Record | Bad]]
"""Records with their places: lines or rows, counted from 1 where the piece begins."""


class Unusable(Exception):
    """Raised inside a record that cannot be used; `bad` says why."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind, detail)
        self.bad = Bad(kind, detail)


class BadFile(InputError):
    """A whole file that cannot be read, or not to its end; the message does not name it."""


def reading_error(path: str, error: Exception) -> InputError:
    """What a file does that cannot be read: it is damaged, or this process cannot have it, now at least."""
    if isinstance(error, FileNotFoundError | PermissionError):
        where = f"{error.strerror} on {platform.node()}"
        return InputError(f"{path}: {where}; sources must lie where every node can read them")
    if isinstance(error, StoreError):
        return InputError(str(error))
    # Those of damaged content come from pyarrow, without a number.
    if isinstance(error, OSError) and error.errno is not None:
        return InputError(f"{path}: {error.strerror} on {platform.node()}; run again when it can be read")
    what = disguise(path)
    return BadFile(f"by its content this is {what}" if what else f"cut or damaged ({error})")


_MARKS: tuple[tuple[bytes, tuple[str, ...], str], ...] = (
    (b"PAR1", (".parquet",), "Parquet; name it .parquet"),
    (b"ARROW1", (".arrow",), "Arrow; name it .arrow"),
    (b"\x1f\x8b", (".gz",), "compressed with gzip; add .gz to its name"),
    (b"\x28\xb5\x2f\xfd", (".zst",), "compressed with zstd; add .zst to its name"),
    (b"PK\x03\x04", (".zip",), "a ZIP archive, or a workbook; unpack it, or save it as CSV"),
    (b"version https://git-lfs", (), "a pointer of Git LFS, not the file itself; get it with `git lfs pull`"),
    (b"<!DOCTYPE", (), "a web page"),
    (b"<!doctype", (), "a web page"),
    (b"<html", (), "a web page"),
    (b"%PDF", (), "a PDF"),
    (b'{"', (".json", ".jsonl", ".ndjson"), "JSON; name it .jsonl"),
    (b"[{", (".json", ".jsonl", ".ndjson"), "JSON; name it .json"),
)
"""What files begin with, what their names then end with, and what to do where they do not."""


def disguise(path: str) -> str:
    """What a file is by its first bytes where its name says something else; empty: nothing that is known."""
    try:
        with location(path).open("rb") as stream:
            begin = stream.read(32)
    except OSError:
        return ""
    found = (what for mark, ends, what in _MARKS if begin.startswith(mark) and not path.lower().endswith(ends))
    return next(found, "")


def beginning(value: object) -> str:
    """The first characters of a record, as text that any file can hold."""
    if isinstance(value, bytes):
        text = value[: 4 * SHOWN].decode("utf-8", "backslashreplace")
    elif isinstance(value, dict):
        text = ", ".join(f"{name}: {str(cell)[:SHOWN]}" for name, cell in list(value.items())[:8])
    else:
        text = str(value)[: 4 * SHOWN]
    return text[:SHOWN].replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def close_names(name: str, names: Iterable[str]) -> str:
    """For the message that there is no such column: what was meant, and which columns there are."""
    there = sorted(names)
    close = difflib.get_close_matches(name, there, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ";"
    return f"no column {name!r}{meant} there are {', '.join(there) or 'none'}"
