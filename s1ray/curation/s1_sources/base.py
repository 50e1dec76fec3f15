"""What s1's sources have in common: a repository, its subsets and splits, and a record that is adapted."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import itertools
import math
import re
from collections.abc import Collection, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from s1ray.config import ConfigError
from s1ray.curation.sources import RecordSource
from s1ray.reading.files import DataFile, find_files
from s1ray.reading.hub import hub_piece, hub_records
from s1ray.reading.items import Bad, BadFile, Items, Record
from s1ray.reading.pieces import Piece, ReadOptions, pieces_of, read_piece

SAMPLE_ROWS = 100


class S1Source(RecordSource):
    """A data set as s1 used it. `where` is about the columns of the Hub."""

    repository: ClassVar[str]
    """On the Hub; what `Question.source` begins with."""
    parts: ClassVar[tuple[tuple[str | None, str], ...]] = ((None, "train"),)
    """Subsets and splits, in s1's order."""
    by_subset: ClassVar[bool] = False
    """Whether a record's subset matters, so that a file's path must name it."""

    path: str | list[str] | None = None
    """Files that were exported from the Hub, in its columns: a file, a folder, a glob or a list. A source with subsets
    finds them by their names in the paths. None: from the Hub."""
    revision: str | None = None
    """Commit, tag or branch of the Hub. None: the newest, so a later run may read other rows."""
    on_bad_file: Literal["fail", "skip"] = "fail"
    """As of a source of kind `files`."""

    @property
    def label(self) -> str:
        """The source's name, or the repository's."""
        return self.name or self.repository

    def adapt(self, record: Record, subset: str | None) -> Record | None:
        """A record of the Hub in the columns that `columns` names; None where s1 does not take it."""
        return record

    def pieces(self) -> Sequence[Piece]:
        """The files' pieces, or the splits of the Hub."""
        if self.path is None:
            return [hub_piece(self.repository, subset, split) for subset, split in self.parts]
        return [piece for file in find_files(self.path).files for piece in pieces_of(file, "utf-8")]

    def records(self, piece: Piece, options: ReadOptions) -> Items:
        """The adapted records of a piece."""
        subset = self._subset(piece)
        for place, item in self._raw(piece, options):
            if isinstance(item, Bad):
                yield place, item
                continue
            adapted = self.adapt(item, subset)
            options.on_record(item if adapted is None else adapted)
            if adapted is not None:
                yield place, adapted

    def _raw(self, piece: Piece, options: ReadOptions) -> Items:
        """The records as the Hub has them; their columns are noted when they are adapted."""
        plain = ReadOptions(encoding=options.encoding, where=options.where)
        if self.path is not None:
            return read_piece(piece, plain)
        subset, split = next(part for part in self.parts if hub_piece(self.repository, *part) == piece)
        return hub_records(self.repository, subset, split, self.revision, plain)

    def _subset(self, piece: Piece) -> str | None:
        """The subset that a piece belongs to, by the words in its path, the last ones first."""
        if not self.by_subset:
            return None
        names = sorted({subset for subset, _ in self.parts if subset is not None}, key=len, reverse=True)
        for component in reversed(piece.file.path.split("/")):
            found = next((name for name in names if _words(name) in _words(component)), None)
            if found is not None:
                return found
        raise ConfigError(f"{piece.file.path}: its path names none of the subsets {', '.join(sorted(names))}")

    def check(self, require: Collection[str]) -> str:
        """Check the mapping, and of files the first rows; the Hub is not asked.

        Raises:
            S1rayError: there is no file, or its first rows are not in the columns of the Hub.
        """
        super().check(require)
        if self.path is None:
            return f"source {self.label}: from the Hugging Face Hub{'' if self.revision else ', newest revision'}"
        pieces = self._undrawn().pieces()
        for piece in pieces:
            self._subset(piece)
        for piece in pieces[:1]:
            with contextlib.closing(self._undrawn().reader().read(piece)) as rows:
                try:
                    first = list(itertools.islice(rows, SAMPLE_ROWS))
                except BadFile as error:
                    raise ConfigError(f"{piece.file.path}: {error}") from None
            bad = [(place, row) for place, row in first if isinstance(row, Bad)]
            if bad and len(bad) == len(first):
                raise ConfigError(f"{piece.file.path}: {piece.unit} {bad[0][0]}: {bad[0][1].reason}")
        return f"source {self.label}: {find_files(self.path).describe()}"

    def _undrawn(self) -> S1Source:
        """The source with all its rows, of which the first are at hand at once."""
        return self

    def inputs(self) -> list[str]:
        """The exported files."""
        return [] if self.path is None else [file.path for file in find_files(self.path).files]


