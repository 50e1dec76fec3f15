"""Rows as people have them are known by their columns, from Parquet, JSON Lines and the Hub's data sets alike."""

from __future__ import annotations

import dataclasses
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
from s1ray.storage import StorePath
from s1ray.training.config import ColumnsConfig
from s1ray.training.data import sources
from s1ray.training.data.conversations import Conversation, Message
from s1ray.training.data.convert import convert
from s1ray.training.data.examples import Unusable
from s1ray.training.data.sources import Source, conversations_of, is_on_hub, load_hub, open_source
from tests.support.object_store import bucket, s3_environment, s3_server

__all__ = ["bucket", "s3_environment", "s3_server"]

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


def test_a_damaged_cache_of_the_hub_is_named() -> None:
    class Damaged:
        def with_format(self, _: str) -> Damaged:
            return self

        def iter(self, _: int) -> None:
            raise OSError("Expected to be able to read 64 bytes")

    with pytest.raises(InputError, match="data set is damaged in its cache, or cannot be read: Expected"):
        list(sources._slices(Damaged()))


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


def answer(text: str, **keys: object) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": text, **keys}]}


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
        (answer("b", reasoning=["x"]), "reasoning is no text"),
        (answer("b", reasoning={"text": "x"}), "reasoning is no text"),
        (answer("b", thinking=True), "thinking is no text, but True"),
        (answer("b", reasoning="x", thinking="y"), "different texts in reasoning, thinking"),
        (answer("<think>a</think>b<think>c</think>d"), "answer contains the delimiter '</think>'"),
        (answer("<think>a<think>b</think>c</think>d"), "contains the delimiter"),
        (answer("Sure. <think>a</think>b"), "answer contains the delimiter '</think>'"),
        (answer("<think>a</think>b", reasoning_content="a"), "answer contains the delimiter '</think>'"),
        (answer("<reasoning>a</reasoning>b", reasoning_content="a"), "answer contains the delimiter '</reasoning>'"),
        ({"question": "q", "thinking": "t", "attempt": "<think>t</think>a"}, "answer contains the delimiter"),
        ({"question": "q", "thinking": "<think>t</think>", "attempt": "a"}, "thinking contains the delimiter"),
        ({"question": "q", "thinking": "t</think>", "attempt": "a"}, "thinking contains the delimiter '</think>'"),
        (answer("b", tool_calls="f(x)"), "a tool call cannot be read"),
        (answer("b", tool_calls=[{"name": "f", "arguments": 0}]), "the arguments of 'f' are no object, but 0"),
        (answer("b", tool_calls=[{"name": "f", "arguments": "0"}]), "the arguments of 'f' are no object, but 0"),
        (answer("b", tool_calls=[{"name": "f", "arguments": "{bad"}]), "a tool call cannot be read"),
        (answer("b", tool_calls=[{"name": "f", "args": {}}]), "has no arguments, but ['args']"),
        (answer("b", tool_calls=[{"name": "f"}], function_call={"name": "f"}), "both tool_calls and function_call"),
        ({"messages": [{"role": "user", "content": "q", "tool_calls": [{"name": "f"}]}]}, "user has tool calls"),
        ({**answer("b"), "tools": "search"}, "tools cannot be read"),
        ({**answer("b"), "tools": [{"type": "web_search"}]}, "a tool's definition has no name"),
        ({**answer("b"), "system": {"text": "x"}}, "system is no text"),
        (answer("b", weight=0.5), "has the weight 0.5"),
        ({**S1K, "question": "\ud800"}, "a message of the user contains '\\ud800'"),
        ({**S1K, "thinking_trajectories": ["\ud800"]}, "the thinking of the assistant contains '\\ud800'"),
        ({**S1K, "id": "\ud800"}, "id contains '\\ud800'"),
        (answer("b", tool_calls=[{"name": "f", "arguments": '{"a": "\\ud800"}'}]), "a tool call contains '\\ud800'"),
        ({**S1K, "id": "\ud800", "attempt": None}, "attempt is no text"),
        (answer("b", tool_calls="[" * 9000), "nested too deeply"),
        ({**S1K11, "deepseek_attempt": None}, "deepseek_attempt is no text, but None"),
    ],
)
def test_a_row_that_is_no_conversation_is_unusable_and_says_why(record: dict[str, Any], why: str) -> None:
    (found,) = read(record)
    assert isinstance(found, Unusable)
    assert (found.id, found.reason) == ("row 0", "malformed")
    assert why in found.detail


