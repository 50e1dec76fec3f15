from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from s1ray.serving.config import Budgets
from s1ray.serving.protocol.answer_shape import AnswerShape
from s1ray.serving.protocol.refusals import BadRequestError
from s1ray.serving.protocol.resolve import ModelLimits, resolve

TOOL: dict[str, Any] = {"type": "function", "function": {"name": "add"}}
NAMED = {"type": "function", "function": {"name": "add"}}
JSON = {"type": "json_object"}
BEGUN = {"continue_final_message": True, "messages": [{"role": "assistant", "content": "It is"}]}


@pytest.mark.parametrize(
    ("fields", "grammar", "tools"),
    [
        ({}, False, False),
        ({"response_format": {"type": "text"}}, False, False),
        ({"response_format": JSON}, True, False),
        ({"response_format": SimpleNamespace(type="json_schema")}, True, False),
        ({"structured_outputs": {"regex": "a"}}, True, False),
        ({"tools": [TOOL]}, False, True),
        ({"tools": [TOOL], "tool_choice": "auto"}, False, True),
        ({"tools": [TOOL], "tool_choice": "none"}, False, False),
        ({"tools": [TOOL], "tool_choice": "required"}, True, True),
        ({"tools": [TOOL], "tool_choice": NAMED}, True, True),
        ({"tools": [{"function": {"name": "add", "strict": True}}], "tool_choice": "auto"}, True, True),
        ({"tools": [], "tool_choice": "none"}, False, False),
    ],
)
def test_what_governs_an_answer(fields: dict[str, Any], grammar: bool, tools: bool) -> None:
    shape = AnswerShape.of(fields)
    assert (shape.grammar, shape.tools, shape.governed) == (grammar, tools, grammar or tools)


@pytest.mark.parametrize(
    ("fields", "begun"),
    [
        (BEGUN, True),
        (BEGUN | {"continue_final_message": False}, False),
        ({"continue_final_message": True, "messages": [{"role": "assistant", "content": ""}]}, False),
        ({"continue_final_message": True, "messages": [{"role": "user", "content": "Hm?"}]}, False),
        ({"continue_final_message": True, "messages": []}, False),
    ],
)
def test_a_begun_answer(fields: dict[str, Any], begun: bool) -> None:
    assert AnswerShape.of(fields).begun == begun


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"thinking": {"reopen": "allow"}, "tools": [TOOL]}, "thinking.reopen"),
        ({"thinking": {"reopen": "allow"}, "response_format": JSON}, "thinking.reopen"),
        (BEGUN | {"response_format": JSON}, "continue_final_message"),
        (BEGUN | {"tools": [TOOL], "tool_choice": NAMED}, "continue_final_message"),
        ({"echo": True, "max_tokens": 0, "max_completion_tokens": 1500}, "echo"),
    ],
)
def test_what_would_have_no_effect_is_refused_before_the_queue(fields: dict[str, Any], named: str) -> None:
    limits = ModelLimits(budgets=Budgets(), context=2000)
    with pytest.raises(BadRequestError) as caught:
        resolve(fields, limits, 64)
    assert caught.value.field == named


@pytest.mark.parametrize(
    "fields",
    [
        {"thinking": {"reopen": "allow"}},
        {"thinking": {"reopen": "allow"}, "tools": [TOOL], "tool_choice": "none"},
        BEGUN | {"tools": [TOOL]},
        {"response_format": JSON},
    ],
)
def test_the_rest_is_accepted(fields: dict[str, Any]) -> None:
    assert not resolve(fields, ModelLimits(budgets=Budgets(), context=2000)).unforced
