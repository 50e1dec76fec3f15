"""OpenAI's batch API, which other providers speak, too: a file of requests, a batch of it, files of results."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from s1ray.generation.answers import UnusableError, is_refusal, mapping
from s1ray.teachers.batches.client import GONE, Client, StatusError
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

MARK = "s1ray"
"""Name in a batch's metadata: its value is the record's key."""
PREFIX = "/v1"
"""Of a request's path in a batch, whatever the base address is."""
CROWDED = "token_limit_exceeded"
"""Error code of a batch that the account's limit of enqueued tokens leaves no room for."""


class OpenAIBatches:
    """Batches at `/batches`, their files at `/files`."""

    limits = Limits(requests=50_000, bytes=200_000_000)

    def __init__(self, client: Client) -> None:
        """Use a client; the caller closes it."""
        self.client = client

    def request(self, custom_id: str, path: str, body: Mapping[str, Any]) -> bytes:
        """A line of the file."""
        return encoded({"custom_id": custom_id, "method": "POST", "url": PREFIX + path, "body": body})

    def upload(self, key: str, requests: Sequence[bytes]) -> str | None:
        """The file of requests."""
        content = b"".join(request + b"\n" for request in requests)
        return text_at(self.client.upload("/files", f"s1ray-{key}.jsonl", content, purpose="batch"), "id")

    def create(self, record: Record, path: str, requests: Sequence[bytes]) -> str:
        """A batch of the file, marked with the record's key."""
        body = {
            "input_file_id": record.file,
            "endpoint": PREFIX + path,
            "completion_window": "24h",
            "metadata": {MARK: record.key},
        }
        return text_at(self.client.post("/batches", encoded(body)), "id")

    def find(self, record: Record, others: Collection[str]) -> str | None:
        """By its file, which has no other batch, or by its mark.

        Where neither is in the list, the file shows whether the list is that of the account which was asked.
        """
        for entry in pages(self.client, "/batches", "after", 100):
            metadata = entry.get("metadata")
            marked = isinstance(metadata, dict) and metadata.get(MARK) == record.key
            if marked or (record.file is not None and entry.get("input_file_id") == record.file):
                return text_at(entry, "id")
        try:
            self.client.get(f"/files/{record.file}")
        except StatusError as error:
            if error.status not in GONE:
                raise
            raise UncertainError(
                "its requests are not there; the key may be of another account", lasting=True
            ) from None
        return None

    def state(self, batch: str) -> State:
        """By its status; whatever ended it, what was answered is in its files."""
        answer = self.client.get(f"/batches/{batch}")
        status, counts = text_at(answer, "status"), answer.get("request_counts")
        words = (
            f"{status}, {count(counts, 'completed'):,} of {count(counts, 'total'):,} answered, "
            f"{count(counts, 'failed'):,} failed"
        )
        if status == "failed":
            why, codes = _errors(answer.get("errors"))
            return State(words, ended=True, refused=why, crowded=CROWDED in codes)
        files = [answer.get(name) for name in ("output_file_id", "error_file_id")]
        return State(
            words,
            ended=status in ("completed", "expired", "cancelled"),
            paths=tuple(f"/files/{file}/content" for file in files if isinstance(file, str) and file),
            cut=status in ("expired", "cancelled"),
        )

    def result(self, line: Mapping[str, Any]) -> Result:
        """A response with its status, or an error."""
        custom_id = line.get("custom_id")
        if not isinstance(custom_id, str):
            raise UnusableError("no custom_id")
        if line.get("error"):
            return Result(custom_id, None, message_in(line["error"]), is_refusal(line["error"]))
        response = mapping(line.get("response"), "response")
        body = mapping(response.get("body"), "response.body")
        if response.get("status_code") != 200:
            error = body.get("error", body)
            said = f"status {response.get('status_code')}: {message_in(error)}"
            return Result(custom_id, None, said, is_refusal(error))
        return Result(custom_id, body)


def _errors(errors: object) -> tuple[str, set[str]]:
    """What the errors of a failed batch say, and their codes."""
    entries = errors.get("data") if isinstance(errors, dict) else None
    found = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    said = [(f"line {entry['line']}: " if entry.get("line") else "") + message_in(entry) for entry in found]
    more = f", and {len(said) - 3:,} more" if len(said) > 3 else ""
    return "; ".join(said[:3]) + more or "no reason is given", {str(entry.get("code")) for entry in found}
