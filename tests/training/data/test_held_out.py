"""Which traces are held out of training."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.config import ConfigError
from s1ray.training.config import ValidationConfig
from s1ray.training.data.held_out import held_out

QUESTIONS = st.lists(st.integers(0, 20).map(str), min_size=2, max_size=60).filter(lambda ids: len(set(ids)) > 1)


@given(questions=QUESTIONS, fraction=st.floats(0.01, 0.5), seed=st.integers(0, 100))
def test_whole_questions_are_held_out_and_the_same_ones_whatever_the_order_of_rows(
    questions: list[str], fraction: float, seed: int
) -> None:
    config = ValidationConfig(fraction=fraction)
    try:
        rows = held_out(questions, config, seed)
    except ConfigError:
        return
    chosen = {questions[row] for row in rows}
    assert rows == [row for row, question in enumerate(questions) if question in chosen]
    assert 0 < len(rows) < len(questions)
    reverse = questions[::-1]
    assert {reverse[row] for row in held_out(reverse, config, seed)} == chosen


def test_the_size_is_met_with_the_fewest_questions_drawn() -> None:
    questions = [str(number // 3) for number in range(30)]
    assert len(held_out(questions, ValidationConfig(size=6), seed=1)) == 6
    assert len(held_out(questions, ValidationConfig(size=7), seed=1)) == 9
    assert held_out(questions, ValidationConfig(size=6), seed=1) != held_out(
        questions, ValidationConfig(size=6), seed=2
    )


def test_holding_out_everything_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"would hold out all 3 usable rows .*lower validation.size"):
        held_out(["a", "b", "c"], ValidationConfig(size=3), seed=0)