F = {"type": "function", "function": {"name": "f", "arguments": {"x": None}}}


@pytest.mark.parametrize(
    "keys",
    [
        {"tool_calls": [F]},
        {"tool_calls": F},
        {"tool_calls": json.dumps(F)},
        {"tool_calls": json.dumps([F["function"]])},
        {"tool_calls": [{"name": "f", "parameters": {"x": None}}]},
        {"tool_calls": [{"name": "f", "arguments": json.dumps(json.dumps({"x": None}))}]},
        {"function_call": F["function"]},
        {"function_call": {"name": "f", "arguments": '{"x": null}'}, "tool_calls": None},
    ],
)
def test_a_call_is_read_in_any_shape(keys: dict[str, Any]) -> None:
    (found,) = read(answer("", thinking="t", **keys))
    assert isinstance(found, Conversation)
    assert found.messages[1].tool_calls == [F]


def test_tools_and_system_prompts_are_read_in_any_shape() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"default": None}}}
    flat = {"type": "function", **tool["function"]}  # type: ignore[dict-item]
    system = [{"type": "text", "text": "Be brief."}]
    for keys in ({"tools": json.dumps(tool)}, {"tools": [flat]}, {"functions": [tool["function"]]}):
        for record in (answer("<think>t</think>b"), S1K):
            (found,) = read({**record, **keys, "system": system})
            assert isinstance(found, Conversation)
            assert found.tools == [tool]
            assert found.messages[0] == Message("system", "Be brief.")


def test_what_is_not_to_be_trained_is_history(tmp_path: Path) -> None:
    records = [
        answer("<think>t</think>b", weight=0),
        {"prompt": "q", "completion": "<think>t</think>b", "label": False},
        answer("<think>t</think>b", weight=1),
        {"prompt": "q", "completion": "<think>t</think>b", "label": True},
    ]
    trained = []
    for record in records:
        (found,) = read(record)
        assert isinstance(found, Conversation)
        trained.append(found.messages[1].trained)
    assert trained == [False, False, True, True]
    (tmp_path / "rows.jsonl").write_text(json.dumps(records[1]) + "\n")
    assert convert(str(tmp_path / "rows.jsonl"), tmp_path / "out.parquet").kind == "ChatRow"
    (found,) = conversations_of(open_source(str(tmp_path / "out.parquet")))
    assert isinstance(found, Conversation)
    assert not found.messages[1].trained


def test_thinking_in_front_of_the_answer_is_found_where_its_column_is_blank() -> None:
    assert turns({"question": "1 + 1?", "thinking": "", "attempt": "<think>count</think>2"}) == PLAIN


def test_unknown_columns_are_answered_with_the_known_layouts() -> None:
    with pytest.raises(ConfigError, match=r"rows: has the columns answer, cot, problem, which are none of the known"):
        read({"problem": "1 + 1?", "cot": "count", "answer": "2"})


def test_columns_whose_names_cannot_be_printed_are_named() -> None:
    with pytest.raises(ConfigError, match=r"has the columns \\ud800, which"):
        read({"\ud800": "1 + 1?"})


def test_a_text_that_begins_like_json_is_a_text() -> None:
    for prompt in ("[" * 9000, "[]", "[1, 2]"):
        assert turns({"prompt": prompt, "completion": "<think>t</think>a"})[0] == ("user", "", prompt)


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
    with pytest.raises(ConfigError, match=r"the columns answer, cot \(read as thinking\), name, problem, .* not read"):
        read(record, columns=ColumnsConfig(thinking="cot"))


def test_ids_are_made_from_the_question_where_there_are_none() -> None:
    found = read(S1K, {**S1K, "question": "other"}, S1K)
    first, other = question_id("1 + 1?"), question_id("other")
    assert [row.id for row in found] == [f"{first}-0", f"{other}-0", f"{first}-1"]
    with pytest.raises(ConfigError, match="id 'x' occurs twice"):
        read({**S1K, "id": "x"}, {**S1K, "id": "x"})


