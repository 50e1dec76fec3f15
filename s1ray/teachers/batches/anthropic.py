"""Anthropic's Message Batches: all requests in one body, and one list of results.

A batch has no metadata, and the list of batches does not say what is in one. Whether a batch of the list is one of ours
shows in its results alone, whose custom ids begin with the record's key. So a batch that was perhaps created is looked
for among those that were made since and have as many requests; as long as one of them is at work, it may be ours.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from s1ray.generation.answers import UnusableError, is_refusal, mapping
from s1ray.teachers.batches.client import GONE, Client, NoAnswerError, StatusError
from s1ray.teachers.batches.provider import (
    Limits,
    Result,
    State,
    UncertainError,
    count,
    encoded,
    message_in,
    pages,
    text_at,
)
from s1ray.teachers.batches.records import Record

SKEW_S = 3600.0
"""Seconds that this machine's clock may be ahead of the provider's."""
COUNTS = ("processing", "succeeded", "errored", "canceled", "expired")


class AnthropicBatches:
    """Batches at `/messages/batches`."""

    limits = Limits(requests=100_000, bytes=256_000_000)

    def __init__(self, client: Client) -> None:
        """Use a client; the caller closes it."""
        self.client = client
        self._keys: dict[str, str] = {}
        """Ended batch -> what its first custom id begins with."""

    def request(self, custom_id: str, path: str, body: Mapping[str, Any]) -> bytes:
        """An element of the list of requests."""
        return encoded({"custom_id": custom_id, "params": body})

    def upload(self, key: str, requests: Sequence[bytes]) -> str | None:
        """Nothing is sent before."""
        return None

    def create(self, record: Record, path: str, requests: Sequence[bytes]) -> str:
        """A batch of all requests."""
        return text_at(self.client.post(f"{path}/batches", b'{"requests":[' + b",".join(requests) + b"]}"), "id")

    def find(self, record: Record, others: Collection[str]) -> str | None:
        """By the results of those that have ended."""
        working = None
        for entry in pages(self.client, "/messages/batches", "after_id", 1000):
            # The newest come first.
            if _created(entry) < record.sent - SKEW_S:
                break
            batch, counts = text_at(entry, "id"), entry.get("request_counts")
            if batch in others or sum(count(counts, name) for name in COUNTS) != len(record.asks):
                continue
            if entry.get("processing_status") != "ended":
                working = working or batch
            elif self._key(batch) == record.key:
                return batch
        if working is not None:
            raise UncertainError(f"batch {working} has as many requests; its custom ids show when it has ended")
        return None

    def state(self, batch: str) -> State:
        """By its processing status."""
        answer = self.client.get(f"/messages/batches/{batch}")
        status, counts = text_at(answer, "processing_status"), answer.get("request_counts")
        words = ", ".join([status, *(f"{count(counts, name):,} {name}" for name in COUNTS if count(counts, name))])
        if status != "ended":
            return State(words)
        # Never the address that the answer gives: the key must go nowhere else.
        return State(words, ended=True, paths=(f"/messages/batches/{batch}/results",))

    def result(self, line: Mapping[str, Any]) -> Result:
        """A message, an error, or neither."""
        custom_id, result = line.get("custom_id"), mapping(line.get("result"), "result")
        if not isinstance(custom_id, str):
            raise UnusableError("no custom_id")
        kind = result.get("type")
        if kind == "succeeded":
            return Result(custom_id, mapping(result.get("message"), "result.message"))
        told = mapping(result.get("error"), "result.error")
        error = told.get("error", told)
        return Result(custom_id, None, f"{kind}: {message_in(error)}" if error else str(kind), is_refusal(error))

    def _key(self, batch: str) -> str:
        if batch not in self._keys:
            unreadable = UncertainError(f"batch {batch} has as many requests; its results cannot be read", lasting=True)
            try:
                line = self.client.first_line(f"/messages/batches/{batch}/results")
                self._keys[batch] = str(json.loads(line)["custom_id"]).partition("-")[0]
            except StatusError as error:
                raise unreadable if error.status in GONE else error from None
            except (ValueError, KeyError, TypeError, RecursionError):
                raise unreadable from None
        return self._keys[batch]


def _created(entry: Mapping[str, Any]) -> float:
    try:
        return datetime.fromisoformat(text_at(entry, "created_at")).timestamp()
    except ValueError:
        raise NoAnswerError("a batch's created_at is not a time", arrived=True) from None
