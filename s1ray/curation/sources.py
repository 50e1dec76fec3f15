"""Where questions come from: files, the Hugging Face Hub, and what other packages register.

A source is a config class with a method that gives its questions. A new one is one class:

    class PutnamSource(Source):
        years: list[int]

        def rows(self) -> Iterator[Question]:
            for text, proof, answer, field in my_archive(self.years):
                yield Question(
                    id=question_id(text), question=text, solution=proof, answer=answer, source=self.label, domain=field
                )

With the default settings, a row without a solution or a domain is dropped (`quality.require`, `domains.otherwise`). It
is used as `kind: my_module:PutnamSource`, or under a name of its own with an entry point (`s1ray/registry.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from pydantic import Field

from s1ray.config import Config, ConfigError
from s1ray.curation.records import ColumnMapping, Record, count_rows, file_records, matching, to_row
from s1ray.errors import UnreachableError
from s1ray.schemas import Question


class Source(Config):
    """Where questions come from. Derive from it and write `rows`; `s1ray.registry.SOURCES` lists the classes."""

    kind: str
    """The registered name of the source's class, or "module:attribute"."""
    name: str | None = None
    """What `Question.source` calls the source. None: its own name."""
    limit: int | None = Field(default=None, ge=1)
    """Read no more rows than this. None: all."""

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

    def inputs(self) -> list[str]:
        """Local files and folders that it reads: their content, not their path, identifies a run."""
        return []


class RecordSource(Source):
    """What sources with records of named columns have in common."""

    path: str
    columns: ColumnMapping = ColumnMapping()
    where: dict[str, str | int | bool | None] = Field(default_factory=dict)
    """Only rows whose columns have these values."""

    def records(self) -> Iterable[Record]:
        """The records, one after another."""
        raise NotImplementedError(f"{type(self).__name__}.records")

    def rows(self) -> Iterator[Question]:
        """The records that match `where`, as questions.

        Raises:
            ConfigError: a column is missing, or holds something else than the mapping says.
        """
        for record in matching(self.records(), self.where, self.path):
            yield to_row(record, self.columns, self.label, self.path)

    def check(self, require: Collection[str]) -> str:
        """Check that the required fields are mapped.

        Raises:
            ConfigError: one of them is not.
        """
        for field in require:
            if getattr(self.columns, field) is None:
                raise ConfigError(
                    f"columns.{field}: not set, but quality.require has {field!r}, so every row would be dropped; name "
                    "the column, or take the field out of quality.require"
                )
        return super().check(require)


class FileSource(RecordSource):
    """Parquet or JSON-lines files."""

    path: str
    """A .parquet, .jsonl, .ndjson or .json file (one object per line), or a folder of .jsonl or .parquet files."""

    @property
    def label(self) -> str:
        """The source's name, or the file's or folder's own."""
        return self.name or Path(self.path).stem

    def records(self) -> Iterable[Record]:
        """The rows of the files, in the order of their names."""
        return file_records(self.path)

    def check(self, require: Collection[str]) -> str:
        """Read the first row, and count the others where that costs nothing."""
        next(self.rows(), None)
        super().check(require)
        return f"source {self.path}: {count_rows(self.path)}"

    def inputs(self) -> list[str]:
        """The file or folder."""
        return [self.path]


class HubSource(RecordSource):
    """A data set of the Hugging Face Hub, for example one of s1's (`simplescaling/...`)."""

    path: str
    """Repository of the data set."""
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    """Commit or tag. None: the newest, so a later run may read other rows."""
    columns: ColumnMapping = ColumnMapping(solution="solution", source="source_type")

    @property
    def label(self) -> str:
        """The source's name, or the repository's."""
        return self.name or self.path

    def records(self) -> Iterator[Record]:
        """The rows of the split, streamed.

        Raises:
            UnreachableError: the Hub does not give them.
        """
        import datasets

        try:
            yield from datasets.load_dataset(
                self.path, self.subset, split=self.split, revision=self.revision, streaming=True
            )
        except Exception as error:  # the library raises its own errors, httpx's, OSError and ValueError
            raise UnreachableError(
                f"{self.path!r} (split {self.split!r}) cannot be read from the Hugging Face Hub: {error}; without "
                "network, export it to Parquet and use a source of kind `files`"
            ) from error

    def check(self, require: Collection[str]) -> str:
        """Check the mapping; the Hub is not asked."""
        super().check(require)
        return f"source {self.path} ({self.split}): from the Hugging Face Hub"