def test_a_line_that_is_no_row_is_unusable_and_named(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(S1K) + "\n\n{broken\n[1]\n" + "[" * 9000 + '\n{"question": 3}\n')
    first, *others = conversations_of(open_source(str(rows)))
    assert isinstance(first, Conversation)
    for number, (row, why) in enumerate(
        zip(others, ("no JSON", "a list, not an object", "no JSON (maximum recursion", "no text"), strict=True), 1
    ):
        assert isinstance(row, Unusable)
        assert (row.id, row.reason) == (f"row {number}", "malformed")
        assert f"rows.jsonl, line {number + 2}: " in row.detail
        assert why in row.detail
    rows.write_text('[\n{"question": "1"}\n]\n'[:2])
    with pytest.raises(InputError, match=r"rows\.jsonl, line 1: no JSON .* one object a line"):
        list(conversations_of(open_source(str(rows))))


def _damage(file: Path, content: bytes) -> str:
    file.write_bytes(content)
    return str(file)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    lines = "".join(json.dumps({**S1K, "question": str(number)}) + "\n" for number in range(2000)).encode()
    packed = gzip.compress(lines)
    middle = len(packed) // 2
    pq.write_table(
        pa.Table.from_pylist([{**S1K, "question": f"{number} " * 50} for number in range(500)]),
        tmp_path / "t.parquet",
        compression="zstd",
    )
    table = (tmp_path / "t.parquet").read_bytes()
    for name, content in {
        "cut.jsonl.gz": packed[:-9],
        "changed.jsonl.gz": packed[:20] + bytes(byte ^ 255 for byte in packed[20:middle]) + packed[middle:],
        "text.parquet": b"x",
        "page.parquet": table[:100] + bytes(len(table[100:2000])) + table[2000:],
    }.items():
        with pytest.raises(InputError, match=rf"{name}: damaged, or cannot be read"):
            list(conversations_of(open_source(_damage(tmp_path / name, content))))


def test_rows_of_several_files_are_named_by_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pq.write_table(pa.Table.from_pylist([S1K, {**S1K, "attempt": None}]), tmp_path / f"{name}.parquet")
    found = [row for row in conversations_of(open_source(str(tmp_path))) if isinstance(row, Unusable)]
    assert [row.id for row in found] == ["row 1", "row 3"]
    assert found[1].detail == f"{tmp_path / 'b.parquet'}, row 1: attempt is no text, but None"


def test_a_table_of_traces_keeps_its_further_columns(tmp_path: Path) -> None:
    trace = Trace(
        id="i",
        question_id="q",
        sample=0,
        question="1 + 1?",
        thinking="count",
        attempt="2",
        teacher="t",
        thinking_tokens=1,
        attempt_tokens=1,
        finish_reason="stop",
    )
    row = {**dataclasses.asdict(trace), "system": "Be brief.", "other": "think"}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "rows.parquet")
    for columns in (None, ColumnsConfig(thinking="other", attempt="attempt", system="system")):
        (found,) = conversations_of(open_source(str(tmp_path / "rows.parquet")), columns)
        assert [found] == read(row, columns=columns)
        assert isinstance(found, Conversation)
        assert found.messages[0] == Message("system", "Be brief.")


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


def test_rows_of_a_store_are_converted_under_the_name_of_their_file(bucket: StorePath, tmp_path: Path) -> None:
    (bucket / "rows.jsonl").write_text(json.dumps(S1K) + "\n")
    convert(f"{bucket}/rows.jsonl?region=us-east-1", tmp_path / "out.parquet")
    assert read_table(tmp_path / "out.parquet", Trace).column("teacher").to_pylist() == ["rows.jsonl"]


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
    assert "none of its rows is a conversation; 1 unusable row(s): 1 malformed" in result.output
    assert not (tmp_path / "out.parquet").exists()


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(S1K) + "\n")
    with pytest.raises(ConfigError, match=r"rows\.jsonl/out\.parquet: cannot be written: "):
        convert(str(tmp_path / "rows.jsonl"), tmp_path / "rows.jsonl" / "out.parquet")
