"""`s1ray train convert`: rows of any known kind as one Parquet file of ours.

Rows of one question and one answer become `Trace`s, which every stage reads. If any row has several turns, tools or a
system prompt, all become `ChatRow`s, which training reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from s1ray.config import ConfigError
from s1ray.errors import S1rayError
from s1ray.schemas import ChatRow, Trace, arrow_schema, to_table
from s1ray.storage import location, writing
from s1ray.targets import check_target
from s1ray.training.config import ColumnsConfig
from s1ray.training.data.conversations import Conversation, Message
from s1ray.training.data.examples import Unusable, UnusableRows, explain
from s1ray.training.data.sources import BATCH, Source, conversations_of, open_source


@dataclass(frozen=True)
class Converted:
    """What a conversion wrote."""

    rows: int
    kind: str
    """"Trace" or "ChatRow"."""
    unusable: UnusableRows


def convert(source: str, output: Path, columns: ColumnsConfig | None = None) -> Converted:
    """Read rows of any known kind, and write them as Parquet, whole or not at all.

    Args:
        source: as a config's `traces`.
        columns: where they have names of their own.

    Raises:
        S1rayError: the source cannot be read, no row of it is a conversation, or the output cannot be written.
    """
    import pyarrow.parquet as pq

    if output.suffix != ".parquet":
        raise ConfigError(f"{output}: must end in .parquet")
    check_target(output, [source])
    opened, unusable, rows = open_source(source), UnusableRows(), 0
    single = all(is_single(row) for row in _usable(opened, columns, UnusableRows()))
    kind = Trace if single else ChatRow
    try:
        with writing(output) as temporary, pq.ParquetWriter(temporary, arrow_schema(kind)) as writer:
            conversations = _usable(opened, columns, unusable)
            while batch := list(islice(conversations, BATCH)):
                made = [to_trace(row, location(source).name) if single else to_chat(row) for row in batch]
                writer.write_table(to_table(made, kind))
                rows += len(batch)
            if not rows:
                raise ConfigError(f"{source}: none of its rows is a conversation; {explain(unusable)}")
    except S1rayError:
        raise
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written: {error.strerror or error}") from error
    return Converted(rows, kind.__name__, unusable)


def is_single(conversation: Conversation) -> bool:
    """Whether it is one question and one answer, and nothing else."""
    roles = [message.role for message in conversation.messages]
    answer = conversation.messages[-1]
    return roles == ["user", "assistant"] and not conversation.tools and not answer.tool_calls and answer.trained


def to_trace(conversation: Conversation, teacher: str) -> Trace:
    """A conversation of one question. Its tokens are not counted: 0."""
    question, answer = conversation.messages
    return Trace(
        id=conversation.id,
        question_id=conversation.group,
        sample=0,
        question=question.content,
        thinking=answer.thinking,
        attempt=answer.content,
        teacher=teacher,
        thinking_tokens=0,
        attempt_tokens=0,
        finish_reason="length" if conversation.cut else "stop",
    )


def to_chat(conversation: Conversation) -> ChatRow:
    """Any conversation."""
    return ChatRow(
        id=conversation.id,
        question_id=conversation.group,
        messages=json.dumps([_as_data(message) for message in conversation.messages], ensure_ascii=False),
        tools=json.dumps(conversation.tools, ensure_ascii=False) if conversation.tools else None,
        finish_reason="length" if conversation.cut else "stop",
    )


def _usable(source: Source, columns: ColumnsConfig | None, unusable: UnusableRows) -> Iterator[Conversation]:
    for row in conversations_of(source, columns):
        if isinstance(row, Unusable):
            unusable.add(row)
        else:
            yield row


def _as_data(message: Message) -> dict[str, object]:
    data: dict[str, object] = {"role": message.role, "content": message.content, **message.others}
    if message.thinking:
        data["reasoning_content"] = message.thinking
    if message.tool_calls:
        data["tool_calls"] = list(message.tool_calls)
    if not message.trained:
        data["weight"] = 0
    return data
