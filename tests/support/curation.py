"""Curation up to the filters, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from s1ray.curation.config import CurationConfig
from s1ray.curation.decontamination import BenchmarkIndex
from s1ray.curation.features import Features, part_features
from s1ray.curation.filters import cheap_filters
from s1ray.curation.funnel import Funnel, Rows
from s1ray.curation.parts import read_rows, write_part
from s1ray.curation.staging import stage


class Filtered(NamedTuple):
    """A pool after the cheap filters."""

    parts: list[Path]
    features: Features
    funnel: Funnel

    def rows(self, columns: list[str]) -> list[dict[str, object]]:
        """Some columns of all rows."""
        everything = np.arange(len(self.features))
        rows: list[dict[str, object]] = read_rows(self.parts, self.features.starts, everything, columns).to_pylist()
        return rows

    def cause(self, row: int) -> tuple[str, str] | None:
        """Stage and reason of a row's drop, or None."""
        cause = int(self.funnel.cause[row])
        return self.funnel.causes[cause - 1] if cause else None


def filtered(config: CurationConfig, folder: Path) -> Filtered:
    """Filter the rows of a config's sources, which are staged in `folder`."""
    import pyarrow.parquet as pq

    parts = stage(config.sources, folder / "rows")
    index = BenchmarkIndex.load(config.decontamination)
    for part in parts:
        write_part(
            part_features(pq.read_table(part), part.name, config=config, index=index), folder / "features" / part.name
        )
    features = Features([folder / "features" / part.name for part in parts])

    def texts(rows: Rows) -> list[str]:
        found: list[str] = read_rows(parts, features.starts, rows, ["question"]).column(0).to_pylist()
        return found

    return Filtered(parts, features, cheap_filters(features, texts, config))
