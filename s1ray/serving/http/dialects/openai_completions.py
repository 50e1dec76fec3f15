"""OpenAI's text completions, with thinking."""

from __future__ import annotations

from s1ray.serving.http.dialects.base import Dialect, Route, ThinkingRequest
from s1ray.serving.ray_llm import CompletionRequest as EngineRequest


class CompletionRequest(ThinkingRequest, EngineRequest):  # type: ignore[misc]  # vLLM is untyped here
    """A completion request with our parameters."""

    max_tokens: int | None = None
    """Without it a completion may use the whole context: OpenAI's default of 16 would end before most thinking does."""


class OpenAICompletions(Dialect):
    """`/v1/completions`."""

    routes = (Route("/v1/completions", "completions", CompletionRequest),)
