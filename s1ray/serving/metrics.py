"""What the server counts, with Ray's metrics: Prometheus finds them at every node under Ray's prefix (`ray_s1ray_...`).

Counted where the accounting happens, in the model's replicas, at the end of a response, and in the HTTP workers, where
every request passes. The labels are the model, and `client`: the name of the API key, never the key.

    s1ray_requests_total{model, client, outcome}             by the HTTP workers; `OUTCOMES` says what there is
    s1ray_thinking_tokens_total{model, client}               tokens of thinking
    s1ray_answer_tokens_total{model, client}                 tokens of answers
    s1ray_waits_total{model, client}                         stops that were swallowed
    s1ray_forced_ends_total{model, client, reason}           thinking that was cut: budget, context, loop
    s1ray_time_to_first_token_seconds{model}                 streams only; the time in the queue included
    s1ray_time_to_first_answer_token_seconds{model}          streams only; the time in the queue included
    s1ray_queue_depth{model}                                 requests that wait for a place in a replica
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

from s1ray.thinking import Accounting

OUTCOMES = {
    "ok": "answered",
    "invalid": "the request was at fault",
    "denied": "no key, or not with this key",
    "limited": "more than the key may have now",
    "overloaded": "the queue was full, or no replica was there",
    "late": "a limit of time had passed",
    "lost": "the replica died",
    "cancelled": "the client left",
    "failed": "the server failed",
}
"""The values of `outcome`."""

SECONDS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000]
"""Bounds of the histograms: from an answer at once to the longest thinking."""


def outcome_of(status: int) -> str:
    """The outcome that a response's status tells of."""
    if status < 400:
        return "ok"
    by_status = {401: "denied", 403: "denied", 408: "late", 429: "limited", 503: "overloaded", 504: "late"}
    return by_status.get(status, "invalid" if status < 500 else "failed")


@cache
def _counter(name: str, description: str, *labels: str) -> Any:
    from ray.serve.metrics import Counter

    return Counter(name, description=description, tag_keys=labels)


@cache
def _histogram(name: str, description: str, *labels: str) -> Any:
    from ray.serve.metrics import Histogram

    return Histogram(name, description=description, boundaries=SECONDS, tag_keys=labels)


@cache
def _gauge(name: str, description: str, *labels: str) -> Any:
    from ray.serve.metrics import Gauge

    return Gauge(name, description=description, tag_keys=labels)


def count_request(model: str, client: str, outcome: str) -> None:
    """One request is over."""
    counter = _counter("s1ray_requests_total", "Requests, by outcome.", "model", "client", "outcome")
    counter.inc(1, tags={"model": model, "client": client, "outcome": outcome})


def set_queue_depth(model: str, waiting: int) -> None:
    """So many requests of this process wait for a place in a replica."""
    _gauge("s1ray_queue_depth", "Requests that wait for a place in a replica.", "model").set(
        waiting, tags={"model": model}
    )


class ResponseMeter:
    """Measures one response in the model's replica.

    Args:
        model: the model's name.
        client: the name of the API key.
        arrived: when the request came, in seconds since the epoch: it may have come to another node.
    """

    def __init__(self, model: str, client: str, arrived: float | None) -> None:
        self._model, self._client = model, client
        self._arrived = arrived if arrived is not None else time.time()
        self._spoke = self._answered = False

    def spoke(self, *, answered: bool) -> None:
        """A stream gives tokens; `answered`: of the answer. Cheap but for the first of each."""
        if not self._spoke:
            self._spoke = True
            self._observe("s1ray_time_to_first_token_seconds", "Seconds to a stream's first token.")
        if answered and not self._answered:
            self._answered = True
            description = "Seconds to the first token of a stream's answer."
            self._observe("s1ray_time_to_first_answer_token_seconds", description)

    def finished(self, accounting: Accounting) -> None:
        """One choice is over, or the client left it."""
        tags = {"model": self._model, "client": self._client}
        for name, number, description in (
            ("s1ray_thinking_tokens_total", accounting.thinking_tokens, "Tokens of thinking."),
            ("s1ray_answer_tokens_total", accounting.answer_tokens, "Tokens of answers."),
            ("s1ray_waits_total", accounting.waits, "Stops that were swallowed."),
        ):
            if number:
                _counter(name, description, "model", "client").inc(number, tags=tags)
        if accounting.end_forced is not None:
            counter = _counter("s1ray_forced_ends_total", "Thinking that was cut.", "model", "client", "reason")
            counter.inc(1, tags=tags | {"reason": accounting.end_forced})

    def _observe(self, name: str, description: str) -> None:
        # Ray's histograms refuse 0; clocks of two nodes may differ by more than a token takes.
        seconds = max(1e-4, time.time() - self._arrived)
        _histogram(name, description, "model").observe(seconds, tags={"model": self._model})
