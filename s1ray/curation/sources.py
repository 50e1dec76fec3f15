"""Where questions come from: files, the Hugging Face Hub, and what other packages register.

A source is a config class with a method that gives its questions. A new one is one class:

    class PutnamSource(Source):
        years: list[int]

        def rows(self) -> Iterator[Question]:
            for text, proof, answer, field in my_archive(self.years):
                yield Question(
                    id=question_id(text), question=text, solution=proof, answer=answer, source=self.label, domain=field
                )

With the default settings, a row without a solution or a domain is dropped (`quality.missing_solution`,
`domains.otherwise`). It is used as `kind: my_module:PutnamSource`, or under a name of its own with an entry point
(`s1ray/registry.py`).

A source that can be read in several places at once derives from `RecordSource` and gives its `pieces` (staging.py).
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence

from pydantic import Field

from s1ray.config import Config, ConfigError
from s1ray.curation.records import ColumnMapping, RowMaker, SourceRow
from s1ray.reading.items import Bad, Items, Unusable, beginning, close_names
from s1ray.reading.pieces import Piece, ReadOptions
from s1ray.reading.where import Where, WhereConfig
from s1ray.schemas import Question


class Source(Config):
    """Where questions come from. Derive from it and write `rows`; `s1ray.registry.SOURCES` lists the classes."""

    kind: str
    """The registered name of the source's class, or "module:attribute"."""
    name: str | None = None
    """What `Question.source` calls the source. None: its own name."""
    limit: int | None = Field(default=None, ge=1)
    """Read no more rows than this. None: all."""
    max_bad_share: float = Field(default=0.01, ge=0, le=1)
    """The run fails where more than this share of the rows, and more than ten, cannot be used (0: any). Bad rows are
    in `quarantine.jsonl`, with file, line and reason."""

    @property
    def label(self) -> str:
        """What `Question.source` calls the source."""
        return self.name or self.kind

    def rows(self) -> Iterator[Question]:
        """Its questions, always in the same order; `records.SourceRow` where an earlier step may have failed.

        The pipeline applies `limit`.
        """
        raise NotImplementedError(f"{type(self).__name__}.rows")

    def check(self, require: Collection[str]) -> str:
        """Check, before anything starts, that it can be read, and say in one line what it is.

        Args:
            require: fields of `Question` without which a row is dropped.

        Raises:
            S1rayError: it cannot be read, or has no such field.
        """
        return f"source {self.label}"

    def rows_at_most(self) -> int | None:
        """How many rows it has at most, where that is known without reading them."""
        return self.limit

    def inputs(self) -> list[str]:
        """Local files and folders that it reads: their content, not their path, identifies a run."""
        return []


def rows_at_most(sources: Sequence[Source]) -> int | None:
    """Rows of several sources together, at most. None: not known."""
    counts = [source.rows_at_most() for source in sources]
    return None if None in counts else sum(filter(None, counts))


class RecordSource(Source):
    """What sources with records of named columns have in common; they are read piece by piece, on workers."""

    columns: ColumnMapping = ColumnMapping()
    where: WhereConfig = Field(default_factory=dict)
    """Only rows whose columns fulfil these conditions: `level: 5`, `type: [algebra, geometry]`, `year: {le: 2021}`,
    `source: {matches: "^AoPS"}`, `picture: {missing: true}`. Comparisons are eq, ne, gt, ge, lt, le, in, not_in,
    matches (a regular expression, searched) and missing."""

    def pieces(self) -> Sequence[Piece]:
        """What can be read apart, in order."""
        raise NotImplementedError(f"{type(self).__name__}.pieces")

    def records(self, piece: Piece, options: ReadOptions) -> Items:
        """The records of a piece that match, and those that cannot be used.

        Raises:
            S1rayError: they cannot be read.
        """
        raise NotImplementedError(f"{type(self).__name__}.records")

    def reader(self, needed: Collection[str] = ()) -> Reader:
        """Reads pieces; one per worker.

        Args:
            needed: fields of the metadata that come along where there are some.
        """
        return Reader(self, RowMaker(self.columns, Where.of(self.where), self.label, needed))

    def rows(self) -> Iterator[Question]:
        """Its questions.

        Raises:
            ConfigError: a row cannot be used (a run would quarantine it), or no row has a column that is named.
        """
        reader = self.reader()
        for piece in self.pieces():
            for place, item in reader.read(piece):
                if isinstance(item, Bad):
                    where = f"{piece.file.path}: {piece.unit} {place + piece.places_before()}"
                    raise ConfigError(f"{where}: {item.reason}")
                yield item
        if reader.read_rows and reader.maker.absent:
            raise ConfigError(f"{self.label}: {close_names(min(reader.maker.absent), reader.maker.names)}")

    def check(self, require: Collection[str]) -> str:
        """Check that the required fields are mapped.

        Raises:
            ConfigError: one of them is not.
        """
        for field in require:
            if getattr(self.columns, field) is None:
                raise ConfigError(
                    f"columns.{field}: not set, but quality.missing_{field} is on, so every row would be dropped; name "
                    f"the column, or set quality.missing_{field}=false"
                )
        return super().check(require)


class Reader:
    """Reads pieces of a source, and notes which of its columns there are.

    Attributes:
        maker: makes questions of records, and knows the columns.
        read_rows: records that were read, those that `where` does not want among them.
    """

    def __init__(self, source: RecordSource, maker: RowMaker) -> None:
        self._source, self.maker, self.read_rows = source, maker, 0
        self._options = ReadOptions(
            encoding=getattr(source, "encoding", "utf-8"),
            delimiter=getattr(source, "delimiter", None),
            columns=maker.columns,
            where=Where.of(source.where),
            on_columns=maker.note_columns,
            on_rows=self._on_rows,
            on_record=self._on_record,
        )

    def _on_rows(self, rows: int) -> None:
        self.read_rows += rows

    def _on_record(self, record: dict[str, object]) -> None:
        self.read_rows += 1
        self.maker.note_record(record)

    def read(self, piece: Piece) -> Generator[tuple[int, SourceRow | Bad]]:
        """The questions of a piece and what cannot be one, each with its line or row within the piece.

        Raises:
            BadFile: the file is damaged; what came before is sound.
            S1rayError: it cannot be read.
        """
        columnar = piece.file.format in ("parquet", "arrow")
        for place, item in self._source.records(piece, self._options):
            if isinstance(item, Bad):
                # Of a text file it is no record; the other formats' rows are counted already.
                self.read_rows += not columnar
                yield place, item
                continue
            try:
                yield place, self.maker.row(item)
            except Unusable as error:
                yield place, Bad(error.bad.kind, error.bad.detail, beginning(item))
