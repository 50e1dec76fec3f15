"""What can be said about each row by itself: some hundred bytes a row, in a file beside each part of the rows.

Workers compute them, part by part. The driver reads them back one column at a time, for what needs all rows together
(duplicates, caps, selection): numbers only, so that millions of rows fit, and the same result however the work was
spread.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from s1ray.curation.config import CurationConfig, TrustedRule
from s1ray.curation.decontamination import BenchmarkIndex, Finding, leak_reason
from s1ray.curation.deduplication import gram_hashes
from s1ray.curation.funnel import Rows
from s1ray.curation.near_duplicates import BANDS, minhash_bands
from s1ray.curation.parts import read_rows
from s1ray.curation.quality import quality_reason
from s1ray.curation.tasks import StagedRow
from s1ray.curation.text import TokenBlock, answer_keys, text_keys, word_ngrams
from s1ray.generation.lengths import length_counter

if TYPE_CHECKING:
    import pyarrow as pa

S1_NGRAM = 8
NO_LABEL, UNSOLVED, SOLVED = 0, 1, 2
"""What sources say of difficulty."""


def band_name(band: int) -> str:
    """Column of a MinHash band."""
    return f"band_{band:02d}"


def schema(config: CurationConfig) -> pa.Schema:
    """The columns of the features, in a config's run.

    id: the question id as a number. quality: why the row is broken, or null. leak, leak_label: how it repeats a
    benchmark question, and which, or null; hits: all its likenesses to benchmark questions. exact_key, normal_key: of
    the question to the letter and in normal form; answer_key: of the answer, 0 where there is none. solved: NO_LABEL,
    UNSOLVED or SOLVED. trusted: bit i is set where rule i of the selection fits; from_weight_source: where the source
    is weight source i. draw: the row's place in the lottery of `cap_per_domain`.
    """
    import pyarrow as pa

    words = pa.dictionary(pa.int32(), pa.string())
    fields = [
        ("id", pa.uint64()),
        ("source_index", pa.int32()),
        ("quality", words),
        ("leak", words),
        ("leak_label", words),
        ("hits", pa.list_(hit_type())),
        ("exact_key", pa.uint64()),
        ("normal_key", pa.uint64()),
        ("answer_key", pa.uint64()),
        ("domain", words),
        ("length", pa.int32()),
        ("solved", pa.uint8()),
        ("trusted", pa.uint64()),
        ("from_weight_source", pa.uint8()),
        ("draw", pa.uint64()),
    ]
    if config.deduplication.jaccard is not None:
        fields += [(band_name(band), pa.int64()) for band in range(BANDS)]
    if config.deduplication.cross_source_ngrams:
        fields.append(("grams", pa.list_(pa.int64())))
    return pa.schema(fields)


def hit_type() -> pa.DataType:
    """A likeness to a benchmark question, as in `decontamination.Hit`; `drops`: it is why the row has to go."""
    import pyarrow as pa

    texts = ("tier", "label", "found", "asked", "place")
    return pa.struct([*((name, pa.string()) for name in texts), ("score", pa.float64()), ("drops", pa.bool_())])


def part_features(rows: pa.Table, part: str, *, config: CurationConfig, index: BenchmarkIndex) -> pa.Table:
    """The features of a part's rows; a pure function of each row."""
    import pyarrow as pa

    staged = [StagedRow(**row) for row in rows.to_pylist()]
    lengths = length_counter(config.length.tokenizer)([row.solution or "" for row in staged])
    questions = [row.question for row in staged]
    block = TokenBlock.of(questions)
    exact, normal = text_keys(questions, block)
    findings = index.find(questions, block, [row.solution for row in staged])
    drops = [finding.drop for finding in findings]
    columns: dict[str, Any] = {
        "id": [int(row.id, 16) for row in staged],
        "source_index": [row.source_index for row in staged],
        "quality": [quality_reason(row, config.quality) for row in staged],
        "leak": [leak_reason(drop) if drop else None for drop in drops],
        "leak_label": [drop.label if drop else None for drop in drops],
        "hits": [_hits(finding) for finding in findings],
        "exact_key": exact,
        "normal_key": normal,
        "answer_key": answer_keys([row.answer for row in staged]),
        "domain": [config.domains.domain_of(row) for row in staged],
        "length": [count if row.length is None else row.length for row, count in zip(staged, lengths, strict=True)],
        "solved": [solved_code(row.solved_by) for row in staged],
        "draw": [_draw(config.seed, row.id) for row in staged],
    }
    columns["trusted"] = [
        _trusted(row, length, config.selection.trusted) for row, length in zip(staged, columns["length"], strict=True)
    ]
    columns["from_weight_source"] = [
        _bits(name in row.source for name in config.selection.weight_sources) for row in staged
    ]
    if config.deduplication.jaccard is not None:
        signatures = minhash_bands(questions, block)
        columns |= {band_name(band): signatures[:, band] for band in range(BANDS)}
    if config.deduplication.cross_source_ngrams:
        columns["grams"] = [gram_hashes(word_ngrams(row.question, S1_NGRAM)).tolist() for row in staged]
    words = pa.dictionary(pa.int32(), pa.string())
    arrays = [
        pa.array(columns[field.name], pa.string()).dictionary_encode().cast(words)
        if field.type == words
        else pa.array(columns[field.name], field.type)
        for field in schema(config)
    ]
    return pa.Table.from_arrays(arrays, schema=schema(config))


