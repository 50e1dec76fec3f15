"""All records at a path, for who needs every one of them: a benchmark must not lose a question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pydantic import JsonValue

from s1ray.config import ConfigError
from s1ray.reading.fields import ABSENT, Template, cell_text, parse_expression
from s1ray.reading.files import find_files
from s1ray.reading.items import Bad, BadFile, Record, Unusable, close_names
from s1ray.reading.pieces import ReadOptions, pieces_of, read_piece
from s1ray.reading.where import Where


def file_records(path: str) -> Iterator[Record]:
    """All records at a path: of a file, a folder or a glob, in any format that a source reads.

    Raises:
        MissingError: nothing is there.
        ConfigError: a file cannot be read, or a record cannot be used; the message names file and line.
    """
    for file in find_files(path).files:
        for piece in pieces_of(file, "utf-8"):
            try:
                for place, item in read_piece(piece, ReadOptions()):
                    if isinstance(item, Bad):
                        raise ConfigError(f"{file.path}: {piece.unit} {place + piece.places_before()}: {item.reason}")
                    yield item
            except BadFile as error:
                raise ConfigError(f"{file.path}: {error}") from None


def matching(records: Iterable[Record], where: Mapping[str, JsonValue], origin: str) -> Iterator[Record]:
    """The records that fulfil `where`.

    Args:
        records: by column.
        where: conditions (`s1ray.reading.where`).
        origin: of the records, for the message.

    Raises:
        ConfigError: no record has such a column, or a cell cannot be compared.
    """
    conditions, rows = Where.of(where), 0
    absent, names = {path.name: path for path in conditions.paths}, set[str]()
    for record in records:
        rows += 1
        if absent:
            absent = {name: path for name, path in absent.items() if path.find(record) is ABSENT}
            names.update(record)
        try:
            if conditions.holds(record):
                yield record
        except Unusable as error:
            raise ConfigError(f"{origin}: {error.bad.reason}") from None
    if rows and absent:
        raise ConfigError(f"{origin}: {close_names(next(iter(absent)), names)}")


def column_of(record: Record, column: str, origin: str) -> object:
    """A record's value in a column, at a place in one, or a template's text.

    Raises:
        ConfigError: it has no such column, or `column` is no expression (`s1ray.reading.fields`).
    """
    try:
        expression = parse_expression(column)
        value = expression.text(record) if isinstance(expression, Template) else expression.find(record)
    except ValueError as error:
        raise ConfigError(f"{origin}: {error}") from None
    except Unusable as error:
        raise ConfigError(f"{origin}: {error.bad.reason}") from None
    if value is ABSENT:
        raise ConfigError(f"{origin}: {close_names(column, record)}")
    return value


def text_of(value: object) -> str | None:
    """A cell as text; of a list the first element.

    Raises:
        ConfigError: it is an object.
    """
    try:
        return cell_text(value, "cell", first=True)
    except Unusable as error:
        raise ConfigError(error.bad.reason) from None
