"""A data set of the Hugging Face Hub as a source."""

from __future__ import annotations

from collections.abc import Collection

from s1ray.curation.records import ColumnMapping
from s1ray.curation.sources import RecordSource
from s1ray.reading.hub import hub_piece, hub_records
from s1ray.reading.items import Items
from s1ray.reading.pieces import Piece, ReadOptions


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

    def pieces(self) -> list[Piece]:
        """One: the split."""
        return [hub_piece(self.path, self.subset, self.split)]

    def records(self, piece: Piece, options: ReadOptions) -> Items:
        """The rows of the split, streamed.

        Raises:
            UnreachableError: the Hub does not give them.
        """
        return hub_records(self.path, self.subset, self.split, self.revision, options)

    def check(self, require: Collection[str]) -> str:
        """Check the mapping; the Hub is not asked."""
        super().check(require)
        newest = "" if self.revision else ", newest revision"
        return f"source {self.path} ({self.split}): from the Hugging Face Hub{newest}"
