"""How much of each flaw of the miniature's pool the filters find, and how many sound rows they lose."""

import json
from collections import Counter
from pathlib import Path

import pytest

from s1ray.config import validate_config
from s1ray.curation.config import CurationConfig
from tests.support.curation import filtered

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


def test_answers_in_another_notation_are_no_conflict(tmp_path: Path) -> None:
    answers = ["0.5", r"\frac{1}{2}", "0.3", "50%"]
    spellings = ["Find $x$.", "Find x.", r"Find \(x\).", "find x"]
    pool = tmp_path / "pool.jsonl"
    rows = zip(spellings, answers, strict=True)
    pool.write_text("".join(json.dumps({"q": q, "s": "s", "a": a, "d": "d"}) + "\n" for q, a in rows))
    columns = {"question": "q", "solution": "s", "answer": "a", "domain": "d"}
    data = {"output": "unused", "sources": [{"kind": "files", "path": str(pool), "columns": columns}]}
    found = filtered(validate_config(CurationConfig, data, "test"), tmp_path)
    again = ("deduplication", "same text, and the same answer in another notation")
    assert [found.cause(row) for row in range(4)] == [None, again, None, again]
    assert found.funnel.conflicts.tolist() == [[0, 2]]
