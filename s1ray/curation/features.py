"""What can be said about each row by itself: some hundred bytes a row, in a file beside each part of the rows.

Workers compute them, part by part. The driver reads them back one column at a time, for what needs all rows together
(duplicates, caps, selection): numbers only, so that millions of rows fit, and the same result however the work was
spread.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from s1ray.curation.config import CurationConfig, TrustedRule
from s1ray.curation.decontamination import BenchmarkIndex, Finding, leak_reason
from s1ray.curation.difficulty.config import GivenDifficulty
from s1ray.curation.difficulty.rates import judged_labels
from s1ray.curation.domains.given import given_domains
from s1ray.curation.funnel import Flags, Rows
from s1ray.curation.near_duplicates import BANDS, minhash_bands
from s1ray.curation.quality import quality_reasons
from s1ray.curation.text import TokenBlock, WordBlock, answer_keys, text_keys, word_counts
from s1ray.generation.lengths import length_counter
from s1ray.storage import Location, readable

if TYPE_CHECKING:
    import pyarrow as pa

S1_NGRAM = 8


def band_name(band: int) -> str:
    """Column of a MinHash band."""
    return f"band_{band:02d}"


def schema(config: CurationConfig) -> pa.Schema:
    """The columns of the features, in a config's run; what it does not ask for is not there.

    id: the question id as a number. quality: why the row is broken, or null. leak, leak_label: how it repeats a
    benchmark question, and which, or null; hits: all its likenesses to benchmark questions. exact_key, normal_key: of
    the question to the letter and in normal form; answer_key: of the answer, 0 where there is none. domain, domain_by:
    as sources and rules have it, and which of them, or why there is none. difficulty: what the sources' labels say of
    it (`difficulty.rates`). trusted: bit i is set where rule i of the selection fits; from_weight_source: where the
    source is weight source i. draw: the row's place in the lottery of `cap_per_domain`.
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
        ("answer_key", pa.uint64()),
        ("domain", words),
        ("domain_by", words),
        ("length", pa.int32()),
    ]
    if isinstance(config.difficulty, GivenDifficulty):
        fields.append(("difficulty", pa.uint8()))
    if config.cap_per_domain is not None:
        fields.append(("draw", pa.uint64()))
    if config.selection.trusted:
        fields.append(("trusted", pa.uint64()))
    if config.selection.weight_sources:
        fields.append(("from_weight_source", pa.uint8()))
    if config.deduplication.normalised:
        fields.append(("normal_key", pa.uint64()))
    if config.deduplication.jaccard is not None:
        fields += [(band_name(band), pa.int64()) for band in range(BANDS)]
    if config.deduplication.cross_source_ngrams:
        fields.append(("grams", pa.list_(pa.uint64())))
    return pa.schema(fields)


def hit_type() -> pa.DataType:
    """A likeness to a benchmark question, as in `decontamination.Hit`; `drops`: it is why the row has to go."""
    import pyarrow as pa

    texts = ("tier", "label", "found", "asked", "place")
    return pa.struct([*((name, pa.string()) for name in texts), ("score", pa.float64()), ("drops", pa.bool_())])


def part_features(rows: pa.Table, part: str, *, config: CurationConfig, index: BenchmarkIndex) -> pa.Table:
    """The features of a part's rows; a pure function of each row."""
    import pyarrow as pa

    columns = _text_columns(rows, config, index)
    columns["domain"], columns["domain_by"] = (
        zip(*given_domains(rows, config.domains), strict=True) if len(rows) else ((), ())
    )
    columns["length"] = _lengths(rows, config.length.tokenizer)
    columns |= {
        "id": [int(name, 16) for name in rows.column("id").to_pylist()],
        "source_index": rows.column("source_index"),
        "quality": quality_reasons(rows, config.quality),
        "answer_key": answer_keys(rows.column("answer").to_pylist()),
    }
    if isinstance(config.difficulty, GivenDifficulty):
        solved_by, pass_rates = (rows.column(name).to_pylist() for name in ("solved_by", "pass_rates"))
        columns["difficulty"] = judged_labels(solved_by, pass_rates, config.difficulty)
    columns |= _selection_columns(rows, columns["length"], config)
    wanted, words = schema(config), pa.dictionary(pa.int32(), pa.string())
    arrays = [
        pa.array(columns[field.name], pa.string()).dictionary_encode().cast(words)
        if field.type == words
        else _array(columns[field.name], field.type)
        for field in wanted
    ]
    return pa.Table.from_arrays(arrays, schema=wanted)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.cast(kind)
    return pa.array(values, kind)


