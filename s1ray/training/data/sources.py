"""The rows of a run, from wherever they lie, read a batch at a time: never the whole file.

`traces` of a config is a Parquet file, a JSON Lines file (.jsonl, .jsonl.gz), a folder of either, or a data set of the
Hugging Face Hub ("org/name", "org/name:split", "org/name@revision:split"). `layouts` says what the rows may look like.
"""

from __future__ import annotations

import collections
import gzip
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1ray.config import ConfigError
from s1ray.errors import InputError, MissingError
from s1ray.schemas import Trace, conform, table_files
from s1ray.training.config import ColumnsConfig, TrainingConfig
from s1ray.training.data.conversations import Conversation
from s1ray.training.data.examples import Unusable
from s1ray.training.data.layouts import MalformedError, conversation_of, recognise

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

BATCH = 256
"""Rows that are in memory at once."""
JSON_LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
HUB = re.compile(r"(?P<name>[\w-][\w.-]*/[\w.-]+?)(@(?P<revision>[\w./-]+))?(:(?P<split>[\w.-]+))?")

UNNAMED = ("id", "question_id", "question", "system", "tools", "finish_reason")
"""Columns that are read under their own names although the config names others."""

Records = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Source:
    """Rows that can be read."""

    name: str
    rows: int | None
    """None: not known before they are read."""
    read: Callable[[], Records]


def open_source(traces: str) -> Source:
    """The rows that a config's `traces` names.

    Raises:
        MissingError: there are none.
        InputError: it is nothing that can be read.
    """
    if (found := check_there(traces)) is None:
        files = _json_files(Path(traces))
        if files:
            return Source(traces, None, lambda: _json_lines(files))
        tables = table_files(traces, Trace)
        return Source(traces, _count(tables, traces), lambda: _tables(tables, traces))
    data = load_hub(found["name"], split=found["split"], revision=found["revision"])
    return Source(traces, len(data), lambda: itertools.chain.from_iterable(_slices(data)))


def check_there(traces: str) -> re.Match[str] | None:
    """Look whether rows can be there, without reading them or asking the Hub.

    Returns:
        The parts of a data set's name on the Hub; None for files.

    Raises:
        MissingError: there is no such file, no file of rows in the folder, and it is no name of a data set.
    """
    if os.path.exists(traces):
        if not _json_files(Path(traces)):
            table_files(traces, Trace)
        return None
    if (found := _hub_id(traces)) is None:
        raise MissingError(
            f"{traces}: no such file or folder; give a Parquet or JSON Lines file, a folder of them, or a data set of "
            "the Hugging Face Hub (org/name:split)"
        )
    return found


def is_on_hub(traces: str) -> bool:
    """Whether the rows come from the Hugging Face Hub rather than from files."""
    return not os.path.exists(traces) and _hub_id(traces) is not None


def read_conversations(config: TrainingConfig) -> Iterator[Conversation | Unusable]:
    """The rows of a run, in order.

    Raises:
        MissingError: nothing is there.
        InputError: it cannot be read.
        ConfigError: its columns are not known, or an id occurs twice.
    """
    return conversations_of(open_source(config.traces), config.columns)


def conversations_of(source: Source, columns: ColumnsConfig | None = None) -> Iterator[Conversation | Unusable]:
    """The rows of a source as conversations, in order; those that are none as `Unusable`.

    Raises:
        InputError: the source cannot be read.
        ConfigError: its columns are not known, or an id occurs twice.
    """
    records = iter(source.read())
    begin = list(itertools.islice(records, BATCH))
    if not begin:
        raise InputError(f"{source.name}: has no rows")
    have = {column for record in begin for column in record}
    named = {} if columns is None else columns.model_dump(exclude_none=True)
    if missing := [f"{ours}: {theirs}" for ours, theirs in named.items() if theirs not in have]:
        raise ConfigError(f"{source.name}: columns.{missing[0]}: there is none, only {', '.join(sorted(have))}")
    reader = recognise(_known(dict.fromkeys(have), named), source.name)
    asked: collections.Counter[str] = collections.Counter()
    seen: set[str] = set()

    def number(group: str) -> int:
        asked[group] += 1
        return asked[group] - 1

    for index, found in enumerate(itertools.chain(begin, records)):
        record = _known(found, named)
        try:
            conversation = conversation_of(record, reader, number)
        except MalformedError as error:
            yield Unusable(str(record.get("id") or f"row {index}"), "malformed", str(error))
            continue
        if conversation.id in seen:
            raise ConfigError(
                f"{source.name}: id {conversation.id!r} occurs twice; every trace needs an id of its own (columns.id "
                "names another column)"
            )
        seen.add(conversation.id)
        yield conversation


