"""How much of each flaw of the miniature's pool the filters find, and how many sound rows they lose."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.config import validate_config
from s1ray.curation import filters
from s1ray.curation.answers import answer_classes
from s1ray.curation.config import CurationConfig
from s1ray.grading import same_answer
from tests.support.curation import Filtered, filtered

SIZE = 6000

Outcome = list[tuple[str | None, tuple[str, str] | None]]
"""Flaw, and stage and reason of the drop, of every row."""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Flaw, and stage and reason of the drop or None, of every row of a pool."""
    data = {
        "output": "unused",
        "sources": [{"kind": "miniature", "size": SIZE}],
        "quality": {"missing_answer": True},
        "decontamination": {"benchmarks": [{"path": "miniature"}]},
    }
    pool = filtered(validate_config(CurationConfig, data, "test"), tmp_path_factory.mktemp("staged"))
    flaws = [json.loads(str(row["metadata"]))["flaw"] for row in pool.rows(["metadata"])]
    return [(flaw, pool.cause(row)) for row, flaw in enumerate(flaws)]


@pytest.mark.parametrize(
    "flaw", ["exact_duplicate", "broken_format", "missing_solution", "missing_answer", "benchmark_leak"]
)
def test_every_row_with_this_flaw_is_dropped(outcome: Outcome, flaw: str) -> None:
    # Of two equal rows the earlier one stays, so a marked copy may be kept in place of its original.
    kept = [row for row in outcome if row[0] == flaw and row[1] is None]
    total = sum(row[0] == flaw for row in outcome)
    assert total >= 50
    if flaw != "exact_duplicate":
        assert not kept
    else:
        same_text = sum(drop is not None and drop[1] == "same text" for _, drop in outcome)
        leaks = sum(row[0] == flaw and row[1] is not None and row[1][0] == "decontamination" for row in outcome)
        # Leaks go before duplicates are looked for.
        assert same_text + leaks >= 0.9 * total > leaks


def test_near_duplicates_are_found_or_replace_their_original(outcome: Outcome) -> None:
    copies = sum(flaw == "near_duplicate" and (drop is None or drop[0] != "decontamination") for flaw, drop in outcome)
    assert copies > 100
    duplicates = Counter(drop[1] for _, drop in outcome if drop is not None and drop[0] == "deduplication")
    found = duplicates["same text but for spelling"] + duplicates["near duplicate"]
    assert found >= 0.95 * copies


def test_sound_rows_are_lost_to_the_eight_gram_rule_alone(outcome: Outcome) -> None:
    lost = Counter(
        drop[1] for flaw, drop in outcome if flaw is None and drop is not None and drop[0] != "deduplication"
    )
    sound = sum(flaw is None for flaw, _ in outcome)
    # Phrasings of eight fixed words look like leaks to s1's rule; nothing else may take a sound row.
    assert set(lost) <= {"shares 8 words in a row with a benchmark question"}
    assert sum(lost.values()) < 0.12 * sound


def deduplicated(tmp_path: Path, rows: Sequence[tuple[str, str | None]]) -> Filtered:
    """The filters' work on questions and their answers."""
    pool = tmp_path / "pool.jsonl"
    pool.write_text("".join(json.dumps({"q": q, "s": "s", "a": a, "d": "d"}) + "\n" for q, a in rows))
    columns = {"question": "q", "solution": "s", "answer": "a", "domain": "d"}
    data = {"output": "unused", "sources": [{"kind": "files", "path": str(pool), "columns": columns}]}
    return filtered(validate_config(CurationConfig, data, "test"), tmp_path)


def kept(found: Filtered) -> dict[int, int]:
    """Each duplicate, and the row that stays for it."""
    return {row: int(found.funnel.because_of[row]) for row in range(len(found.features)) if found.cause(row)}


SPELLINGS = ["Find $x$.", "Find x.", r"Find \(x\).", "find x", "FIND x", "Find  $x$"]


def test_answers_in_another_notation_are_no_conflict(tmp_path: Path) -> None:
    answers = ["0.5", r"\frac{1}{2}", "0.3", "50%", "3/10", None]
    found = deduplicated(tmp_path, list(zip(SPELLINGS, answers, strict=True)))
    # A row without an answer repeats the first one.
    assert kept(found) == {1: 0, 3: 0, 4: 2, 5: 0}
    assert {found.cause(row) for row in (1, 3, 4, 5)} == {("deduplication", "same text but for spelling")}
    assert found.funnel.conflicts.tolist() == [[0, 2]]


