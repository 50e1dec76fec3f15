"""The grader of examples/own_grader."""

from __future__ import annotations

import pytest

from s1ray.grading import Grade, find_grader


@pytest.mark.parametrize(
    ("gold", "text", "verdict"),
    [
        ("9.81 m/s^2", "Final Answer: 9.8", Grade("correct", "9.8", "within 1%")),
        ("9.81", "So \\boxed{g = 9.79}", Grade("correct", "9.79", "within 1%")),
        ("9.81", "Final Answer: 9.5", Grade("incorrect", "9.5", "within 1%")),
        ("6.02e23", "Final Answer: 6.0e23", Grade("correct", "6.0e23", "within 1%")),
        ("42", "Final Answer: none", Grade("unparsable", None, "no answer")),
        ("Tue", "Final Answer: Tue", Grade("correct", "Tue", "exact")),
    ],
)
def test_quantities_are_right_within_one_per_cent(gold: str, text: str, verdict: Grade) -> None:
    assert find_grader("tolerant")(gold, text) == verdict
