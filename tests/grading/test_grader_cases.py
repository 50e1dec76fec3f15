"""Error rates on public grader cases: MATH500 answers rewritten mechanically, and math-verify's own test cases."""

import os
from pathlib import Path

import pytest

from s1ray.grading import grade

SHARED = Path(os.environ.get("S1RAY_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
CASES = SHARED / "grader_cases.parquet"


EQUAL_THOUGH_NOT_SAID = {
    # Named as the answer, if with blank lines.
    ("$9$", "Answer \\( \n 9 \n \\)"),
    # The commands' backslashes are doubled, as where a text was escaped twice; the interval is the same.
    (r"$x \in [-2,7]$", r"$-2 \\le x \\le 7$"),
}
"""Of math-verify's cases, those that test what its parser takes, not what is equal."""


@pytest.mark.skipif(not CASES.exists(), reason=f"{CASES} is not here")
@pytest.mark.parametrize(
    ("source", "wrong_at_most"),
    [
        ("math500 mechanical variants", 0.002),
        pytest.param("math-verify tests", 0.09, marks=pytest.mark.slow),
    ],
)
def test_error_rate(source: str, wrong_at_most: float) -> None:
    import pyarrow.parquet as pq

    rows = [row for row in pq.read_table(CASES).to_pylist() if row["source"] == source and row["equal"] is not None]
    said = [(row, grade(row["gold"], row["pred"]).correct) for row in rows]
    wrong = [(row, correct) for row, correct in said if correct != row["equal"]]
    assert len(wrong) / len(rows) <= wrong_at_most
    false_positives = {(row["gold"], row["pred"]) for row, correct in wrong if correct is True}
    assert false_positives <= EQUAL_THOUGH_NOT_SAID
