"""What a model's replica is told about a request in addition to its body."""

from __future__ import annotations

from dataclasses import dataclass

from s1ray.serving.protocol.resolve import ResolvedThinking
from s1ray.serving.ray_llm import RawRequestInfo

HEADERS = ("x-request-id", "traceparent", "tracestate")
"""The headers that vLLM uses. No others leave the HTTP worker: keys and cookies are among them."""


@dataclass(kw_only=True)
class RequestInfo(RawRequestInfo):  # type: ignore[misc]  # Ray is untyped here
    """Where a request comes from, when it arrived, and what was resolved. The client writes nothing of it."""

    client: str
    """The name of its API key; empty where none are asked for."""
    arrived: float
    """When it arrived, in seconds since the epoch."""
    deadline: float
    """Its place in the queues: the earliest goes first."""
    waited_s: float = 0.0
    """Seconds for which it waited for a place in a replica that answers HTTP itself."""
    sequences: int = 1
    """Responses that it asks for."""
    thinking: ResolvedThinking | None = None
    """None for a request that generates nothing, such as tokenizing."""
