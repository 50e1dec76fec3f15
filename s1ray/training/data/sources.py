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
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s1ray.config import ConfigError
from s1ray.errors import InputError, MissingError
from s1ray.schemas import MANIFEST, Trace, table_files, visible_files
from s1ray.storage import Location, exists, location, readable
from s1ray.training.config import ColumnsConfig, TrainingConfig
from s1ray.training.data.conversations import Conversation
from s1ray.training.data.examples import Unusable
from s1ray.training.data.layouts import MalformedError, conversation_of, recognise

if TYPE_CHECKING:
    import datasets

BATCH = 256
"""Rows that are in memory at once."""
JSON_LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
DATA = re.compile(r"\.(jsonl?|ndjson|csv|tsv|arrow|parquet)(\.(gz|bz2|xz|zst|zip))?$", re.IGNORECASE)
"""How files of rows end, read or not."""
ABOUT_DATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", MANIFEST)
"""Files that lie beside rows and have none."""
KINDS = "rows are read from Parquet (.parquet) and JSON Lines (.jsonl, .ndjson, also with .gz), one object a line"
HUB = re.compile(r"(?P<name>[\w-][\w.-]*/[\w.-]+?)(@(?P<revision>[\w./-]+))?(:(?P<split>[\w.-]+))?")

UNNAMED = ("id", "question_id", "question", "system", "tools", "functions", "finish_reason", "label")
"""Columns that are read under their own names although the config names others."""


class Record(dict[str, Any]):
    """A row.

    Attributes:
        place: the file and the line or row, where the row's number does not say it.
    """

    place = ""


Records = Iterable[Mapping[str, Any] | MalformedError]
"""Rows, and what is none."""


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
        files = _files(location(traces))
        if _is_json_lines(files[0]):
            return Source(traces, None, lambda: _json_lines(files))
        return Source(traces, _count(files), lambda: _tables(files))
    data = load_hub(found["name"], split=found["split"], revision=found["revision"])
    return Source(traces, len(data), lambda: itertools.chain.from_iterable(_slices(data)))


def check_there(traces: str) -> re.Match[str] | None:
    """Look whether rows can be there, without reading them or asking the Hub.

    Returns:
        The parts of a data set's name on the Hub; None for files.

    Raises:
        MissingError: there is no such file, no file of rows in the folder, and it is no name of a data set.
        InputError: it is a file of another kind, or a folder of several kinds.
    """
    if exists(traces):
        _files(location(traces))
        return None
    if (found := _hub_id(traces)) is None:
        raise MissingError(
            f"{traces}: no such file or folder; give a Parquet or JSON Lines file, a folder of them, or a data set of "
            "the Hugging Face Hub (org/name:split)"
        )
    return found


def is_on_hub(traces: str) -> bool:
    """Whether the rows come from the Hugging Face Hub rather than from files."""
    return not exists(traces) and _hub_id(traces) is not None


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
    have = {column for record in begin if isinstance(record, Mapping) for column in record}
    if not have and isinstance(begin[0], MalformedError):
        raise InputError(f"{begin[0]}; {KINDS}")
    named = {} if columns is None else columns.model_dump(exclude_none=True)
    # Names can hold what cannot be printed.
    there = [column.encode(errors="backslashreplace").decode() for column in have]
    if missing := [f"{ours}: {theirs}" for ours, theirs in named.items() if theirs not in have]:
        raise ConfigError(f"{source.name}: columns.{missing[0]}: there is none, only {', '.join(sorted(there))}")
    reader = recognise(_known(dict.fromkeys(have), named), source.name, there, named)
    asked: collections.Counter[str] = collections.Counter()
    seen: set[str] = set()

    def number(group: str) -> int:
        asked[group] += 1
        return asked[group] - 1

    for index, found in enumerate(itertools.chain(begin, records)):
        if isinstance(found, MalformedError):
            yield Unusable(f"row {index}", "malformed", str(found))
            continue
        record = _known(found, named)
        try:
            conversation = conversation_of(record, reader, number)
        except (MalformedError, RecursionError) as error:
            why = str(error) if isinstance(error, MalformedError) else "nested too deeply"
            name = _name(record)
            place = f"{found.place}: " if name is None and isinstance(found, Record) and found.place else ""
            yield Unusable(name or f"row {index}", "malformed", place + why)
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
    import pyarrow as pa

    try:
        for batch in data.with_format("arrow").iter(BATCH):
            yield [_pruned_columns(row) for row in batch.to_pylist()]
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"the Hugging Face Hub's data set is damaged in its cache, or cannot be read: {error}; delete it there"
        ) from error