def _words(text: str) -> str:
    """The words of a name, each between spaces."""
    return f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "


def only(value: object) -> object:
    """The element of a list of one; None for a longer list, of which nobody can say which element is the answer."""
    if isinstance(value, list):
        return value[0] if len(value) == 1 else None
    return value


def question_texts(path: str | None, repository: str, subset: str | None, column: str) -> set[str]:
    """The questions of a small data set, from a file or from the Hub.

    Raises:
        S1rayError: they cannot be read.
    """
    if path is None:
        items = hub_records(repository, subset, "train", None, ReadOptions())
    else:
        files = find_files(path).files
        items = itertools.chain.from_iterable(
            read_piece(piece, ReadOptions()) for file in files for piece in pieces_of(file, "utf-8")
        )
    texts = {text for _, item in items if isinstance(item, dict) and isinstance(text := item.get(column), str)}
    if not texts:
        raise ConfigError(f"{path or repository}: no row has a text in the column {column!r}")
    return texts


class DrawnSource(S1Source):
    """A source of which only some rows are drawn, by a hash of the question; one worker reads it."""

    size: int | None = Field(default=None, ge=1)
    """Rows to draw. None: all."""

    def share(self, record: Record) -> tuple[str, ...]:
        """What the draw is balanced over, from the coarsest on: each value has the same share of those before it."""
        return ()

    def _undrawn(self) -> S1Source:
        return self.model_copy(update={"size": None})

    def pieces(self) -> Sequence[Piece]:
        """One piece, which stands for all."""
        return [Piece(DataFile(self.label, "json"))]

    def records(self, piece: Piece, options: ReadOptions) -> Items:
        """The drawn records, in their order."""
        items = itertools.chain.from_iterable(super(DrawnSource, self).records(p, options) for p in super().pieces())
        if self.size is None:
            yield from items
            return
        draws: dict[tuple[str, ...], Draw] = {}
        for number, (place, item) in enumerate(items, start=1):
            if isinstance(item, Bad):
                yield place, item
            else:
                key = str(item.get(self.columns.question))
                draws.setdefault(self.share(item), Draw(self.size)).show(key, number, item)
        shares = shared_out(self.size, list(draws))
        chosen = [entry for share, draw in draws.items() for entry in draw.drawn(shares[share])]
        yield from sorted(chosen, key=lambda entry: entry[0])[: self.size]


def shared_out(size: int, keys: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    """How many each key gets where every first element has the same share, and so on inside it, rounded up."""
    if not keys or not keys[0]:
        return dict.fromkeys(keys, size)
    firsts = sorted({key[0] for key in keys})
    each = math.ceil(size / len(firsts))
    shares: dict[tuple[str, ...], int] = {}
    for first in firsts:
        inner = shared_out(each, [key[1:] for key in keys if key[0] == first])
        shares |= {(first, *rest): count for rest, count in inner.items()}
    return shares


class Draw:
    """Draws some of the records that it is shown: those whose keys have the smallest hashes, in whatever order."""

    def __init__(self, size: int) -> None:
        """Draw `size` records at most."""
        self._size = size
        self._drawn: list[tuple[int, int, Record]] = []

    def show(self, key: str, number: int, record: Record) -> None:
        """Show a record; `number` is its own, and decides between equal keys."""
        # The heap's first is the largest hash. Numbers differ, so records are never compared.
        hashed = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big")
        entry = (-hashed, -number, record)
        if len(self._drawn) < self._size:
            heapq.heappush(self._drawn, entry)
        else:
            heapq.heappushpop(self._drawn, entry)

    def drawn(self, size: int) -> list[tuple[int, Record]]:
        """Numbers and records of the first `size` that were drawn."""
        return [(-number, record) for _, number, record in heapq.nlargest(size, self._drawn)]
