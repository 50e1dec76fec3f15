"""Hostile requests, which schemathesis generates from the server's OpenAPI description.

Half of them are valid but odd, half are invalid. Most are given a known model and few tokens, so that they reach an
engine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import JsonValue

if TYPE_CHECKING:
    from schemathesis import Case, GenerationMode
    from schemathesis.schemas import APIOperation

    Operation = APIOperation[Any, Any, Any, Any]
    SchemaCase = Case[Any]

TIMEOUT_S = 60.0
"""A request without an answer by then counts as hanging."""

MAX_VALUES = {"max_tokens": 4, "max_completion_tokens": 4, "n": 2, "best_of": 2, "min_tokens": 2}
"""Larger values of these fields are cut, to keep the requests short."""


JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class _Request:
    path: str
    content: bytes


@dataclass
class Outcome:
    """The answers."""

    sent: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    """Number of answers by status; 0: no answer."""
    failures: list[str] = field(default_factory=list)
    """The requests that made the server fail or hang."""
    slowest_s: float = 0.0


def attack(url: str, model: str, requests: int, *, seed: int = 0, threads: int = 4) -> Outcome:
    """Send requests to all POST routes.

    Args:
        url: of the server.
        model: a model that it serves.
        requests: their number, over all routes; rounded up to the same number per route.
        seed: of the requests.
        threads: concurrent requests.
    """
    outcome = Outcome()
    description = httpx.get(f"{url}/openapi.json", timeout=TIMEOUT_S, trust_env=False).json()
    limits = httpx.Limits(max_connections=threads)
    with (
        httpx.Client(base_url=url, timeout=TIMEOUT_S, limits=limits, trust_env=False) as client,
        ThreadPoolExecutor(threads) as pool,
    ):
        cases = _cases(description, model, requests, seed)
        for request, status, seconds, complaint in pool.map(lambda case: _send(client, case), cases):
            outcome.sent += 1
            outcome.statuses[status] = outcome.statuses.get(status, 0) + 1
            outcome.slowest_s = max(outcome.slowest_s, seconds)
            if complaint:
                outcome.failures.append(f"POST {request.path}: {complaint}: {request.content[:600]!r}")
    return outcome


def _cases(description: dict[str, JsonValue], model: str, requests: int, seed: int) -> Iterator[_Request]:
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.core.result import Ok

    posts: list[Operation] = []
    for result in schemathesis.openapi.from_dict(description).get_all_operations():
        assert isinstance(result, Ok), result.err()
        if result.ok().method == "post":
            posts.append(result.ok())
    each = -(-requests // (2 * len(posts)))
    for operation in posts:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            yield from _drawn(operation, mode, model, each, seed)


def _drawn(operation: Operation, mode: GenerationMode, model: str, number: int, seed: int) -> list[_Request]:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    found: list[_Request] = []

    @seeded(seed)
    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def collect(case: SchemaCase) -> None:
        found.append(_request(case, operation.path, model, len(found)))

    collect()
    return found


def _request(case: SchemaCase, path: str, model: str, number: int) -> _Request:
    """The request of a case: every fourth as it is, the others changed so that they reach a model."""
    body = case.body
    if isinstance(body, dict) and number % 4:
        body = body | {"model": model}
        if path not in ("/tokenize", "/detokenize"):
            body.setdefault("max_tokens", MAX_VALUES["max_tokens"])
        if path not in ("/v1/completions", "/tokenize", "/detokenize"):
            body["messages"] = body.get("messages") if number % 2 else [{"role": "user", "content": "1 + 1?"}]
        for name, maximum in MAX_VALUES.items():
            if isinstance(value := body.get(name), int):
                body[name] = min(value, maximum)
    content = body if isinstance(body, bytes) else json.dumps(body, default=repr).encode("utf-8", "surrogatepass")
    return _Request(path, content)


def _send(client: httpx.Client, request: _Request) -> tuple[_Request, int, float, str]:
    """Send a request; returns it with its status, its seconds, and what is wrong with the answer."""
    began = time.monotonic()
    try:
        response = client.post(request.path, content=request.content, headers=JSON)
    except httpx.TimeoutException:
        return request, 0, time.monotonic() - began, "hangs"
    except httpx.HTTPError as error:
        return request, 0, time.monotonic() - began, f"no answer ({type(error).__name__})"
    seconds, complaint = time.monotonic() - began, ""
    if response.status_code >= 500:
        complaint = f"{response.status_code} {response.text[:300]}"
    elif response.status_code == 200 and '"code":500' in response.text.replace(" ", ""):
        complaint = "an internal error in a stream"
    elif response.status_code >= 400 and not response.json()["error"]["message"]:
        complaint = f"{response.status_code} without a message"
    return request, response.status_code, seconds, complaint
