"""Curation up to the filters, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from s1ray.curation.config import CurationConfig
from s1ray.curation.decontamination import BenchmarkIndex
from s1ray.curation.features import row_features
from s1ray.curation.filters import cheap_filters
from s1ray.curation.funnel import Funnel
from s1ray.curation.staging import stage

if TYPE_CHECKING:
    import pyarrow as pa


def filtered(config: CurationConfig, folder: Path) -> tuple[pa.Table, Funnel]:
    """The features of all rows, and the funnel after the cheap filters; rows are staged in `folder`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = stage(config.sources, folder)
    index = BenchmarkIndex.load(config.decontamination)
    features = pa.concat_tables([row_features(pq.read_table(part), config, index) for part in parts])
    return features, cheap_filters(features, config, seed=0)
