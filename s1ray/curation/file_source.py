"""Files of rows as a source: any format, mixed folders, globs."""

from __future__ import annotations

import codecs
import itertools
import os
from collections import Counter
from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from s1ray.config import ConfigError
from s1ray.curation.quarantine import excess
from s1ray.curation.records import RowMaker
from s1ray.curation.sources import RecordSource
from s1ray.reading.columnar import parquet_file
from s1ray.reading.files import Found, find_files, label_of
from s1ray.reading.items import Bad, BadFile, Items, Unusable, close_names
from s1ray.reading.pieces import Piece, ReadOptions, pieces_of, read_piece
from s1ray.reading.where import Where
from s1ray.storage import exists, is_dir

SAMPLE_FILES, SAMPLE_ROWS = 20, 100
"""How many files, and records of each, are looked at before anything starts."""


def _known_encoding(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise ValueError(
            f"{name!r} is no encoding that Python knows; for example utf-8, latin-1, cp1252, utf-16"
        ) from None


class FileSource(RecordSource):
    """Files of rows: Parquet, Arrow (also a folder that `datasets` has saved), JSON, JSON lines, CSV and TSV.

    Text may be compressed (.gz, .zst). A folder may hold several formats, in subfolders as well; each file is read by
    its own. `**` in a glob stands for any number of folders.
    """

    path: str | Annotated[list[str], Field(min_length=1)]
    """A file, a folder, a glob, or a list of these."""
    encoding: Annotated[str, AfterValidator(_known_encoding)] = "utf-8"
    """Of text files."""
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    """Between two cells of a CSV file. None: a comma, semicolon, tab or bar, whichever the header has most of."""
    on_bad_file: Literal["fail", "skip"] = "fail"
    """What a file does that is cut, damaged or no such file: the run fails, or goes on with what could be read of it.
    Either way it is in `quarantine.jsonl`."""

    @model_validator(mode="after")
    def _has_name(self) -> FileSource:
        if self.name is None and isinstance(self.path, list) and len(self.path) > 1:
            raise ValueError("name: a source with several paths needs one")
        return self

    @property
    def paths(self) -> list[str]:
        """The configured paths."""
        return [self.path] if isinstance(self.path, str) else list(self.path)

    @property
    def label(self) -> str:
        """The source's name, or the file's or folder's own."""
        return self.name or label_of(self.paths[0])

    def found(self) -> Found:
        """The files that there are.

        Raises:
            S1rayError: there are none, or one is of no known format.
        """
        return find_files(self.paths)

    def pieces(self) -> list[Piece]:
        """The pieces of all files, in the order of the paths and of their names."""
        return [piece for file in self.found().files for piece in pieces_of(file, self.encoding)]

    def records(self, piece: Piece, options: ReadOptions) -> Items:
        """The records of a piece of a file."""
        return read_piece(piece, options)

    def check(self, require: Collection[str]) -> str:
        """Look at the first records of the first files, and count the rows where that costs nothing.

        Raises:
            S1rayError: there is no file, or the records have no such columns.
        """
        super().check(require)
        found = self.found()
        sample = _Sample(self)
        for file in found.files[:SAMPLE_FILES]:
            sample.look(pieces_of(file, self.encoding))
        note, absent = "", sorted(sample.maker.absent) if sample.maker.names else []
        if absent and sample.whole and len(found.files) <= SAMPLE_FILES:
            where = found.files[0].path if len(found.files) == 1 else self.label
            raise ConfigError(f"{where}: {close_names(absent[0], sample.maker.names)}")
        if absent:
            note = f"; the first rows have no column {', '.join(absent)}"
        if sample.damaged is not None and self.on_bad_file == "fail":
            raise ConfigError(sample.damaged)
        if (
            sample.bad is not None
            and not sample.sound
            and (found_bad := excess(sample.kinds, sample.rows, self.max_bad_share))
        ):
            raise ConfigError(f"{sample.bad}; {found_bad}")
        note += "".join(f"; {problem}" for problem in (sample.damaged, sample.bad) if problem is not None)
        return f"source {self.label}: {_rows(found)}{note}"

    def rows_at_most(self) -> int | None:
        """The rows of Parquet files, or the limit."""
        counts = [count for count in (_count(self.found()), self.limit) if count is not None]
        return min(counts, default=None)

    def inputs(self) -> list[str]:
        """The files and folders; of a glob, and of a folder of several formats, the files."""
        inputs: list[str] = []
        for path in self.paths:
            there = os.path.expanduser(path)
            each = not exists(there)
            if is_dir(there):
                formats = {file.format for file in find_files(path).files}
                each = "parquet" in formats and len(formats) > 1
            inputs += [file.path for file in find_files(path).files] if each else [there]
        return inputs


class _Sample:
    """The first records of files.

    Attributes:
        maker: knows which columns there are.
        sound: how many records can be used, or are not wanted.
        kinds: the other ones, by what is wrong with them.
        whole: whether all columns of the files are known.
        bad: the first record that cannot be used.
        damaged: the first file that cannot be read.
    """

    def __init__(self, source: FileSource) -> None:
        self._source, self._where = source, Where.of(source.where)
        self.maker = RowMaker(source.columns, self._where, source.label)
        self._options = ReadOptions(
            encoding=source.encoding,
            delimiter=source.delimiter,
            on_columns=self.maker.note_columns,
            on_record=self.maker.note_record,
        )
        self.sound, self.whole, self.kinds = 0, True, Counter[str]()
        self.bad: str | None = None
        self.damaged: str | None = None

    @property
    def rows(self) -> int:
        """Records that were looked at."""
        return self.sound + self.kinds.total()

    def look(self, pieces: list[Piece]) -> None:
        """Look at the first records of a file, also at those that `where` does not want."""
        seen = 0
        for piece in pieces[:1]:
            try:
                for place, item in itertools.islice(self._source.records(piece, self._options), SAMPLE_ROWS):
                    seen += 1
                    self._judge(piece, place, item)
            except BadFile as error:
                self.damaged = self.damaged or f"{piece.file.path}: {error}"
        columnar = all(piece.unit == "row" and piece.file.format != "json" for piece in pieces)
        self.whole &= columnar or (len(pieces) <= 1 and seen < SAMPLE_ROWS)

    def _judge(self, piece: Piece, place: int, item: dict[str, object] | Bad) -> None:
        try:
            if isinstance(item, Bad):
                raise Unusable(item.kind, item.detail)
            if self._where.holds(item):
                self.maker.row(item)
            self.sound += 1
        except Unusable as error:
            self.kinds[error.bad.kind] += 1
            self.bad = self.bad or f"{piece.file.path}: {piece.unit} {place}: {error.bad.reason}"


def _rows(found: Found) -> str:
    """The files, and their rows where their footers tell."""
    total = _count(found)
    return found.describe() if total is None else f"{total:,} rows in {found.describe()}"


def _count(found: Found) -> int | None:
    """The rows of files, where their footers tell."""
    if any(file.format != "parquet" for file in found.files):
        return None
    total = 0
    for file in found.files:
        try:
            with parquet_file(file.absolute) as opened:
                total += opened.metadata.num_rows
        except BadFile:
            return None
    return total
