"""Rows as people have them are known by their columns, from Parquet, JSON Lines and the Hub's data sets alike."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from s1ray.cli import app
from s1ray.config import ConfigError
from s1ray.errors import InputError, MissingError
from s1ray.schemas import ChatRow, Trace, question_id, read_table
from s1ray.training.config import ColumnsConfig
from s1ray.training.data import sources
from s1ray.training.data.conversations import Conversation, Message
from s1ray.training.data.convert import convert
from s1ray.training.data.examples import Unusable
from s1ray.training.data.sources import Source, conversations_of, is_on_hub, load_hub, open_source

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
TOOL = {"type": "function", "function": {"name": "add", "description": "Add.", "parameters": {"type": "object"}}}


def read(*records: dict[str, Any], columns: ColumnsConfig | None = None) -> list[Conversation | Unusable]:
    return list(conversations_of(Source("rows", len(records), lambda: records), columns))


def turns(*records: dict[str, Any], columns: ColumnsConfig | None = None) -> list[tuple[str, str, str]]:
    (found,) = read(*records, columns=columns)
    assert isinstance(found, Conversation), found
    return [(message.role, message.thinking, message.content) for message in found.messages]


PLAIN = [("user", "", "1 + 1?"), ("assistant", "count", "2")]
S1K = {
    "solution": "reference",
    "question": "1 + 1?",
    "cot_type": "math",
    "source_type": "x",
    "metadata": "{}",
    "cot": None,
    "thinking_trajectories": ["count"],
    "attempt": "2",
}
S1K11 = {
    "question": "1 + 1?",
    "solution": "reference",
    "gemini_thinking_trajectory": "gemini's",
    "gemini_attempt": "two",
    "deepseek_thinking_trajectory": "count",
    "deepseek_attempt": "2",
    "deepseek_grade": "Yes",
}


@pytest.mark.parametrize(
    "record",
    [
        {"question": "1 + 1?", "thinking": "count", "attempt": "2"},
        S1K,
        S1K11,
        {"question": "1 + 1?", "attempt": "<think>\ncount\n</think>\n\n2"},
        {"prompt": "1 + 1?", "completion": "<think>count</think>2"},
        {"prompt": "1 + 1?", "completion": "count\n</think>\n2"},
        {
            "prompt": [{"role": "user", "content": "1 + 1?"}],
            "completion": [{"role": "assistant", "content": "2", "reasoning": "count"}],
        },
        {
            "messages": [
                {"role": "user", "content": "1 + 1?"},
                {"role": "assistant", "content": "<think>count</think>2"},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]},
                {"role": "assistant", "content": "2", "reasoning_content": "count"},
            ]
        },
        {
            "conversations": [
                {"from": "human", "value": "1 + 1?"},
                {
                    "from": "gpt",
                    "value": "<|begin_of_thought|>\n\ncount\n\n<|end_of_thought|>\n\n"
                    "<|begin_of_solution|>\n\n2\n\n<|end_of_solution|>",
                },
            ]
        },
        {
            "messages": json.dumps(
                [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "count</think>2"}]
            )
        },
    ],
    ids=lambda record: "+".join(record),
)
def test_the_layouts_that_people_publish_are_known_without_a_setting(record: dict[str, Any]) -> None:
    assert turns(record) == PLAIN


def test_the_same_columns_give_the_same_from_every_kind_of_file(tmp_path: Path) -> None:
    rows = [{**S1K11, "question": f"{number} + 1?"} for number in range(600)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "rows.jsonl").write_text(lines)
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b.jsonl").write_text("".join(lines.splitlines(True)[300:]))
    (tmp_path / "folder" / "a.jsonl").write_text("".join(lines.splitlines(True)[:300]))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    expected = read(*rows)
    assert len(expected) == 600
    for name in ("rows.jsonl", "packed.jsonl.gz", "folder", "rows.parquet"):
        assert list(conversations_of(open_source(str(tmp_path / name)))) == expected, name


def test_a_data_set_of_the_hub_is_read_by_split(tmp_path: Path) -> None:
    for split, number in (("train", 300), ("test", 2)):
        rows = [{**S1K, "question": f"{i} + 1?"} for i in range(number)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{split}-00000.parquet")
    data = load_hub(str(tmp_path), split="test")
    source = Source("org/name:test", len(data), lambda: (row for rows in sources._slices(data) for row in rows))
    found = list(conversations_of(source))
    assert [row.messages[0].content for row in found if isinstance(row, Conversation)] == ["0 + 1?", "1 + 1?"]
    assert len(load_hub(str(tmp_path), split=None)) == 300
    with pytest.raises(InputError, match=r"has no split 'valid', only train, test"):
        load_hub(str(tmp_path), split="valid")


def test_a_hub_id_is_told_from_a_path_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert is_on_hub("simplescaling/s1K-1.1")
    assert is_on_hub("simplescaling/s1K:train")
    assert is_on_hub("simplescaling/s1K@main:train")
    for path in ("runs/traces", "traces.parquet", "data/traces.parquet", "/data/traces", "a/b/c.parquet", "runs"):
        assert not is_on_hub(path)
    with pytest.raises(MissingError, match=r"runs/traces: no such file or folder; give a Parquet or JSON Lines"):
        open_source("runs/traces")


def test_a_system_prompt_comes_from_its_message_or_column() -> None:
    chat = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "<think>t</think>a"}]
    assert turns({"messages": chat, "system": "Be brief."})[0] == ("system", "", "Be brief.")
    own = [{"role": "system", "content": "Own."}, *chat]
    assert [role for role, _, _ in turns({"messages": own, "system": "Be brief."})] == ["system", "user", "assistant"]


def test_tools_calls_and_results_are_read_in_the_spellings_in_use() -> None:
    chat = [
        {"role": "user", "content": "1 + 2?", "tool_calls": None},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "use it",
            "tool_calls": [{"id": "c1", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}', "c": None}}],
        },
        {"role": "tool", "content": "3", "tool_call_id": "c1", "name": "add"},
        {"role": "assistant", "content": "<think>so</think>3"},
    ]
    for tools in ([TOOL], json.dumps([TOOL]), [TOOL["function"]]):
        (found,) = read({"messages": chat, "tools": tools})
        assert isinstance(found, Conversation)
        assert found.tools == [TOOL]
        assert found.messages[1] == Message("assistant", "", "use it", [{**CALL, "id": "c1"}])
        assert found.messages[2] == Message("tool", "3", others={"name": "add", "tool_call_id": "c1"})
    shared = [
        {"from": "human", "value": "1 + 2?"},
        {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1, "b": 2}}'},
        {"from": "observation", "value": "3"},
        {"from": "gpt", "value": "<think>so</think>3"},
    ]
    (found,) = read({"conversations": shared})
    assert isinstance(found, Conversation)
    assert [message.role for message in found.messages] == ["user", "assistant", "tool", "assistant"]
    assert found.messages[1].tool_calls == [CALL]


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"messages": []}, "no list of messages"),
        ({"messages": "hello"}, "no list of messages"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "has the role 'narrator'"),
        ({"messages": [{"role": "user", "content": 3}]}, "content is no text, but 3"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}]}, "content is no text"),
        ({"messages": [{"role": "assistant", "content": "<think>endless"}]}, "does not end with '</think>'"),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": [{"x": 1}]}]}, "a tool call cannot be read"),
        ({**S1K, "thinking_trajectories": ["a", "b"]}, "thinking_trajectories has 2 texts"),
        ({**S1K11, "deepseek_attempt": None}, "deepseek_attempt is no text, but None"),
    ],
)
def test_a_row_that_is_no_conversation_is_unusable_and_says_why(record: dict[str, Any], why: str) -> None:
    (found,) = read(record)
    assert isinstance(found, Unusable)
    assert (found.id, found.reason) == ("row 0", "malformed")
    assert why in found.detail


def test_unknown_columns_are_answered_with_the_known_layouts() -> None:
    with pytest.raises(ConfigError, match=r"rows: has the columns answer, cot, problem, which are none of the known"):
        read({"problem": "1 + 1?", "cot": "count", "answer": "2"})


def test_own_columns_are_named_in_the_config() -> None:
    record = {"problem": "1 + 1?", "cot": "count", "answer": "2", "name": "first"}
    columns = ColumnsConfig(question="problem", thinking="cot", attempt="answer", id="name")
    assert turns(record, columns=columns) == PLAIN
    (found,) = read(record, columns=columns)
    assert found.id == "first"
    gemini = ColumnsConfig(thinking="gemini_thinking_trajectory", attempt="gemini_attempt")
    assert turns(S1K11, columns=gemini)[1] == ("assistant", "gemini's", "two")
    with pytest.raises(ConfigError, match=r"columns\.thinking: chain: there is none, only answer, cot, name, problem"):
        read(record, columns=ColumnsConfig(question="problem", thinking="chain", attempt="answer"))


def test_ids_are_made_from_the_question_where_there_are_none() -> None:
    found = read(S1K, {**S1K, "question": "other"}, S1K)
    first, other = question_id("1 + 1?"), question_id("other")
    assert [row.id for row in found] == [f"{first}-0", f"{other}-0", f"{first}-1"]
    with pytest.raises(ConfigError, match="id 'x' occurs twice"):
        read({**S1K, "id": "x"}, {**S1K, "id": "x"})


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(S1K) + "\n\n{broken\n")
    with pytest.raises(InputError, match=r"rows\.jsonl, line 3: no JSON"):
        list(conversations_of(open_source(str(tmp_path / "rows.jsonl"))))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"{}\n" * 9)[:-9])
    with pytest.raises(InputError, match=r"cut\.jsonl\.gz: cannot be read"):
        list(conversations_of(open_source(str(tmp_path / "cut.jsonl.gz"))))
    (tmp_path / "text.parquet").write_text("x")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        open_source(str(tmp_path / "text.parquet"))


def test_rows_of_one_question_are_converted_to_traces(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [S1K, {**S1K, "question": "other"}]))
    result = CliRunner().invoke(app, ["train", "convert", str(tmp_path / "rows.jsonl"), str(tmp_path / "out.parquet")])
    assert result.exit_code == 0, result.output
    assert "2 rows of Trace" in result.output
    rows = read_table(tmp_path / "out.parquet", Trace).to_pylist()
    assert [(row["question"], row["thinking"], row["attempt"]) for row in rows] == [
        ("1 + 1?", "count", "2"),
        ("other", "count", "2"),
    ]
    before, after = (
        list(conversations_of(open_source(str(tmp_path / name)))) for name in ("rows.jsonl", "out.parquet")
    )
    assert [(row.id, row.messages) for row in before if isinstance(row, Conversation)] == [
        (row.id, list(row.messages)) for row in after if isinstance(row, Conversation)
    ]


def test_conversations_are_converted_without_loss(tmp_path: Path) -> None:
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 + 2?"},
        {"role": "assistant", "content": "", "reasoning_content": "use it", "tool_calls": [CALL]},
        {"role": "tool", "content": "3", "name": "add"},
        {"role": "assistant", "content": "3", "reasoning_content": "so"},
    ]
    rows: list[dict[str, Any]] = [{"messages": chat, "tools": [TOOL]}, {"messages": chat[1:2]}, {"messages": []}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    converted = convert(str(tmp_path / "rows.jsonl"), tmp_path / "out.parquet")
    assert (converted.rows, converted.kind, converted.unusable.counts) == (2, "ChatRow", {"malformed": 1})
    assert read_table(tmp_path / "out.parquet", ChatRow).num_rows == 2
    before = list(conversations_of(open_source(str(tmp_path / "rows.jsonl"))))
    assert list(conversations_of(open_source(str(tmp_path / "out.parquet")))) == before[:2]


def test_nothing_is_written_where_no_row_is_a_conversation(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"messages": []}\n')
    command = ["train", "convert", str(tmp_path / "rows.jsonl"), str(tmp_path / "out.parquet")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "none of its 1 rows is a conversation" in result.output
    assert not (tmp_path / "out.parquet").exists()