class Features:
    """The features of all N rows, in their files; a column is in memory only while somebody holds it."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Read the numbers of rows."""
        import pyarrow.parquet as pq

        self.files = list(files)
        counts = [pq.read_metadata(file).num_rows for file in self.files]
        self.starts = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        """Position of the first row of each part, and at the end the number of rows."""

    def __len__(self) -> int:
        return int(self.starts[-1])

    def column(self, name: str) -> npt.NDArray[Any]:
        """A column of numbers; shape (N,)."""
        found: npt.NDArray[Any] | None = None
        for number, file in enumerate(self.files):
            part = self._read(file, name).to_numpy()
            if found is None:
                found = np.empty(len(self), part.dtype)
            found[self.starts[number] : self.starts[number + 1]] = part
        return np.empty(0) if found is None else found

    def codes(self, name: str) -> tuple[npt.NDArray[np.int32], list[str]]:
        """A column of words, as positions in the list of its different words, sorted; -1 where it is null."""
        import pyarrow as pa

        parts = [self._read(file, name).combine_chunks() for file in self.files]
        parts = [part.chunk(0) if isinstance(part, pa.ChunkedArray) else part for part in parts]
        names = sorted({word for part in parts for word in part.dictionary.to_pylist()})
        place = {word: number for number, word in enumerate(names)}
        codes = np.full(len(self), -1, np.int32)
        for number, part in enumerate(parts):
            own = np.array([place[word] for word in part.dictionary.to_pylist()] + [-1], np.int32)
            indices = part.indices.fill_null(len(own) - 1).to_numpy()
            codes[self.starts[number] : self.starts[number + 1]] = own[indices]
        return codes, names

    @cached_property
    def ids(self) -> npt.NDArray[np.uint64]:
        """The question ids as numbers; shape (N,)."""
        return self.column("id")

    def lists(self, name: str, rows: Rows) -> list[npt.NDArray[Any]]:
        """A column of lists of numbers, for some rows (positions, ascending)."""
        import pyarrow.compute as pc

        found = read_rows(self.files, self.starts, rows, [name]).column(0)
        values, offsets = found.combine_chunks().flatten().to_numpy(), np.zeros(len(rows) + 1, np.int64)
        np.cumsum(pc.list_value_length(found).to_numpy(), out=offsets[1:])
        return np.split(values, offsets[1:-1])

    @staticmethod
    def _read(file: Path, name: str) -> Any:
        import pyarrow.parquet as pq

        return pq.read_table(file, columns=[name]).column(0)


def _hits(finding: Finding) -> list[dict[str, object]]:
    found = [] if finding.drop is None else [vars(finding.drop) | {"drops": True}]
    return [*found, *(vars(hit) | {"drops": False} for hit in finding.review)]


def question_name(number: int) -> str:
    """The question id that a number stands for."""
    return f"{number:016x}"


def solved_code(solved_by: Sequence[str] | None) -> int:
    """`NO_LABEL`, `UNSOLVED` or `SOLVED`."""
    return NO_LABEL if solved_by is None else SOLVED if solved_by else UNSOLVED


def _draw(seed: int, question: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{question}".encode()).digest()[:8], "big")


def _bits(values: Any) -> int:
    return sum(bool(value) << place for place, value in enumerate(values))


def _trusted(row: StagedRow, length: int, rules: Sequence[TrustedRule]) -> int:
    metadata = json.loads(row.metadata) if any(rule.metadata for rule in rules) else {}
    return _bits(
        rule.source in row.source
        and (rule.min_length is None or length > rule.min_length)
        and all(metadata.get(key) == value for key, value in rule.metadata.items())
        for rule in rules
    )
