"""s1's rule across sources, beside the same rule with sets in one process."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from s1ray.config import validate_config
from s1ray.curation.config import CurationConfig
from s1ray.curation.cross_source import cross_source
from s1ray.curation.features import Features
from s1ray.curation.parts import write_part
from s1ray.curation.text.blocks import mixed
from tests.support.curation import filtered

ROWS = st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.frozensets(st.integers(0, 12), max_size=4)), max_size=24)
"""(source, whether the row is left, its n-grams)"""


def expected_rows(rows: list[tuple[int, bool, frozenset[int]]]) -> list[int]:
    gone, seen = [], set[int]()
    for source in range(5):
        accepted = set[int]()
        for row, (own, left, grams) in enumerate(rows):
            if own == source and left:
                if grams & seen:
                    gone.append(row)
                else:
                    accepted |= grams
        seen |= accepted
    return sorted(gone)


@given(ROWS, st.integers(1, 9), st.integers(1, 60))
def test_it_is_the_rule_with_sets(
    rows: list[tuple[int, bool, frozenset[int]]], part_rows: int, range_grams: int
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder, files = Path(temporary), []
        for start in range(0, len(rows), part_rows):
            part = rows[start : start + part_rows]
            grams = [mixed(np.array(sorted(each), np.uint64)) for *_, each in part]
            columns = {
                "source_index": pa.array([source for source, *_ in part], pa.int32()),
                "grams": pa.array(grams, pa.list_(pa.uint64())),
            }
            files.append(folder / f"part-{start}.parquet")
            write_part(pa.table(columns), files[-1])
        left = np.flatnonzero([left for _, left, _ in rows])
        found = cross_source(Features(files), left, folder / "grams", range_grams=range_grams)
        assert found.tolist() == expected_rows(rows)
        assert not (folder / "grams").exists()


def test_later_sources_lose_what_earlier_ones_have(tmp_path: Path) -> None:
    # Within a source nothing is dropped; a dropped row's own n-grams do not count against the sources after it, nor do
    # those of a row that another filter took.
    shared = "one two three four five six seven eight"
    pools = [
        [shared, f"{shared} nine", "[asy] broken question of eight words and more"],
        [f"Ten {shared.upper()} b c d e f g h"],
        ["b c d e f g h i j", "a b", "broken question of eight words and more or less"],
    ]
    sources = []
    for number, questions in enumerate(pools):
        path = tmp_path / f"{number}.jsonl"
        path.write_text("".join(json.dumps({"q": text, "s": "s", "d": "d"}) + "\n" for text in questions))
        columns = {"question": "q", "solution": "s", "domain": "d"}
        sources.append({"kind": "files", "path": str(path), "columns": columns})
    data = {"output": "unused", "sources": sources, "deduplication": {"jaccard": None, "cross_source_ngrams": True}}
    pool = filtered(validate_config(CurationConfig, data, "test"), tmp_path / "work")
    reason = ("deduplication", "shares 8 words in a row with an earlier source")
    assert [row for row in range(7) if pool.cause(row) == reason] == [3]
    assert [row for row in range(7) if pool.cause(row) is None] == [0, 1, 4, 5, 6]
