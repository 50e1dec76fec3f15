"""Curation up to the filters, without Ray; and what staging makes of sources."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from s1ray.config import validate_config
from s1ray.curation.config import CurationConfig
from s1ray.curation.decontamination import BenchmarkIndex
from s1ray.curation.features import Features, part_features
from s1ray.curation.filters import cheap_filters, domain_filters
from s1ray.curation.funnel import Funnel, Rows
from s1ray.curation.parts import read_rows, write_part
from s1ray.curation.quarantine import QUARANTINE
from s1ray.curation.sources import Source
from s1ray.curation.staging import Staged, stage
from s1ray.storage import Location


class Filtered(NamedTuple):
    """A pool after the cheap filters."""

    parts: list[Location]
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

    parts = stage(config.sources, folder / "rows", folder / QUARANTINE).parts
    index = BenchmarkIndex.load(config.decontamination)
    for part in parts:
        write_part(
            part_features(pq.read_table(part), part.name, config=config, index=index), folder / "features" / part.name
        )
    features = Features([folder / "features" / part.name for part in parts])

    def texts(rows: Rows, column: str) -> list[str]:
        found: list[str] = read_rows(parts, features.starts, rows, [column]).column(0).to_pylist()
        return found

    funnel = cheap_filters(features, texts, config, folder)
    domain_filters(funnel, features, config)
    return Filtered(parts, features, funnel)


def sources_of(*sources: Mapping[str, Any]) -> Sequence[Source]:
    """Sources as a config gives them."""
    data = {"output": "unused", "sources": list(sources)}
    return validate_config(CurationConfig, data, "test").sources


def staged(folder: Path, *sources: Mapping[str, Any]) -> tuple[list[dict[str, Any]], Staged]:
    """The staged rows of sources, in the order of the parts."""
    import pyarrow.parquet as pq

    done = stage(sources_of(*sources), folder / "work", folder / QUARANTINE)
    return [row for part in done.parts for row in pq.read_table(part).to_pylist()], done


def quarantined(folder: Path) -> list[dict[str, Any]]:
    """What staging in a folder has put aside."""
    path = folder / QUARANTINE
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