def _hub_id(traces: str) -> re.Match[str] | None:
    # A path that begins with a folder that is here, or ends like a file, is a path, misspelled.
    is_path = os.path.isdir(traces.split("/")[0]) or DATA.search(traces)
    return None if is_path else HUB.fullmatch(traces)


def _files(path: Location) -> list[Location]:
    """The files of rows at a path, which are of one kind."""
    if path.is_file():
        if _is_of_other_kind(path):
            raise InputError(f"{path}: {KINDS}")
        return [path]
    tables, everything = visible_files(path, ".parquet"), visible_files(path)
    if tables and (path / MANIFEST).is_file():
        return table_files(path, Trace)
    lines = [file for file in everything if _is_json_lines(file)]
    others = [file for file in everything if _is_of_other_kind(file)]
    kinds = [files[0] for files in (tables, lines, others) if files]
    if len(kinds) > 1:
        raise InputError(
            f"{path}: holds rows of several kinds, {kinds[0]} and {kinds[1]}; give one of the files, or a folder of "
            "one kind"
        )
    if others:
        raise InputError(f"{others[0]}: {KINDS}")
    if not kinds:
        raise MissingError(f"{path}: no file of rows here; {KINDS}")
    return tables or lines


def _is_json_lines(file: Location) -> bool:
    return file.name.lower().endswith(JSON_LINES)


def _is_of_other_kind(file: Location) -> bool:
    """Whether it looks like a file of rows that is neither Parquet nor JSON Lines."""
    found = DATA.search(file.name)
    is_read = _is_json_lines(file) or (found is not None and found[0].lower() == ".parquet")
    return found is not None and not is_read and file.name not in ABOUT_DATA


def _json_lines(files: Sequence[Location]) -> Records:
    for file in files:
        try:
            with gzip.open(readable(file), "rb") if file.name.lower().endswith(".gz") else file.open("rb") as stream:
                for number, line in enumerate(stream, 1):
                    if line.strip():
                        yield _json_record(line, f"{file}, line {number}")
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{file}: damaged, or cannot be read: {error}") from error


def _json_record(line: bytes, where: str) -> Record | MalformedError:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        return MalformedError(f"{where}: no JSON ({error})")
    if not isinstance(record, dict):
        return MalformedError(f"{where}: a {type(record).__name__}, not an object with columns")
    found = Record(record)
    found.place = where
    return found


def _tables(files: Sequence[Location]) -> Records:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in files:
        number = 0
        try:
            # Mapped and not buffered ahead: a file may be one row group of several gigabytes.
            file = pq.ParquetFile(readable(name), memory_map=True, pre_buffer=False)
            for batch in file.iter_batches(BATCH):
                for row in batch.to_pylist():
                    found = Record(_pruned_columns(row))
                    found.place = f"{name}, row {number}" if len(files) > 1 else ""
                    number += 1
                    yield found
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _damaged(name, error) from error


def _count(files: Sequence[Location]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    total = 0
    for file in files:
        try:
            total += pq.read_metadata(readable(file)).num_rows
        except (pa.ArrowException, OSError) as error:
            raise _damaged(file, error) from error
    return total


def _damaged(file: Location, error: Exception) -> InputError:
    return InputError(f"{file}: damaged, or cannot be read as Parquet: {error}; {KINDS}")


def _pruned_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a table, without the nulls that tables put where only other rows have a key."""
    return {column: _pruned(value) for column, value in row.items()}


def _pruned(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _pruned(entry) for key, entry in value.items() if entry is not None}
    return [_pruned(entry) for entry in value] if isinstance(value, list) else value


def _name(record: Mapping[str, Any]) -> str | None:
    """The id of a row that is no conversation, where it has one that can be written."""
    name = str(record.get("id") or "")
    return name if name and not any("\ud800" <= character <= "\udfff" for character in name) else None


def _known(record: Mapping[str, Any], named: Mapping[str, str]) -> Mapping[str, Any]:
    """A record under the names that are known; once some are given, little is guessed of the others."""
    if not named:
        return record
    kept = {name: record[name] for name in UNNAMED if name in record}
    return kept | {ours: record.get(theirs) for ours, theirs in named.items()}
