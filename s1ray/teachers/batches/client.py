"""Plain calls to a batch API, one attempt each: what a failure means depends on the call, so callers decide."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from s1ray.generation.answers import MAX_BODY, UnusableError, decode
from s1ray.generation.problems import Problem, unsuccessful
from s1ray.secrets import Redaction
from s1ray.storage import Location, writing

GONE = frozenset({404, 410})
"""Statuses that say that there is nothing, or nothing for this key."""
MAX_PAUSE = 3600.0
"""Seconds of a pause that the server asks for."""
MAX_JSON = 16 << 20
"""Bytes of a JSON object, which is no list of results, that are read."""
TIMEOUT = httpx.Timeout(300, connect=30)
"""Seconds without a byte."""


class NoAnswerError(Exception):
    """No answer came, or none that can be read.

    Attributes:
        arrived: whether the request may have arrived.
        pause: as that of a `StatusError`.
    """

    pause = 0.0

    def __init__(self, why: str, *, arrived: bool) -> None:
        super().__init__(why)
        self.arrived = arrived


class StatusError(Exception):
    """The server answered with a status that is no success.

    Attributes:
        status: the HTTP status.
        pause: seconds that the server asks to wait, `MAX_PAUSE` at most.
        passing: the same call may succeed later.
    """

    def __init__(self, status: int, problem: Problem, words: str) -> None:
        super().__init__(words)
        self.status, self.pause, self.passing = status, min(problem.wait or 0.0, MAX_PAUSE), problem.transient


class Client:
    """Calls to one address; `close` closes the connections.

    Attributes:
        base_url: the address, without a slash at its end.
        redaction: of the key.
    """

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        api_key: str | None,
    ) -> None:
        """Connect at the first call.

        Args:
            base_url: the address with its `/v1`.
            headers: of every call.
            api_key: is kept out of messages and answers.
        """
        self.base_url = base_url.rstrip("/")
        self.redaction = Redaction(api_key)
        self._client = httpx.Client(headers=dict(headers), timeout=TIMEOUT)

    def get(self, path: str, **parameters: str | int) -> dict[str, Any]:
        """The JSON object at a path.

        Raises:
            StatusError, NoAnswerError: there is none.
        """
        return self._json("GET", path, params=parameters)

    def post(self, path: str, body: bytes) -> dict[str, Any]:
        """What a POST of JSON gives.

        Raises:
            StatusError, NoAnswerError: it failed; in some cases it may have been carried out all the same.
        """
        return self._json("POST", path, content=body, headers={"Content-Type": "application/json"})

    def upload(self, path: str, name: str, content: bytes, **fields: str) -> dict[str, Any]:
        """What the upload of a file gives.

        Raises:
            StatusError, NoAnswerError: it failed.
        """
        return self._json("POST", path, files={"file": (name, content, "application/jsonl")}, data=fields)

    def download(self, paths: tuple[str, ...], target: Location) -> None:
        """Write what is at some paths, one after the other, to a file, whole or not at all.

        Raises:
            StatusError, NoAnswerError: it could not be had.
            OSError: it cannot be written.
        """
        with writing(target) as temporary, temporary.open("wb") as stream:
            for path in paths:
                with self._stream("GET", path) as response:
                    for part in response.iter_bytes():
                        stream.write(part)
                stream.write(b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def first_line(self, path: str) -> bytes:
        """The first line of what is at a path.

        Raises:
            StatusError, NoAnswerError: it could not be had.
        """
        line = b""
        with self._stream("GET", path) as response:
            for part in response.iter_bytes():
                line += part
                if b"\n" in line or len(line) > MAX_BODY:
                    break
        return line.partition(b"\n")[0]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _json(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        body = b""
        with self._stream(method, path, **content) as response:
            for part in response.iter_bytes():
                body += part
                if len(body) > MAX_JSON:
                    break
        try:
            return decode(self.redaction.body(body))
        except UnusableError as error:
            raise NoAnswerError(self.redaction.message(str(error)), arrived=True) from None

    @contextmanager
    def _stream(self, method: str, path: str, **content: Any) -> Iterator[httpx.Response]:
        try:
            with self._client.stream(method, f"{self.base_url}{path}", **content) as response:
                if not 200 <= response.status_code < 300:
                    problem = unsuccessful(response.status_code, response.headers, self.redaction.body(response.read()))
                    raise StatusError(response.status_code, problem, self.redaction.message(problem.why))
                yield response
        except httpx.RequestError as error:
            arrived = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise NoAnswerError(self.redaction.message(f"{type(error).__name__}: {error}"), arrived=arrived) from None