def _text_columns(rows: pa.Table, config: CurationConfig, index: BenchmarkIndex) -> dict[str, Any]:
    """What comes from the questions' texts; they are cut into tokens only where something needs these."""
    questions, deduplication = rows.column("question").to_pylist(), config.deduplication
    columns: dict[str, Any] = {"exact_key": text_keys(questions)}
    block, words = None, None
    if deduplication.normalised or deduplication.jaccard is not None or index.needs_tokens:
        block = TokenBlock.of(questions)
    if deduplication.normalised and block is not None:
        columns["normal_key"] = text_keys(block.forms)
    if deduplication.jaccard is not None:
        signatures = minhash_bands(questions, block)
        columns |= {band_name(band): signatures[:, band] for band in range(BANDS)}
    if deduplication.cross_source_ngrams:
        words = WordBlock.of(questions)
        columns["grams"] = _grams(words)
    solutions = rows.column("solution").to_pylist() if index.needs_solutions else None
    findings = index.find(questions, block, solutions, words)
    drops = [finding.drop for finding in findings]
    columns["leak"] = [leak_reason(drop) if drop else None for drop in drops]
    columns["leak_label"] = [drop.label if drop else None for drop in drops]
    columns["hits"] = [_hits(finding) for finding in findings]
    return columns


def _grams(words: WordBlock) -> pa.Array:
    import pyarrow as pa

    return pa.ListArray.from_arrays(words.ngram_starts(S1_NGRAM).astype(np.int32), words.ngrams(S1_NGRAM)[0])


def _lengths(rows: pa.Table, tokenizer: str | None) -> npt.NDArray[np.int64]:
    """The lengths that sources give, else of the solutions; shape (N,)."""
    import pyarrow.compute as pc

    given = rows.column("length")
    lengths: npt.NDArray[np.int64] = pc.fill_null(given, 0).to_numpy().astype(np.int64)
    without = pc.is_null(given).to_numpy()
    if without.any():
        texts = rows.column("solution").filter(without)
        if tokenizer is None:
            lengths[without] = word_counts(texts)
        else:
            lengths[without] = length_counter(tokenizer)(pc.fill_null(texts, "").to_pylist())
    return lengths


def _selection_columns(rows: pa.Table, lengths: npt.NDArray[np.int64], config: CurationConfig) -> dict[str, Any]:
    """What the cap and the selection ask, where the config has them."""
    columns: dict[str, Any] = {}
    sources = rows.column("source").to_pylist()
    if config.cap_per_domain is not None:
        columns["draw"] = [_draw(config.seed, name) for name in rows.column("id").to_pylist()]
    if rules := config.selection.trusted:
        known = rows.column("metadata").to_pylist()
        columns["trusted"] = [_trusted(*row, rules) for row in zip(sources, lengths.tolist(), known, strict=True)]
    if names := config.selection.weight_sources:
        bits = {source: _bits(name in source for name in names) for source in {*sources}}
        columns["from_weight_source"] = [bits[source] for source in sources]
    return columns


