"""What can be said about each row by itself, in one pass of Ray Data over the staged parts.

What needs all rows together (duplicates, caps, selection) works on these features on the driver: about a kilobyte a
row, and the same result however Ray Data spread the work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from s1ray.curation.config import CurationConfig
from s1ray.curation.decontamination import BenchmarkIndex
from s1ray.curation.deduplication import gram_hashes
from s1ray.curation.near_duplicates import minhash_bands
from s1ray.curation.quality import quality_reason
from s1ray.curation.staging import StagedRow
from s1ray.curation.text import TokenBlock, answer_keys, text_keys, word_ngrams
from s1ray.generation.lengths import length_counter
from s1ray.logs import heartbeat
from s1ray.schemas import arrow_schema, to_table

if TYPE_CHECKING:
    import pyarrow as pa
    import ray

S1_NGRAM = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Features:
    """A row's features, and the other columns of a staged row that the driver needs."""

    order: int
    source_index: int
    id: str
    question: str
    answer: str | None
    source: str
    metadata: str
    solved_by: list[str] | None
    """As the source says."""
    domain: str | None
    length: int
    """Tokens of the reference working, or what the source says."""
    quality: str | None
    """Why the row is broken."""
    leak: str | None
    """How it repeats a benchmark question."""
    leak_label: str | None
    """Which one."""
    exact_key: int
    normal_key: int
    answer_key: int
    """0: no answer."""
    bands: list[int] | None
    """None: near-duplicates are not looked for."""
    grams: list[int] | None
    """None: sources are not compared."""


def row_features(rows: pa.Table, config: CurationConfig, index: BenchmarkIndex) -> pa.Table:
    """The `Features` of staged rows; a pure function of each row."""
    staged = [StagedRow(**row) for row in rows.to_pylist()]
    lengths = length_counter(config.length.tokenizer)([row.solution or "" for row in staged])
    questions = [row.question for row in staged]
    block = TokenBlock.of(questions)
    keys = (*text_keys(questions, block), answer_keys([row.answer for row in staged]))
    exact, normal, answers = ([int(key) for key in each.view("int64")] for each in keys)
    near = config.deduplication.jaccard is not None
    bands = minhash_bands(questions, block).tolist() if near else [None] * len(staged)
    made = zip(staged, lengths, exact, normal, answers, bands, strict=True)
    return to_table([_features(row, config, index, *computed) for row, *computed in made], Features)


def compute_features(parts: Sequence[Path], config: CurationConfig, index: BenchmarkIndex) -> pa.Table:
    """`row_features` of all staged parts through Ray Data, sorted by order. Ray must be connected."""
    import pyarrow as pa
    import ray

    from s1ray.shards import quiet_ray_data

    # Without the sources, so that workers need not import the classes of other packages.
    settings, shared = config.model_copy(update={"sources": []}), ray.put(index)
    batches: list[pa.Table] = []
    with quiet_ray_data(), heartbeat(lambda seconds: f"curate: {sum(map(len, batches)):,} rows in {seconds:.0f} s"):
        dataset = ray.data.read_parquet([str(part) for part in parts], override_num_blocks=len(parts))
        computed = dataset.map_batches(
            _on_batch, fn_kwargs={"config": settings, "index": [shared]}, batch_format="pyarrow"
        )
        for batch in computed.iter_batches(batch_size=None, batch_format="pyarrow"):
            batches.append(batch.cast(arrow_schema(Features)))
    return pa.concat_tables(batches).sort_by("order")


def _on_batch(batch: pa.Table, config: CurationConfig, index: Sequence[ray.ObjectRef]) -> pa.Table:
    return row_features(batch, config, _fetched(index[0]))


@lru_cache(maxsize=1)
def _fetched(index: ray.ObjectRef) -> BenchmarkIndex:
    # One index per worker process, not per block.
    import ray

    fetched: BenchmarkIndex = ray.get(index)
    return fetched


def _features(
    row: StagedRow,
    config: CurationConfig,
    index: BenchmarkIndex,
    length: int,
    exact: int,
    normal: int,
    answer: int,
    bands: list[int] | None,
) -> Features:
    leak, label = index.leak(row.question) or (None, None)
    cross = config.deduplication.cross_source_ngrams
    return Features(
        order=row.order,
        source_index=row.source_index,
        id=row.id,
        question=row.question,
        answer=row.answer,
        source=row.source,
        metadata=row.metadata,
        solved_by=row.solved_by,
        domain=config.domains.domain_of(row),
        length=length if row.length is None else row.length,
        quality=quality_reason(row, config.quality),
        leak=leak,
        leak_label=label,
        exact_key=exact,
        normal_key=normal,
        answer_key=answer,
        bands=bands,
        grams=gram_hashes(word_ngrams(row.question, S1_NGRAM)).tolist() if cross else None,
    )
