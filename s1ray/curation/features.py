"""Everything that can be said of a row by itself, in one pass of Ray Data over the staged parts.

What needs all rows together (duplicates, caps, selection) works on these features on the driver: about a kilobyte a
row, and the same result however the pass was spread over workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1ray.curation.config import CurationConfig
from s1ray.curation.decontamination import BenchmarkIndex
from s1ray.curation.deduplication import bands, gram_hashes, text_key
from s1ray.curation.domains import domain_of
from s1ray.curation.quality import quality_reason
from s1ray.curation.text import word_ngrams
from s1ray.generation.lengths import length_counter

if TYPE_CHECKING:
    import pyarrow as pa

PASSED_ON = ("order", "source_index", "id", "question", "answer", "source", "metadata", "solved_by")
"""Columns of a staged row that the driver needs."""
S1_NGRAM = 8


def features_schema() -> pa.Schema:
    """Schema of what `row_features` gives."""
    import pyarrow as pa

    from s1ray.curation.sources import staged_schema

    staged = staged_schema()
    own = [
        ("domain", pa.string()),
        ("length", pa.int64()),
        ("quality", pa.string()),
        ("leak", pa.string()),
        ("leak_label", pa.string()),
        ("exact_key", pa.uint64()),
        ("normal_key", pa.uint64()),
        ("bands", pa.list_(pa.uint64())),
        ("grams", pa.list_(pa.uint64())),
    ]
    return pa.schema([*(staged.field(name) for name in PASSED_ON), *(pa.field(*field) for field in own)])


def row_features(rows: pa.Table, config: CurationConfig, index: BenchmarkIndex) -> pa.Table:
    """The features of staged rows; a pure function of each row."""
    import pyarrow as pa

    records = rows.to_pylist()
    count = length_counter(config.length.tokenizer)
    counted = count([record["solution"] or "" for record in records])
    columns: dict[str, list[Any]] = {name: [record[name] for record in records] for name in PASSED_ON}
    own = [_features(record, length, config, index) for record, length in zip(records, counted, strict=True)]
    schema = features_schema()
    columns |= {name: [features[name] for features in own] for name in schema.names[len(PASSED_ON) :]}
    return pa.Table.from_pydict(columns, schema=schema)


def compute_features(parts: Sequence[Path], config: CurationConfig, index: BenchmarkIndex) -> pa.Table:
    """`row_features` of all staged parts through Ray Data, sorted by order. Needs Ray to be connected."""
    import pyarrow as pa
    import ray

    from s1ray.shards import quiet_ray_data

    shared = ray.put(index)
    with quiet_ray_data():
        dataset = ray.data.read_parquet([str(part) for part in parts], override_num_blocks=len(parts))
        batches = list(
            dataset.map_batches(
                _on_batch, fn_kwargs={"config": config.model_dump_json(), "index": [shared]}, batch_format="pyarrow"
            ).iter_batches(batch_size=None, batch_format="pyarrow")
        )
    return pa.concat_tables([batch.cast(features_schema()) for batch in batches]).sort_by("order")


def _on_batch(batch: pa.Table, config: str, index: list[Any]) -> pa.Table:
    return row_features(batch, CurationConfig.model_validate_json(config), _fetched(index[0]))


@lru_cache(maxsize=1)
def _fetched(index: Any) -> BenchmarkIndex:
    # One index a worker process, not one a block.
    import ray

    return ray.get(index)


def _features(record: dict[str, Any], length: int, config: CurationConfig, index: BenchmarkIndex) -> dict[str, Any]:
    question = record["question"] or ""
    leak, label = index.leak(question) or (None, None)
    near = config.deduplication.jaccard is not None
    cross = config.deduplication.cross_source_ngrams
    return {
        "domain": domain_of(question, record["source"], record["domain"], config.domains),
        "length": record["length"] if record["length"] is not None else length,
        "quality": quality_reason(
            record["question"], record["solution"], record["answer"], record["source"], record["error"], config.quality
        ),
        "leak": leak,
        "leak_label": label,
        "exact_key": text_key(question, normalised=False),
        "normal_key": text_key(question, normalised=True),
        "bands": bands(question) if near else None,
        "grams": gram_hashes(word_ngrams(question, S1_NGRAM)) if cross else None,
    }
