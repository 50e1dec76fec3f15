"""What the providers' batch APIs have in common."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from s1ray.teachers.batches.client import Client, NoAnswerError
from s1ray.teachers.batches.records import Record


@dataclass(frozen=True)
class Limits:
    """Of one batch."""

    requests: int
    bytes: int


@dataclass(frozen=True)
class State:
    """What a provider says of a batch."""

    words: str
    """Its status and counts, for the log."""
    ended: bool = False
    paths: tuple[str, ...] = ()
    """Where the results of an ended batch are."""
    cut: bool = False
    """It ended before all was asked (cancelled, expired): a request without a result was not asked."""
    refused: str | None = None
    """Why nothing of it was asked. None: something was."""
    crowded: bool = False
    """It was refused as others of the account leave no room for it."""


@dataclass(frozen=True)
class Result:
    """What came of one request."""

    custom_id: str
    answer: Mapping[str, Any] | None
    """The response's body. None: there is none."""
    problem: str | None = None
    """Why there is none."""
    refused: bool = False
    """By a filter of the provider's."""


class UncertainError(Exception):
    """Whether a batch exists can not be said; the message says why.

    Attributes:
        lasting: it cannot be said later, either.
    """

    def __init__(self, why: str, *, lasting: bool = False) -> None:
        super().__init__(why)
        self.lasting = lasting


class Provider(Protocol):
    """A batch API."""

    limits: Limits
    client: Client

    def request(self, custom_id: str, path: str, body: Mapping[str, Any]) -> bytes:
        """One request of a batch, as JSON in UTF-8.

        Raises:
            ValueError: the body cannot be written so.
        """

    def upload(self, key: str, requests: Sequence[bytes]) -> str | None:
        """Send what may be sent before the batch is created: nothing is asked or paid by it.

        Returns:
            The id of the file. None: the API wants none.

        Raises:
            StatusError, NoAnswerError: it failed.
        """

    def create(self, record: Record, path: str, requests: Sequence[bytes]) -> str:
        """Create a batch; its id.

        Raises:
            StatusError, NoAnswerError: it failed, or it is not known whether it did.
        """

    def find(self, record: Record, others: Collection[str]) -> str | None:
        """The id of a batch that was perhaps created. None: the provider has none.

        Args:
            record: what is known of it.
            others: ids that are known to be those of other batches.

        Raises:
            UncertainError: there is one that may be it; later it can be told.
            StatusError, NoAnswerError: the provider could not be asked.
        """

    def state(self, batch: str) -> State:
        """How far a batch is.

        Raises:
            StatusError, NoAnswerError: the provider could not be asked.
        """

    def result(self, line: Mapping[str, Any]) -> Result:
        """What a line of the results says.

        Raises:
            UnusableError: it has another form.
        """


def encoded(value: Mapping[str, Any]) -> bytes:
    """An object as JSON in UTF-8, on one line.

    Raises:
        ValueError: it cannot be written so.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def text_at(answer: Mapping[str, Any], name: str) -> str:
    """A field of an answer that must be a text.

    Raises:
        NoAnswerError: it is not.
    """
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise NoAnswerError(f"the answer's {name} is not a text", arrived=True)
    return value


def pages(client: Client, path: str, cursor: str, limit: int) -> Iterator[Mapping[str, Any]]:
    """The objects of a list, page by page.

    Args:
        client: of the API.
        path: of the list.
        cursor: name of the parameter that holds the last id of the page before.
        limit: objects of one page.

    Raises:
        StatusError, NoAnswerError: the list cannot be had whole.
    """
    seen: set[str] = set()
    parameters: dict[str, str | int] = {"limit": limit}
    while True:
        page = client.get(path, **parameters)
        entries = page.get("data")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise NoAnswerError(f"{path} gave no list", arrived=True)
        fresh = [entry for entry in entries if text_at(entry, "id") not in seen]
        yield from fresh
        seen.update(entry["id"] for entry in fresh)
        # A server that knows no cursor gives the same page for ever.
        if not page.get("has_more") or not fresh:
            return
        parameters[cursor] = entries[-1]["id"]


def message_in(error: object) -> str:
    """What an error object says."""
    fields = error if isinstance(error, dict) else {"message": error}
    said = str(fields.get("message") or fields)[:1000]
    code = fields.get("code") or fields.get("type")
    return f"{said} ({code})" if isinstance(code, str) and code not in said else said


def count(counts: object, name: str) -> int:
    """A number of a batch's counts; 0 where there is none."""
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) else 0
