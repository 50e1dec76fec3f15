"""JSON: one object per line, an array of objects, objects one after another, or a single one; never a file at once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import IO

from s1ray.reading.items import MAX_BYTES, Bad, BadFile, Items, Record, beginning
from s1ray.reading.streams import decoded, lines, too_long


def _object(pairs: list[tuple[str, object]]) -> Record:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


_DECODER = json.JSONDecoder(parse_float=Decimal, object_pairs_hook=_object)
_KINDS = {
    "int": "number",
    "Decimal": "number",
    "float": "number",
    "str": "text",
    "NoneType": "null",
    "bool": "truth value",
}
_CHUNK = 1 << 20
# A string, a bracket, or a quote whose string has no end yet.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\]"]', re.DOTALL)
_SCALAR = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[^,\]\s]+', re.DOTALL)
_SPACE = b" \t\r\n"


def record_of(text: bytes, encoding: str, *, last: bool = False) -> Record | Bad:
    """One JSON object. Its numbers keep their digits: those with a point or an exponent are `Decimal`.

    Args:
        text: the object.
        encoding: of the file.
        last: nothing comes after it, so it may be cut.
    """
    line = decoded(text, encoding)
    if isinstance(line, Bad):
        return line
    try:
        value = _DECODER.decode(line)
    except (ValueError, RecursionError) as error:
        told = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        return Bad("not JSON", f"{told}{'; the file may be cut here' if last else ''}", beginning(text))
    if not isinstance(value, dict):
        kind = type(value).__name__
        return Bad("not a JSON object", _KINDS.get(kind, kind), beginning(text))
    return value


def is_lines(begin: bytes, *, named: bool) -> bool:
    """Whether a JSON file has one object per line, judged by its first lines.

    Args:
        begin: the first two lines, or more.
        named: it is called so (.jsonl); then only an array speaks against it.
    """
    begin = begin.lstrip(_SPACE)
    if named or not begin.startswith(b"{"):
        # An array, or a line that cannot be used.
        return not begin.startswith(b"[")
    first, newline, rest = begin.partition(b"\n")
    if not newline or _is_object(first) or _is_object(rest.partition(b"\n")[0]):
        return True
    # An object over several lines breaks after a bracket or a comma; anything else is a bad first line.
    return not first.rstrip(_SPACE).endswith((b"{", b"[", b","))


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def read_lines(stream: IO[bytes], encoding: str, stop: int | None = None) -> Items:
    """The records of JSON lines.

    Args:
        stream: at the beginning of a line.
        encoding: of the file, for messages.
        stop: place in the stream from which on no further line is begun. None: read to the end.
    """
    place = stream.tell() if stop is not None else 0
    for number, line in enumerate(lines(stream), start=1):
        if stop is not None and place >= stop:
            return
        if isinstance(line, Bad):
            yield number, line
            place = stream.tell() if stop is not None else 0
            continue
        place += len(line)
        if line.strip():
            yield number, record_of(line, encoding, last=not line.endswith(b"\n"))


def read_values(stream: IO[bytes], encoding: str) -> Items:
    """The records of an array of objects, or of objects one after another.

    Raises:
        BadFile: the array is cut, or a bracket or quote without its partner makes the rest unreadable.
    """
    for number, value in enumerate(_Values(stream), start=1):
        yield number, value if isinstance(value, Bad) else record_of(value, encoding)


class _Values:
    """The texts of the values in a stream, each found by its brackets; what lies between them may be commas."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._buffer, self._place = stream, b"", 0

    def __iter__(self) -> Iterator[bytes | Bad]:
        array, number = self._next() == b"[", 0
        self._place += array
        while byte := self._next():
            if array and byte == b"]":
                self._place += 1
                if self._next():
                    raise BadFile(f"after element {number}: the array has ended, but the file goes on")
                return
            if array and byte == b",":
                self._place += 1
                continue
            number += 1
            yield self._nested(number) if byte in (b"{", b"[") else self._scalar()
        if array:
            raise BadFile(f"cut after element {number}: the array has no end")

    def _next(self) -> bytes:
        """The next byte that is no space; empty at the end."""
        while True:
            match = re.compile(rb"[^ \t\r\n]").search(self._buffer, self._place)
            if match is not None:
                self._place = match.start()
                return match.group()
            self._buffer, self._place = self._stream.read(_CHUNK), 0
            if not self._buffer:
                return b""

    def _nested(self, number: int) -> bytes | Bad:
        start, depth, whole = self._place, 0, True
        begin = self._buffer[start : start + 1000]
        while True:
            for token in _TOKEN.finditer(self._buffer, self._place):
                text = token.group()
                if text == b'"':
                    break
                self._place = token.end()
                depth += (text in (b"{", b"[")) - (text in (b"}", b"]"))
                if depth == 0:
                    return self._buffer[start : self._place] if whole else too_long(beginning(begin))
            # What is held is the value so far, or where it is too long what may begin a string.
            if len(self._buffer) - start > MAX_BYTES:
                whole, start = False, self._place
            held = self._buffer[start:]
            self._place -= start
            start = 0
            chunk = self._stream.read(max(_CHUNK, len(held)))
            if not chunk or len(held) > 2 * MAX_BYTES:
                why = "the file is cut, or a bracket or quote is not closed"
                raise BadFile(f"element {number} has no end ({why}): {beginning(begin)!r}")
            self._buffer = held + chunk

    def _scalar(self) -> bytes:
        """A number, a string or a word where an object should be."""
        self._buffer, self._place = self._buffer[self._place :] + self._stream.read(_CHUNK), 0
        match = _SCALAR.match(self._buffer)
        end = match.end() if match is not None else 1
        self._place = end
        return self._buffer[:end]