def test_a_conflict_is_between_rows_that_have_answers(tmp_path: Path) -> None:
    found = deduplicated(tmp_path, list(zip(SPELLINGS, [None, "4", "5", None, "4.0", "six"], strict=True)))
    assert kept(found) == {0: 1, 3: 1, 4: 1}
    assert found.funnel.conflicts.tolist() == [[1, 2], [1, 5]]


def test_one_text_with_different_answers_is_listed_and_asked_once(tmp_path: Path) -> None:
    rows = [("Find $x$.", "4"), ("Find x.", "5"), ("Find $x$.", "6"), ("Find x.", "7"), ("Find $x$.", "4.0")]
    found = deduplicated(tmp_path, rows)
    assert kept(found) == {2: 0, 3: 1, 4: 0}
    assert found.cause(2) == found.cause(3) == ("deduplication", "same text, another answer")
    assert found.funnel.conflicts.tolist() == [[0, 1], [0, 2], [0, 3]]


NEAR = "A train leaves the old station at noon and travels 40 miles in 2 hours before it stops to take on water"


def test_near_equal_rows_whose_answers_are_the_same_are_merged(tmp_path: Path) -> None:
    asked = [f"{before}{NEAR}" for before in ("", "Please: ", "Now: ", "Right now: ", "Now then: ")]
    found = deduplicated(tmp_path, list(zip(asked, ["1/2", "0.5", None, r"\dfrac{1}{2}", "7"], strict=True)))
    assert kept(found) == {1: 0, 2: 0, 3: 0}
    assert found.funnel.conflicts.tolist() == [[0, 4]]


def test_a_near_conflict_is_between_rows_that_have_answers(tmp_path: Path) -> None:
    asked = [NEAR, f"Now: {NEAR}", f"Right now: {NEAR}", f"Please, right now: {NEAR}"]
    found = deduplicated(tmp_path, list(zip(asked, ["20", None, "30", "30.0"], strict=True)))
    assert kept(found) == {1: 0, 3: 2}
    assert found.funnel.conflicts.tolist() == [[0, 2]]


def test_thousands_of_answers_to_one_question_take_seconds(tmp_path: Path) -> None:
    answers = [f"x^{{{n}}}+{n}y" for n in range(1000)] + [f"x^{{{n}}} + {n} y" for n in range(1000)]
    start = time.process_time()
    found = deduplicated(tmp_path, [("Simplify $f(x, y)$.", answer) for answer in answers])
    assert kept(found) == dict.fromkeys(range(1, 1000), 0) | {1000 + n: n for n in range(1000)}
    assert found.funnel.conflicts.tolist() == [[0, n] for n in range(1, 1000)]
    assert time.process_time() - start < 60


@given(st.lists(st.sampled_from(["1/2", "0.5", r"\frac{1}{2}", "3", "3.0", "x+1", "1+x", "A"]), max_size=12))
def test_the_classes_of_answers_are_those_of_comparing_all(answers: list[str]) -> None:
    expected = [
        next(place for place, other in enumerate(answers) if same_answer(other, answer) is True) for answer in answers
    ]
    assert answer_classes(answers) == expected


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 9))
def test_pieces_have_whole_groups(labels: list[int], count: int) -> None:
    pieces = [piece.tolist() for piece in filters._whole_groups(np.array(labels, np.int64), count)]
    assert sorted(place for piece in pieces for place in piece) == list(range(len(labels)))
    groups = [{labels[place] for place in piece} for piece in pieces]
    assert sum(map(len, groups)) == len(set(labels))
    assert all(len(piece) >= count for piece in pieces[:-1])
    assert all(piece == sorted(piece) for piece in pieces)


def test_near_duplicates_are_the_same_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"output": "unused", "sources": [{"kind": "miniature", "size": 3000}]}
    config = validate_config(CurationConfig, data, "test")
    at_once = filtered(config, tmp_path / "at once").funnel
    monkeypatch.setattr(filters, "READ_ROWS", 20)
    in_pieces = filtered(config, tmp_path / "in pieces").funnel
    assert ("deduplication", "near duplicate") in at_once.causes
    assert in_pieces.causes == at_once.causes
    for name in ("cause", "because_of", "conflicts"):
        assert getattr(in_pieces, name).tolist() == getattr(at_once, name).tolist()
