"""A key that a server repeats is in nothing that is made of its answer."""

from __future__ import annotations

import json

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s1ray.generation.base import GenerationError
from s1ray.secrets import MARK, Redaction
from tests.generation.test_http_generator import ask, chat_answer

KEY = "sk-0123456789/abc+def=="


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=16, max_size=40),
    st.text(max_size=20),
    st.text(max_size=20),
)
@example("sk-0123456789abcd\\", "", "")
def test_a_key_is_replaced_however_json_writes_it(key: str, before: str, after: str) -> None:
    redaction = Redaction(key)
    escaped = "".join(f"\\u{ord(character):04X}" if not character.isalnum() else character for character in key)
    for written in (json.dumps(key)[1:-1], json.dumps(key)[1:-1].replace("/", "\\/"), escaped):
        body = f'[{json.dumps(before)}, "{written}", {json.dumps(after)}]'
        found = json.loads(redaction.body(body.encode()))
        assert found == [before.replace(key, MARK), MARK, after.replace(key, MARK)]


@pytest.mark.parametrize("length", range(270, 310, 3))
@pytest.mark.parametrize("content", ["{}", '{{"error": {{"message": "{}"}}}}'])
def test_no_part_of_a_key_is_left_where_a_message_is_cut(length: int, content: str) -> None:
    for size in (length, length + 700):
        body = content.replace("{{", "{").replace("}}", "}").replace("{}", "x" * size + KEY)
        with pytest.raises(GenerationError) as raised:
            ask(lambda request, body=body: httpx.Response(401, content=body.encode()), api_key=KEY)  # type: ignore[misc]
        assert "sk-" not in str(raised.value)


def test_a_key_is_in_no_field_of_a_completion() -> None:
    answer = chat_answer() | {"model": f"m {KEY}"}
    answer["choices"][0]["finish_reason"] = f"odd {KEY}"
    answer["choices"][0]["message"]["content"] = f"Your key is {KEY}"
    row = ask(lambda request: httpx.Response(200, json=answer), api_key=KEY)
    assert (row.model_version, row.raw_finish_reason) == (f"m {MARK}", f"odd {MARK}")
    assert row.answer == f"Your key is {MARK}"


def test_a_key_that_may_be_a_word_changes_no_answer() -> None:
    answer = chat_answer()
    answer["choices"][0]["message"]["content"] = "the set is EMPTY"
    assert ask(lambda request: httpx.Response(200, json=answer), api_key="EMPTY").answer == "the set is EMPTY"
