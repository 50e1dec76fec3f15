"""What requests may ask for, and the plan's way through JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from s1ray.thinking import ForcingPlan, ThinkingBudget
from s1ray.thinking.plan import _in_any
from tests.support.toy import ANSWER, EOS, TURN, VOCAB, WAIT, X, toy_plan


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": "10"}, "max_tokens"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens: 5 is more than max_tokens"),
        ({"waits": 2, "max_tokens": 0}, "waits: 2 waits cannot happen"),
        ({"waits": -1}, "waits"),
        ({"waits": 10_001}, "waits"),
        ({"wait_text": []}, "wait_text: the list is empty"),
        ({"wait_text": ["Wait", ""]}, "wait_text: a listed text"),
        ({"wait_text": 5}, "wait_text"),
        ({"end_text": ""}, "end_text"),
        ({"max_thinking": 5}, "max_thinking"),
    ],
)
def test_nonsense_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ThinkingBudget(**fields)


@pytest.mark.parametrize(("wait_text", "texts"), [("Wait", ("Wait",)), (["A", "B"], ("A", "B")), ("", ()), (None, ())])
def test_wait_texts_in_the_order_of_use(wait_text: Any, texts: Any) -> None:
    assert ThinkingBudget(wait_text=wait_text).wait_texts == texts


ids = st.integers(0, VOCAB - 1)
plain_ids = ids.filter(lambda i: i not in (EOS, TURN))


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    before = tuple(draw(st.lists(plain_ids, max_size=3)))
    after = tuple(draw(st.lists(plain_ids, max_size=3)))
    maximum = draw(st.none() | st.integers(0, 100))
    return {
        "cut": (*before, TURN, ANSWER, *after),
        "cut_answer": len(before) + 2,
        "max_tokens": maximum,
        "min_tokens": draw(st.integers(0, 100 if maximum is None else maximum)),
        "waits": draw(st.integers(0, 9)),
        "newline_ids": tuple(sorted(draw(st.sets(ids)))),
        "wait_texts": tuple(draw(st.lists(st.lists(plain_ids, min_size=1, max_size=3).map(tuple), max_size=3))),
    }


@given(changes())
def test_a_plan_survives_its_json(fields: dict[str, Any]) -> None:
    plan = toy_plan(**fields)
    assert ForcingPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocab_size": 5}, "not below vocab_size"),
        ({"end_triggers": (EOS,)}, "end delimiter's first id"),
        ({"cut": (X, TURN, ANSWER), "cut_answer": 2}, "cut"),
        ({"cut": (TURN, ANSWER), "cut_answer": 3}, "cut"),
        ({"wait_texts": ((WAIT, EOS),)}, "wait_texts"),
        ({"wait_texts": ((),)}, "wait_texts"),
        ({"wait_texts": ((VOCAB,),)}, "wait_texts"),
        ({"start": ()}, "start"),
        ({"start": (-1,)}, "start"),
        ({"start": (True,)}, "start"),
        ({"start": ("1",)}, "start"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens"),
        ({"version": 2}, "version"),
        ({"cut": tuple([X] * 5000)}, "cut"),
        ({"soft_end": 3}, "soft_end"),
        ({"grace": -1}, "grace"),
        ({"loops": 1}, "loops"),
        ({"tool_calls": (X,)}, "tool_calls"),
        ({"ban": ((TURN,),)}, "ban"),
        ({"ban": ((VOCAB,),)}, "ban"),
        ({"ban": ((WAIT,),)}, "ban"),
    ],
)
def test_a_broken_plan_is_refused_by_field(fields: dict[str, Any], message: str) -> None:
    data = json.loads(toy_plan().to_json()) | {"waits": 0}
    with pytest.raises(ValueError, match=f"s1ray: not a forcing plan: .*{message}"):
        ForcingPlan.from_json(json.dumps(data | fields))


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "5", '"x"', "{" * 50, "x" * 1_000_001])
def test_other_strings_are_no_plan(text: str) -> None:
    with pytest.raises(ValueError, match="s1ray: "):
        ForcingPlan.from_json(text)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner), max_leaves=5))
def test_anything_else_gives_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match="s1ray: "):
        ForcingPlan.from_json(value)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"wait_text": "a" * 501}, "wait_text"),
        ({"wait_text": ["Wait"] * 65}, "wait_text"),
        ({"ban": "a" * 201}, "ban"),
        ({"end_text": "a" * 4001}, "end_text"),
        ({"loops": 1025}, "loops"),
    ],
)
def test_texts_and_numbers_have_a_largest_size(fields: dict[str, Any], names: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        ThinkingBudget(**fields)
    assert {error["loc"][0] for error in caught.value.errors()} == {names}


def test_what_is_written_is_known_to_the_last_id() -> None:
    plan = toy_plan(newline=(X,), wait_texts=((WAIT,),))
    assert plan.written == {*plan.start, *plan.cut, X, WAIT}


def test_a_ban_is_found_anywhere_in_a_wait_text_and_digits_do_not_run_together() -> None:
    with pytest.raises(ValidationError, match="part of a wait text"):
        toy_plan(wait_texts=((X, WAIT, X),), ban=((WAIT, X),))
    assert _in_any(((1, 23),), (23,))
    assert not _in_any(((1, 23),), (12, 3))
    assert not _in_any(((1, 23),), (2,))
