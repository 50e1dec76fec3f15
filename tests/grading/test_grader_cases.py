"""Error rates on public grader cases: MATH500 answers rewritten mechanically, and math-verify's own test cases."""

import os
from pathlib import Path

import pytest

from s1ray.grading import grade

SHARED = Path(os.environ.get("S1RAY_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
CASES = SHARED / "grader_cases.parquet"


@pytest.mark.skipif(not CASES.exists(), reason=f"{CASES} is not here")
@pytest.mark.parametrize(
    ("source", "wrong_at_most", "false_positives_at_most"),
    [
        ("math500 mechanical variants", 0.002, 0),
        pytest.param("math-verify tests", 0.09, 1, marks=pytest.mark.slow),
    ],
)
def test_error_rate(source: str, wrong_at_most: float, false_positives_at_most: int) -> None:
    import pyarrow.parquet as pq

    rows = [row for row in pq.read_table(CASES).to_pylist() if row["source"] == source and row["equal"] is not None]
    verdicts = [(grade(row["gold"], row["pred"]).correct, row["equal"]) for row in rows]
    wrong = [pair for pair in verdicts if pair[0] != pair[1]]
    assert len(wrong) / len(rows) <= wrong_at_most
    assert sum(said is True for said, _ in wrong) <= false_positives_at_most
