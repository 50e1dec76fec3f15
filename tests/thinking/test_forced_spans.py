"""Which tokens of a response the model has not chosen."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from s1ray.thinking.accounting import forced_spans
from s1ray.thinking.forcer import BudgetForcer
from tests.support.toy import ANSWER, COLON, EOS, FINAL, NEWLINE, THINK, TURN, WAIT, X, Y, toy_plan


def test_delimiters_waits_and_a_forced_end_are_not_the_models() -> None:
    plan = toy_plan(max_tokens=4, waits=1)
    output = [TURN, THINK, X, WAIT, Y, X, NEWLINE, TURN, ANSWER, NEWLINE, FINAL, COLON, Y, EOS]
    assert forced_spans(plan, [9], output) == [(0, 2), (3, 4), (6, 12)]


def test_of_an_end_that_the_model_began_only_the_rest_is_forced() -> None:
    assert forced_spans(toy_plan(), [9], [TURN, THINK, X, TURN, ANSWER, Y, EOS]) == [(0, 2), (4, 5)]
    assert forced_spans(toy_plan(), [9, TURN, THINK], [X, TURN, ANSWER, Y, EOS]) == [(2, 3)]


@given(
    proposals=st.lists(st.sampled_from([X, Y, TURN, EOS]), min_size=30, max_size=60),
    maximum=st.one_of(st.none(), st.integers(0, 12)),
    waits=st.integers(0, 2),
    answer=st.one_of(st.none(), st.integers(1, 4)),
)
def test_they_are_those_that_the_engine_replaced(
    proposals: list[int], maximum: int | None, waits: int, answer: int | None
) -> None:
    changes: dict[str, Any] = {
        "max_tokens": maximum,
        "waits": waits if maximum != 0 else 0,
        "answer_max_tokens": answer,
    }
    plan = toy_plan(**changes)
    forcer, output, replaced = BudgetForcer(plan, [9]), list[int](), set[int]()
    for proposal in proposals:
        action, token = forcer.action, proposal
        if action is not None and action.force is not None:
            token = action.force
            replaced.add(len(output))
        elif action is not None and token in (*action.ban, *action.exclude):
            token = X if action.move_to is None else action.move_to
            if token == WAIT:
                replaced.add(len(output))
        forcer.observe(token, float(token == WAIT))
        output.append(token)
    told = {place for begin, end in forced_spans(plan, [9], output) for place in range(begin, end)}
    assert told == replaced
