"""Text files as streams of bytes in UTF-8: decompressed, transcoded, without a byte-order mark; and their lines."""

from __future__ import annotations

import codecs
import contextlib
import io
from collections.abc import Iterator
from typing import IO

from s1ray.reading.files import DataFile
from s1ray.reading.items import MAX_BYTES, Bad, BadFile, beginning, disguise, reading_error
from s1ray.storage import StorePath, location, random_access

_BUFFER = 1 << 20
_COMPRESSED_BUFFER = 1 << 16
"""Smaller: where the file is cut, what is in the buffer is lost."""
_WIDE = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", b"\0\0\xfe\xff": "utf-32"}


def is_utf8(encoding: str) -> bool:
    """Whether an encoding is UTF-8, or a part of it."""
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")


@contextlib.contextmanager
def opened(file: DataFile, encoding: str, start: int = 0) -> Iterator[IO[bytes]]:
    """The bytes of a file as UTF-8, from byte `start` on (of files that are neither compressed nor transcoded).

    A character that `encoding` cannot decode becomes half of a surrogate pair, which no sound text holds.

    Raises:
        BadFile: the file is cut or damaged, or obviously of another encoding.
        InputError: it is not there, or the storage does not give it now.
    """
    import pyarrow as pa

    try:
        if file.compression is None:
            there = location(file.absolute)
            raw: IO[bytes] = there.open("rb") if isinstance(there, StorePath) else there.open("rb", buffering=_BUFFER)
        else:
            compressed = pa.CompressedInputStream(random_access(file.absolute), file.compression)
            raw = io.BufferedReader(compressed, _COMPRESSED_BUFFER)
        with raw:
            if file.compression is None and not start and (what := disguise(file.absolute)):
                raise BadFile(f"by its content this is {what}")
            if is_utf8(encoding):
                _skip_mark(raw, start, file)
                yield raw
            else:
                yield io.BufferedReader(_Transcoded(raw, encoding), _BUFFER)  # type: ignore[type-var]
    except (OSError, pa.ArrowInvalid, UnicodeError) as error:
        raise reading_error(file.absolute, error) from None


def _skip_mark(raw: IO[bytes], start: int, file: DataFile) -> None:
    if start:
        raw.seek(start)
        return
    begin = raw.peek(4)[:4]  # type: ignore[attr-defined]
    for mark, encoding in _WIDE.items():
        if begin.startswith(mark):
            raise BadFile(f"line 1: not UTF-8, but {encoding}; set the source's `encoding: {encoding}`")
    if begin.startswith(codecs.BOM_UTF8):
        raw.read(len(codecs.BOM_UTF8))


class _Transcoded(io.RawIOBase):
    """A stream in another encoding, as UTF-8."""

    def __init__(self, raw: IO[bytes], encoding: str) -> None:
        self._raw, self._left = raw, b""
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        ended = False
        while not self._left and not ended:
            chunk = self._raw.read(_BUFFER)
            ended = not chunk
            text = self._decoder.decode(chunk, final=ended)
            self._left = text.removeprefix("\ufeff").encode("utf-8", "surrogatepass")
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size


def lines(stream: IO[bytes], limit: int = MAX_BYTES) -> Iterator[bytes | Bad]:
    """The lines of a stream with their line ends; one of more than `limit` bytes as `Bad`, without holding it."""
    while line := stream.readline(limit):
        if len(line) < limit or line.endswith(b"\n"):
            yield line
            continue
        while (rest := stream.readline(limit)) and not rest.endswith(b"\n"):
            pass
        yield too_long(beginning(line))


def too_long(text: str) -> Bad:
    """For a line or cell over the limit."""
    return Bad("too long", f"over {MAX_BYTES >> 20} MiB", text)


def decoded(line: bytes, encoding: str) -> str | Bad:
    """A line as text, or what keeps it from being that."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        where = f"byte 0x{line[error.start]:02x} at position {error.start}"
        if is_utf8(encoding):
            advice = f"{where}; if the file has another encoding, set the source's `encoding` (for example latin-1)"
            return Bad("not UTF-8", advice, beginning(line))
        return Bad(f"not {encoding}", where, beginning(line))
