"""Requests that nobody should send, made by schemathesis from the server's own description of its API.

Half of them are valid by the description and odd, half are not. Those that would end at an unknown model are given a
known one, and few tokens, so that they get as far as an engine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

TIMEOUT_S = 60.0
"""A request that has no answer by then hangs."""

FEW = {"max_tokens": 4, "max_completion_tokens": 4, "n": 2, "best_of": 2, "min_tokens": 2}
"""The most of these that a request is left with: the test is of the door, not of patience."""


@dataclass
class Outcome:
    """What became of the requests."""

    sent: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    """How often each came; 0 is no answer at all."""
    failures: list[str] = field(default_factory=list)
    """Each request that made the server fail, or hang."""
    slowest_s: float = 0.0


def attack(url: str, model: str, requests: int, *, seed: int = 0, threads: int = 4) -> Outcome:
    """Send so many requests, or a few more, and say what became of them.

    Args:
        url: of the server.
        model: a model that it serves.
        requests: how many, over all routes.
        seed: of what they are.
        threads: requests at a time.
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
                outcome.failures.append(f"{request['method']} {request['url']}: {complaint}: {_shown(request)}")
    return outcome


def _cases(description: dict[str, Any], model: str, requests: int, seed: int) -> Iterator[dict[str, Any]]:
    import schemathesis
    from schemathesis import GenerationMode

    found_operations: list[Any] = list(schemathesis.openapi.from_dict(description).get_all_operations())
    operations = [result.ok() for result in found_operations]
    posts = [operation for operation in operations if operation.method == "post"]
    each = -(-requests // (2 * len(posts)))
    for operation in posts:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            yield from _drawn(operation, mode, model, each, seed)


def _drawn(operation: Any, mode: Any, model: str, number: int, seed: int) -> list[dict[str, Any]]:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    found: list[dict[str, Any]] = []

    @seeded(seed)
    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def collect(case: Any) -> None:
        found.append(_request(case, operation.path, model, len(found)))

    collect()
    return found


def _request(case: Any, path: str, model: str, number: int) -> dict[str, Any]:
    """What to send for a case: as it is, or changed so that it reaches a model."""
    body = case.body
    if isinstance(body, dict) and number % 4:
        body = body | {"model": model}
        if path == "/v1/completions":
            body.setdefault("max_tokens", FEW["max_tokens"])
        elif path not in ("/tokenize", "/detokenize"):
            body.setdefault("max_tokens", FEW["max_tokens"])
            body["messages"] = body.get("messages") if number % 2 else [{"role": "user", "content": "1 + 1?"}]
        for name, most in FEW.items():
            if isinstance(body.get(name), int):
                body[name] = min(body[name], most)
    content = body if isinstance(body, bytes) else json.dumps(body, default=repr).encode("utf-8", "surrogatepass")
    return {"method": "POST", "url": path, "content": content, "headers": {"Content-Type": "application/json"}}


def _send(client: httpx.Client, request: dict[str, Any]) -> tuple[dict[str, Any], int, float, str]:
    """Send a request: its status, how long it took, and what is to be complained of."""
    began = time.monotonic()
    try:
        response = client.request(**request)
    except httpx.TimeoutException:
        return request, 0, time.monotonic() - began, "hangs"
    except httpx.HTTPError as error:
        return request, 0, time.monotonic() - began, f"no answer ({type(error).__name__})"
    seconds, complaint = time.monotonic() - began, ""
    if response.status_code >= 500:
        complaint = f"{response.status_code} {response.text[:300]}"
    elif response.status_code == 200 and '"code":500' in response.text.replace(" ", ""):
        complaint = "an internal error within a stream"
    elif response.status_code >= 400 and not response.json()["error"]["message"]:
        complaint = f"{response.status_code} without a message"
    return request, response.status_code, seconds, complaint


def _shown(request: dict[str, Any]) -> str:
    content = request["content"]
    return repr(content if len(content) < 600 else content[:600] + b"...")
