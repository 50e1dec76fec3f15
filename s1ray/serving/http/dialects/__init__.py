"""The wire formats that the server speaks: one file each, behind one base."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from s1ray.serving.http.dialects.anthropic import Anthropic
from s1ray.serving.http.dialects.base import Dialect
from s1ray.serving.http.dialects.openai_chat import OpenAIChat
from s1ray.serving.http.dialects.openai_completions import OpenAICompletions
from s1ray.serving.http.dialects.openai_responses import OpenAIResponses
from s1ray.serving.http.dialects.vllm_tokens import VLLMTokens
from s1ray.serving.http.errors import RefusedError

DIALECTS: tuple[Dialect, ...] = (
    OpenAIChat(),
    OpenAICompletions(),
    OpenAIResponses(),
    Anthropic(),
    VLLMTokens(),
)


def error_form(path: str, error: RefusedError) -> Mapping[str, JsonValue]:
    """The body of an error's response, in the dialect of the request's path; OpenAI's form outside of all."""
    for dialect in DIALECTS:
        if any(route.path in path for route in dialect.routes):
            return dialect.error(error)
    return error.body()