def read_questions(config: TrainingConfig) -> Iterator[str]:
    """What the users of the conversations say."""
    for conversation in read_conversations(config):
        if isinstance(conversation, Conversation):
            yield from (message.content for message in conversation.messages if message.role == "user")


def load_hub(name: str, *, split: str | None, revision: str | None = None) -> datasets.Dataset:
    """A data set of the Hugging Face Hub, mapped into memory from its cache.

    Args:
        split: None: its only one, or else "train".

    Raises:
        InputError: it cannot be loaded, or has no such split.
    """
    import datasets

    try:
        found = datasets.load_dataset(name, revision=revision)
    except Exception as error:
        # The library raises errors of its own, of the Hub's client, and of the readers of the files.
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"{name}: no such file or folder here, and the Hugging Face Hub gives no data set of that name ({said[0]})"
        ) from error
    wanted = split or (next(iter(found)) if len(found) == 1 else "train")
    if wanted not in found:
        raise InputError(f"{name}: has no split {wanted!r}, only {', '.join(found)}; write {name}:{next(iter(found))}")
    data: datasets.Dataset = found[wanted]
    return data


def _slices(data: datasets.Dataset) -> Iterator[list[dict[str, Any]]]:
    for batch in data.with_format("arrow").iter(BATCH):
        yield batch.to_pylist()


def _hub_id(traces: str) -> re.Match[str] | None:
    # A path that begins with a folder that is here, or ends like a file, is a path, misspelled.
    is_path = os.path.isdir(traces.split("/")[0]) or traces.endswith((".parquet", ".json", *JSON_LINES))
    return None if is_path else HUB.fullmatch(traces)


def _json_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.name.endswith(JSON_LINES) else []
    if any(path.rglob("*.parquet")):
        return []
    return sorted(f for f in path.rglob("*") if f.name.endswith(JSON_LINES) and not f.name.startswith("."))


def _json_lines(files: Sequence[Path]) -> Records:
    for file in files:
        try:
            with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
                for number, line in enumerate(stream, 1):
                    if line.strip():
                        yield _json_record(line, f"{file}, line {number}")
        except (OSError, EOFError) as error:
            raise InputError(f"{file}: cannot be read: {error}") from error


def _json_record(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: no JSON ({error})") from None
    if not isinstance(record, dict):
        raise InputError(f"{where}: a {type(record).__name__}, not an object with columns")
    return record


def _tables(files: Sequence[Path], path: str) -> Records:
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = 0
    for name in files:
        try:
            # Mapped and not buffered ahead: a file may be one row group of several gigabytes.
            file = pq.ParquetFile(name, memory_map=True, pre_buffer=False)
            for batch in file.iter_batches(BATCH):
                yield from _checked(pa.Table.from_batches([batch]), path, first).to_pylist()
                first += len(batch)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(f"{path}: cannot be read as Parquet: {error}") from error


def _checked(table: pa.Table, path: str, first_row: int) -> pa.Table:
    """Our own traces have types that can be checked."""
    needed = {field.name for field in fields(Trace) if field.default is MISSING}
    return conform(table, Trace, path, first_row=first_row) if needed <= set(table.column_names) else table


def _count(files: Sequence[Path], path: str) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return sum(pq.read_metadata(file).num_rows for file in files)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from error


def _known(record: Mapping[str, Any], named: Mapping[str, str]) -> Mapping[str, Any]:
    """A record under the names that are known; once some are given, little is guessed of the others."""
    if not named:
        return record
    kept = {name: record[name] for name in UNNAMED if name in record}
    return kept | {ours: record.get(theirs) for ours, theirs in named.items()}
