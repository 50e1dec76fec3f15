"""What docs/grading.md says is equal, is."""

from __future__ import annotations

import re

import pytest

from s1ray.grading import grade
from tests.support.markdown import ROOT

TICKED = re.compile(r"`([^`]+)`")


def claims() -> list[tuple[str, str, bool]]:
    """Reference, answer and whether it is right, from the table under "What is equal"."""
    section = (ROOT / "docs" / "grading.md").read_text().split("## What is equal")[1].split("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    rows = [row for row in rows if len(row) == 3]
    return [
        # Within a table a bar is written with a backslash.
        (TICKED.findall(reference)[0], answer.replace("\\|", "|"), right)
        for reference, *cells in rows
        for cell, right in zip(cells, (True, False), strict=True)
        for answer in TICKED.findall(cell)
    ]


def test_the_table_is_found() -> None:
    assert len(claims()) > 30


@pytest.mark.parametrize(("reference", "answer", "right"), claims())
def test_a_claim_holds(reference: str, answer: str, right: bool) -> None:
    assert grade(reference, f"The answer is \\boxed{{{answer}}}.").correct is right
