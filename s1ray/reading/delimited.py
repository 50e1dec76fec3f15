"""CSV and TSV: the first line names the columns, quotes may hold line ends, an empty cell is a missing value."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from typing import IO

from s1ray.reading.items import MAX_BYTES, Bad, BadFile, Items, Record, beginning
from s1ray.reading.streams import lines

_DELIMITERS = ",;\t|"


def read_table(stream: IO[bytes], delimiter: str | None, encoding: str) -> Items:
    """The records of a CSV file; places are lines of the file, where a record begins.

    Args:
        stream: at the beginning of the file.
        delimiter: between two cells. None: what the header has most of.
        encoding: of the file, for messages.

    Raises:
        BadFile: there is no header, or it names a column twice.
    """
    csv.field_size_limit(MAX_BYTES)
    text = _Lines(stream)
    header_line = next(text, None)
    if header_line is None:
        return
    delimiter = delimiter or max(_DELIMITERS, key=header_line.count)
    # Strict: a quote in the wrong place is an error, not a guess.
    reader = csv.reader(itertools.chain([header_line], text), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader)]
    except csv.Error as error:
        raise BadFile(f"line 1: the header cannot be read ({error})") from None
    twice = {name for name in header if header.count(name) > 1}
    if twice or not all(header):
        what = f"names a column twice ({', '.join(sorted(twice))})" if twice - {""} else "has a column without a name"
        raise BadFile(f"line 1: the header {what}")
    while True:
        place = text.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if text.too_long is not None:
                yield place, text.take()
            else:
                yield place, Bad("not CSV", str(error), beginning(text.last))
            continue
        if text.too_long is not None:
            yield place, text.take()
        elif cells:
            yield place, _record(header, cells, encoding)


def _record(header: list[str], cells: list[str], encoding: str) -> Record | Bad:
    if len(cells) != len(header):
        return Bad(
            "not as the header", f"{len(cells)} cells, the header has {len(header)}", beginning(" | ".join(cells))
        )
    return {name: cell or None for name, cell in zip(header, cells, strict=True)}


class _Lines(Iterator[str]):
    """The lines of a stream as text for the csv module; bytes that are no UTF-8 become halves of surrogate pairs."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._lines = lines(stream)
        self.number = 0
        self.last = ""
        self.too_long: Bad | None = None

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        if isinstance(line, Bad):
            self.too_long, self.last = line, line.text
            return "\n"
        self.last = line.decode("utf-8", "surrogateescape")
        return self.last

    def take(self) -> Bad:
        """The line that was too long, once."""
        bad, self.too_long = self.too_long, None
        assert bad is not None
        return bad
