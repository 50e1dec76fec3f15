"""References and responses in the notations that people and models use: graded as a mathematician would."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from s1ray.grading import Grade, grade

CASES = [json.loads(line) for line in Path(__file__).with_name("cases.jsonl").read_text(encoding="utf-8").splitlines()]
KINDS = list(dict.fromkeys(case["kind"] for case in CASES))


def _as_said(case: dict[str, Any], found: Grade) -> bool:
    """A case that gives a verdict is about it: a right answer that is not found must be unparsable, not incorrect."""
    return found.correct is case["correct"] and found.verdict == case.get("verdict", found.verdict)


@pytest.mark.parametrize("kind", KINDS)
def test_verdicts(kind: str) -> None:
    wrong = [
        f"{case['gold']!r} and {case['text']!r}: {found.verdict} ({found.graded_by}), but {case['why']}"
        for case in CASES
        if case["kind"] == kind and not _as_said(case, found := grade(case["gold"], case["text"]))
    ]
    assert not wrong, "\n".join(wrong)


def test_every_kind_has_right_and_wrong_answers() -> None:
    counts = Counter((case["kind"], case["correct"]) for case in CASES)
    assert all(counts[kind, correct] >= 3 for kind in KINDS for correct in (True, False)), counts
