"""The features of a part, column by column, beside what one row at a time gives."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.config import validate_config
from s1ray.curation.config import CurationConfig
from s1ray.curation.decontamination import BenchmarkIndex
from s1ray.curation.difficulty.rates import FITS, TOO_EASY, UNKNOWN
from s1ray.curation.features import Features, part_features
from s1ray.curation.tasks import StagedRow
from s1ray.curation.text import word_counts, word_ngrams
from s1ray.curation.text.blocks import TokenBlock, WordBlock
from s1ray.schemas import arrow_schema, question_id

S1_RULES = {"normalised": False, "jaccard": None, "cross_source_ngrams": True}


def part(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Staged rows that have some fields."""
    full = [
        vars(StagedRow(**{"id": question_id(row["question"]), "order": order, "source_index": 0, **row}))
        for order, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(full, schema=arrow_schema(StagedRow))


def features_of(rows: Sequence[Mapping[str, Any]], **settings: Any) -> list[dict[str, Any]]:
    data = {"output": "unused", "sources": [{"kind": "miniature", "size": 1}]} | settings
    config = validate_config(CurationConfig, data, "test")
    found: list[dict[str, Any]] = part_features(
        part(rows), "part", config=config, index=BenchmarkIndex.load(config.decontamination)
    ).to_pylist()
    return found


SPACES = st.text(st.sampled_from("a\u00e9 \t\n\x0b\x1c\x85\u00a0\u2003\u3000\u200b"), max_size=12)


@given(st.lists(st.lists(st.none() | SPACES), max_size=3), st.integers(0, 3))
def test_words_are_counted_as_python_splits_them(chunks: list[list[str | None]], start: int) -> None:
    texts = pa.chunked_array(chunks, pa.string()).slice(start)
    assert word_counts(texts).tolist() == [len((text or "").split()) for text in texts.to_pylist()]


@given(st.lists(st.lists(st.sampled_from(["a", "B", "3"]), max_size=12).map(" ".join), max_size=6))
def test_word_blocks_have_the_runs_of_words_of_each_text(texts: list[str]) -> None:
    block = WordBlock.of(texts)
    values, places = block.ngrams(3)
    starts = block.ngram_starts(3)
    grams = [gram for text in texts for gram in word_ngrams(text, 3)]
    assert np.diff(starts).tolist() == [len(word_ngrams(text, 3)) for text in texts]
    assert len(values) == len(places) == len(grams) == starts[-1]
    assert len(set(values.tolist())) == len(set(grams)) == len({*zip(values.tolist(), grams, strict=True)})


def test_lengths_come_from_the_source_then_from_the_solution() -> None:
    rows: list[dict[str, Any]] = [
        {"question": "a", "solution": "one two", "length": 7},
        {"question": "b", "solution": "one two\u3000three"},
        {"question": "c"},
    ]
    assert [row["length"] for row in features_of(rows)] == [7, 3, 0]


def test_domains_and_labels_and_rules() -> None:
    rows: list[dict[str, Any]] = [
        {"question": "a triangle", "domain": "Old", "source": "math", "metadata": json.dumps({"level": 5})},
        {"question": "b triangle", "domain": "", "source": "aime", "solved_by": []},
        {"question": "c", "source": "gpqa/x", "solved_by": ["m"], "metadata": json.dumps({"level": 4})},
    ]
    found = features_of(
        rows,
        domains={
            "mapping": {"Old": "New"},
            "rules": [{"domain": "Geometry", "question": "triangle"}],
            "otherwise": "Other",
        },
        selection={
            "trusted": [{"source": "a", "metadata": {"level": 5}}, {"source": "gpqa"}],
            "weight_sources": ["aime", "gpqa"],
        },
        cap_per_domain=2,
        difficulty={"kind": "given"},
    )
    assert [row["domain"] for row in found] == ["New", "Geometry", "Other"]
    assert [row["difficulty"] for row in found] == [UNKNOWN, FITS, TOO_EASY]
    assert [row["trusted"] for row in found] == [1, 0, 2]
    assert [row["from_weight_source"] for row in found] == [0, 1, 2]
    assert len({row["draw"] for row in found}) == 3
    assert [row["domain"] for row in features_of(rows, domains={"otherwise": "All"})] == ["Old", "All", "All"]


def test_with_s1s_rules_no_question_is_cut_into_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    real = TokenBlock.of

    def refuse(texts: Sequence[str]) -> TokenBlock:
        assert not texts
        return real(texts)

    long = "one two three four five six seven eight nine"
    settings = {"deduplication": S1_RULES, "decontamination": {"recipe": "s1_code"}}
    monkeypatch.setattr(TokenBlock, "of", refuse)
    with pytest.raises(AssertionError, match="one two"):
        features_of([{"question": long}])
    (found,) = features_of([{"question": long}], **settings)
    assert len(found["grams"]) == 2
    assert not {"normal_key", "draw", "difficulty", "trusted", "band_00"} & found.keys()


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([None, "b", "a", "c"]), st.booleans())), min_size=1)
)
def test_columns_are_read_from_all_parts(parts: list[list[tuple[int, str | None, bool]]]) -> None:
    rows = [row for part in parts for row in part]
    numbers, words = [number for number, _, _ in rows], [word for _, word, _ in rows]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.parquet" for number in range(len(parts))]
        for file, part in zip(files, parts, strict=True):
            word = pa.array([word for _, word, _ in part], pa.string()).dictionary_encode()
            number = pa.array([number for number, _, _ in part], pa.uint64())
            pq.write_table(pa.table({"number": number, "word": word}), file)
        features = Features(files)
        left = np.array([flag for *_, flag in rows], np.bool_)
        there = np.flatnonzero(left)
        assert features.column("number").tolist() == numbers
        assert features.column("number", there).tolist() == [numbers[row] for row in there]
        codes, names = features.codes("word")
        assert names == sorted({word for word in words if word})
        assert [names[code] if code >= 0 else None for code in codes] == words
        counted = Counter(numbers[row] for row in there)
        assert features.repeated("number", left).tolist() == [row for row in there if counted[numbers[row]] > 1]
