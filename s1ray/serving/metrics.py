"""The server's own metrics, exported through Ray: Prometheus scrapes them at every node as `ray_s1ray_...`.

Replicas count tokens when a response ends; the HTTP workers count requests. Labels are the model and `client`, the name
of the API key (never the key itself).

    s1ray_requests_total{model, client, outcome}             requests; `OUTCOMES` lists the outcomes
    s1ray_thinking_tokens_total{model, client}               thinking tokens
    s1ray_answer_tokens_total{model, client}                 answer tokens
    s1ray_waits_total{model, client}                         suppressed ends of thinking
    s1ray_forced_ends_total{model, client, reason}           thinking that was cut: budget, context, loop, early_exit
    s1ray_strategy_responses_total{model, client, ending}    responses that strategies made: voted, cancelled, ...
    s1ray_time_to_first_token_seconds{model}                 streams only; queueing included
    s1ray_time_to_first_answer_token_seconds{model}          streams only; queueing included
    s1ray_framework_seconds{model, part}                     what is not the engine's: `FrameworkMeter`
    s1ray_queue_depth{model}                                 requests that wait for a replica
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from s1ray.thinking import Accounting

if TYPE_CHECKING:
    from ray.serve.metrics import Counter, Gauge, Histogram

OUTCOMES = {
    "ok": "answered",
    "invalid": "the request is wrong",
    "denied": "no key, or a key without permission",
    "limited": "over one of the key's caps",
    "overloaded": "the queue was full, or no replica was available",
    "late": "a time limit passed",
    "lost": "the replica died",
    "cancelled": "the client disconnected",
    "failed": "the server failed",
}
"""The values of `outcome`."""

SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000]
"""Bucket bounds of the histograms: from immediate answers to the longest thinking."""


def outcome_of(status: int) -> str:
    """The outcome that an HTTP status stands for."""
    if status < 400:
        return "ok"
    by_status = {401: "denied", 403: "denied", 408: "late", 429: "limited", 503: "overloaded", 504: "late"}
    return by_status.get(status, "invalid" if status < 500 else "failed")


@cache
def _counter(name: str, description: str, *labels: str) -> Counter:
    from ray.serve.metrics import Counter

    return Counter(name, description=description, tag_keys=labels)


@cache
def _histogram(name: str, description: str, *labels: str) -> Histogram:
    from ray.serve.metrics import Histogram

    return Histogram(name, description=description, boundaries=SECONDS, tag_keys=labels)


@cache
def _gauge(name: str, description: str, *labels: str) -> Gauge:
    from ray.serve.metrics import Gauge

    return Gauge(name, description=description, tag_keys=labels)


def count_request(model: str, client: str, outcome: str) -> None:
    """Count a finished request."""
    counter = _counter("s1ray_requests_total", "Requests, by outcome.", "model", "client", "outcome")
    counter.inc(1, tags={"model": model, "client": client, "outcome": outcome})


def set_queue_depth(model: str, waiting: int) -> None:
    """Set the number of this process's requests that wait for a replica."""
    gauge = _gauge("s1ray_queue_depth", "Requests that wait for a replica.", "model")
    gauge.set(waiting, tags={"model": model})


class FrameworkMeter:
    """Measures what a request costs besides the engine, in `s1ray_framework_seconds`.

    part="in": from its arrival at the HTTP application until the engine has it, without the time for which it waited
    for a place in a replica that answers HTTP itself; Serve does not say how long it kept one for an HTTP worker, so
    that is included. part="out": from the engine's first output until the first part of the response is made of it.

    Args:
        model: name of the model.
        arrived: time at which the HTTP application received the request, or at which it had its place.
    """

    def __init__(self, model: str, arrived: float) -> None:
        self._model, self._arrived = model, arrived
        self._entered = False

    def entered(self) -> None:
        """The engine has the request; only the first call counts."""
        if not self._entered:
            self._entered = True
            self._observe("in", time.time() - self._arrived)

    def left(self, seconds: float) -> None:
        """The first part of the response has been made, so long after the engine's first output."""
        self._observe("out", seconds)

    def _observe(self, part: str, seconds: float) -> None:
        name, description = "s1ray_framework_seconds", "Seconds of a request that are not the engine's."
        # Ray's histograms refuse 0, and the clocks of two nodes may differ.
        histogram = _histogram(name, description, "model", "part")
        histogram.observe(max(1e-4, seconds), tags={"model": self._model, "part": part})


class ResponseMeter:
    """Measures one response in a model's replica.

    Args:
        model: the model's name.
        client: the name of the API key.
        arrived: when the request arrived, in seconds since the epoch, because another node may have received it. None:
            now.
    """

    def __init__(self, model: str, client: str, arrived: float | None) -> None:
        self._model, self._client = model, client
        self._arrived = arrived if arrived is not None else time.time()
        self._first_seen = self._answer_seen = False

    def tokens(self, *, of_answer: bool) -> None:
        """Note that a stream sent tokens, of the answer or of the thinking. Only the first of each costs anything."""
        if not self._first_seen:
            self._first_seen = True
            self._observe("s1ray_time_to_first_token_seconds", "Seconds to a stream's first token.")
        if of_answer and not self._answer_seen:
            self._answer_seen = True
            description = "Seconds to the first token of a stream's answer."
            self._observe("s1ray_time_to_first_answer_token_seconds", description)

    def finished(self, accounting: Accounting) -> None:
        """Count a choice that is complete, or that the client left."""
        tags = {"model": self._model, "client": self._client}
        for name, number, description in (
            ("s1ray_thinking_tokens_total", accounting.thinking_tokens, "Tokens of thinking."),
            ("s1ray_answer_tokens_total", accounting.answer_tokens, "Tokens of answers."),
            ("s1ray_waits_total", accounting.waits, "Suppressed ends of thinking."),
        ):
            if number:
                _counter(name, description, "model", "client").inc(number, tags=tags)
        if accounting.end_forced is not None:
            counter = _counter("s1ray_forced_ends_total", "Thinking that was cut.", "model", "client", "reason")
            counter.inc(1, tags=tags | {"reason": accounting.end_forced})

    def strategy_ended(self, endings: Iterable[str]) -> None:
        """Count the responses that a strategy made, by what became of them."""
        counter = _counter("s1ray_strategy_responses_total", "Responses of strategies.", "model", "client", "ending")
        for ending in endings:
            counter.inc(1, tags={"model": self._model, "client": self._client, "ending": ending})

    def _observe(self, name: str, description: str) -> None:
        # Ray's histograms refuse 0, and the clocks of two nodes may differ by more than a token takes.
        seconds = max(1e-4, time.time() - self._arrived)
        _histogram(name, description, "model").observe(seconds, tags={"model": self._model})
