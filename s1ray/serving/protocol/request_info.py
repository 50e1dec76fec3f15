"""What a model's replica is told of a request beside its body."""

from __future__ import annotations

from dataclasses import dataclass

from s1ray.serving.ray_llm import RawRequestInfo

HEADERS = ("x-request-id", "traceparent", "tracestate")
"""The headers that vLLM makes use of. No others leave the HTTP worker: keys and cookies are among them."""


@dataclass
class RequestInfo(RawRequestInfo):
    """Where a request comes from, and when. Everything in it is ours, none of it the client's word."""

    client: str = ""
    """The name of its API key."""
    arrived: float | None = None
    """When it came, in seconds since the epoch."""
    deadline: float | None = None
    """Its place in the queues: the earliest goes first."""
    maximum_thinking_tokens: int | None = None
    """The largest budget that its key may ask for."""