class Features:
    """The features of all N rows, in their files; a column is in memory only while somebody holds it."""

    def __init__(
        self, files: Sequence[Location], elsewhere: Mapping[str, Sequence[Location]] = MappingProxyType({})
    ) -> None:
        """Read the numbers of rows.

        Args:
            files: of each part.
            elsewhere: for columns that were found out later, files that take the place of these.
        """
        import pyarrow.parquet as pq

        self.files, self._elsewhere = list(files), elsewhere
        counts = [pq.read_metadata(readable(file)).num_rows for file in self.files]
        self.starts = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        """Position of the first row of each part, and at the end the number of rows."""

    def __len__(self) -> int:
        return int(self.starts[-1])

    def column(self, name: str, rows: Rows | None = None) -> npt.NDArray[Any]:
        """A column of numbers; shape (N,).

        Args:
            name: of the column.
            rows: of these rows alone, M positions, ascending; shape (M,).
        """
        found: npt.NDArray[Any] | None = None
        borders = self.starts if rows is None else np.searchsorted(rows, self.starts)
        for number, column in enumerate(self._parts(name)):
            part, (begin, end) = column.to_numpy(), borders[number : number + 2]
            if found is None:
                found = np.empty(int(borders[-1]), part.dtype)
            found[begin:end] = part if rows is None else part[rows[begin:end] - self.starts[number]]
        return np.empty(0) if found is None else found

    def repeated(self, name: str, left: Flags) -> Rows:
        """The rows whose number in a column another row has as well.

        Args:
            name: of the column.
            left: the rows that count; shape (N,).

        Returns:
            Their positions, ascending.
        """
        values = self.column(name)[left]
        values.sort()
        several = values[1:][values[1:] == values[:-1]]
        found = left.copy()
        for number, column in enumerate(self._parts(name)):
            found[self.starts[number] : self.starts[number + 1]] &= _among(column.to_numpy(), several)
        return np.flatnonzero(found)

    def codes(self, name: str) -> tuple[npt.NDArray[np.int32], list[str]]:
        """A column of words, as positions in the list of its different words, sorted; -1 where it is null."""
        place, codes = dict[str, int](), np.full(len(self), -1, np.int32)
        for number, column in enumerate(self._parts(name)):
            part = column.unify_dictionaries().combine_chunks()
            own = [place.setdefault(word, len(place)) for word in part.dictionary.to_pylist()]
            indices = part.indices.fill_null(len(own)).to_numpy()
            codes[self.starts[number] : self.starts[number + 1]] = np.array([*own, -1], np.int32)[indices]
        names = sorted(place)
        sorted_place = np.full(len(names) + 1, -1, np.int32)
        sorted_place[[place[word] for word in names]] = np.arange(len(names))
        return sorted_place[codes], names

    def _parts(self, name: str) -> Iterator[Any]:
        import pyarrow.parquet as pq

        for file in self._elsewhere.get(name, self.files):
            yield pq.read_table(readable(file), columns=[name]).column(0)


def _among(values: npt.NDArray[Any], others: npt.NDArray[Any]) -> Flags:
    """Which values are among others, which are sorted."""
    if not len(others):
        return np.zeros(len(values), np.bool_)
    places = np.searchsorted(others, values).clip(max=len(others) - 1)
    found: Flags = others[places] == values
    return found


def as_words(codes: npt.NDArray[np.int32], names: Sequence[str]) -> pa.DictionaryArray:
    """A column of words, of which only those that are there are kept.

    Args:
        codes: positions in `names`; negative: null.
        names: the words.
    """
    import pyarrow as pa

    there, places = np.unique(codes, return_inverse=True)
    words = [names[code] for code in there.tolist() if code >= 0]
    indices = (places - (len(there) - len(words))).astype(np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(indices, mask=codes < 0), pa.array(words, pa.string()))


def _hits(finding: Finding) -> list[dict[str, object]]:
    found = [] if finding.drop is None else [vars(finding.drop) | {"drops": True}]
    return [*found, *(vars(hit) | {"drops": False} for hit in finding.review)]


def question_name(number: int) -> str:
    """The question id that a number stands for."""
    return f"{number:016x}"


def _draw(seed: int, question: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{question}".encode()).digest()[:8], "big")


def _bits(values: Any) -> int:
    return sum(bool(value) << place for place, value in enumerate(values))


def _trusted(source: str, length: int, metadata: str, rules: Sequence[TrustedRule]) -> int:
    known = json.loads(metadata) if any(rule.metadata for rule in rules) else {}
    return _bits(
        rule.source in source
        and (rule.min_length is None or length > rule.min_length)
        and all(known.get(key) == value for key, value in rule.metadata.items())
        for rule in rules
    )
