"""How fields are read off records: paths, templates, conversations, and cells as text."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from s1ray.config import ConfigError, validate_config
from s1ray.curation.records import ColumnMapping, RowMaker
from s1ray.reading.fields import cell_text, number_text, parse_expression
from s1ray.reading.items import Unusable
from s1ray.reading.where import Where


def row(record: dict[str, Any], **columns: Any) -> Any:
    return RowMaker(validate_config(ColumnMapping, columns, "test"), Where(), "pool").row(record)


def problem(record: dict[str, Any], **columns: Any) -> str:
    with pytest.raises(Unusable) as error:
        row(record, **columns)
    return error.value.bad.reason


NESTED = {
    "question": "Q",
    "reward_model": {"ground_truth": "2", "none": None},
    "options": ["a", "b"],
    "other": json.dumps({"solution": "as JSON"}),
    "printed": "{'year': 1983, 'deep': {'x': [1, 2]}}",
    "a.b": "exact",
}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("reward_model.ground_truth", "2"),
        ("reward_model.none", None),
        ("reward_model.nothing", None),
        ("options[0]", "a"),
        ("options[-1]", "b"),
        ("options[7]", None),
        ("other.solution", "as JSON"),
        ("printed.year", "1983"),
        ("printed.deep.x[1]", "2"),
        ("a.b", "exact"),
        ("nothing", None),
    ],
)
def test_paths_lead_into_nested_fields(path: str, text: str | None) -> None:
    assert row(NESTED, answer=path).answer == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is ", "as it is "),
        (4, "4"),
        (10**30, "1" + "0" * 30),
        (2.5, "2.5"),
        (0.1, "0.1"),
        (5.0, "5"),
        (1e300, "1e+300"),
        (Decimal("2.50"), "2.50"),
        (Decimal("1E+3"), "1000"),
        (Decimal("12345678901234567890.123"), "12345678901234567890.123"),
        (True, "True"),
        (None, None),
        (float("nan"), None),
        (["one"], "one"),
        ([], None),
        (b"bytes", "bytes"),
    ],
)
def test_cells_become_text(value: object, text: str | None) -> None:
    assert cell_text(value, "x") == text


def test_numbers_keep_the_digits_of_the_file() -> None:
    assert number_text(json.loads("0.30000000000000004", parse_float=Decimal)) == "0.30000000000000004"
    assert number_text(json.loads("1e-7", parse_float=Decimal)) == "0.0000001"


def test_lists_and_objects_are_never_printed() -> None:
    record = {"question": "Q", "several": ["2", "two"], "object": {"v": 8}, "empty": {}}
    assert (
        problem(record, answer="several")
        == "wrong type: column 'several' is a list of 2; say which, for example several[0]"
    )
    assert row(record, solution="several", domain="several").solution == "2"
    assert row(record, domain="several", source="several").domain == "2"
    assert row(record, source="several").source == "pool/2"
    assert "is an object (v); name a field of it, for example object.v" in problem(record, answer="object")
    assert "is an object" in problem(record, answer="empty")
    assert "bytes that are no text" in problem({"question": "Q", "x": b"\xff"}, answer="x")


def test_templates_join_columns_and_leave_out_what_is_empty() -> None:
    template = "{passage}\n\n{question}\n{options:letters}"
    full = {"passage": "P\n", "question": "Which?", "options": ["(A)1", "(B)2"]}
    assert row(full, question=template).question == "P\n\nWhich?\n(A)1\n(B)2"
    bare = {"passage": None, "question": "Which?", "options": ["1", "2"]}
    assert row(bare, question=template).question == "Which?\n(A) 1\n(B) 2"
    assert row(bare | {"options": None}, question=template).question == "Which?"
    assert row(full, question="{question}\n{options}").question == "Which?\n(A)1\n(B)2"
    assert row({"a": {"b": 3}}, question="b = {a.b}, {{as it is}}").question == "b = 3, {as it is}"
    assert row({"a": "{x}"}, question="{a}").question == "{x}", "braces of a cell mean nothing"
    assert problem({"passage": None, "question": ""}, question=template).startswith(
        "missing column: no column 'options'"
    )
    assert "is empty" in problem({"passage": None, "question": "", "options": []}, question=template)
    assert "an object" in problem({"question": {"text": "Q"}}, question="{question}")


CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "1+1?"}]},
    {"role": "assistant", "content": None, "tool_calls": []},
    {"role": "tool", "content": "2"},
    {"role": "assistant", "content": "It is 2."},
    {"role": "user", "content": "And 2+2?"},
    {"role": "assistant", "content": "4."},
]


@pytest.mark.parametrize("packed", [False, True])
def test_conversations_give_the_first_question_and_its_answer(packed: bool) -> None:
    record = {"messages": json.dumps(CHAT) if packed else CHAT}
    made = row(record, question="{messages:user}", solution="{messages:assistant}")
    assert (made.question, made.solution) == ("What is 1+1?", "It is 2.")
    joined = row(record, question="{messages:system}\n\n{messages:user}")
    assert joined.question == "Be brief.\n\nWhat is 1+1?"


def test_other_forms_of_conversations() -> None:
    sharegpt = {"conversations": [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "A."}]}
    made = row(sharegpt, question="{conversations:user}", solution="{conversations:assistant}")
    assert (made.question, made.solution) == ("Q?", "A.")
    assert '`question: "{conversations:user}"`' in problem(sharegpt)
    assert "is a list of 2" in problem(sharegpt, question="conversations")
    assert "no list of messages" in problem({"messages": "words"}, question="{messages:user}")
    assert "not an object" in problem({"messages": ["words"]}, question="{messages:user}")
    assert "has no role" in problem({"messages": [{"content": "x"}]}, question="{messages:user}")
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": "a.png"}]}]
    assert problem({"messages": image}, question="{messages:user}").endswith("a message holds image_url")
    assert "is empty" in problem({"messages": [{"role": "assistant", "content": "x"}]}, question="{messages:user}")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no column"),
        ("{a", "expected '}'"),
        ("{a:upper}", "'upper' is no format"),
        ("{a!r}", "is no format"),
        ("{{only text}}", "names no column"),
    ],
)
def test_what_is_no_expression_is_refused_with_the_config(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_expression(text)
    with pytest.raises(ConfigError, match=f"question: .*{why}"):
        validate_config(ColumnMapping, {"question": text}, "test")


@pytest.mark.parametrize(
    "columns", [{"length": "{x}"}, {"solved_by": {"a": "{x}"}}, {"pass_rates": {"a": "{x}"}}, {"metadata": ["{x}"]}]
)
def test_what_is_no_text_takes_no_template(columns: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="takes a column, not a template"):
        validate_config(ColumnMapping, columns, "test")


def test_labels_and_lengths() -> None:
    record = {"question": "Q", "csv": "True", "no": "0", "length": "12", "float": 12.0, "half": 12.5, "word": "No"}
    assert row(record, solved_by={"small": "csv"}, unsolved_by={"large": "no"}).solved_by == ["large", "small"]
    assert row(record, length="length").length == row(record, length="float").length == 12
    assert "must be a whole number of tokens, not 12.5" in problem(record, length="half")
    assert "must be true or false" in problem(record, solved_by={"small": "word"})


def test_texts_that_no_file_can_hold_are_refused() -> None:
    assert problem({"question": "a\0b"}) == "NUL: question has the character NUL"
    assert problem({"question": "Q", "answer": "\ud800"}, answer="answer").startswith("broken text: answer has")
    assert problem({"question": "Q", "x": {1: 2, "a": 3}}, metadata="all").startswith("wrong type: the metadata cannot")
