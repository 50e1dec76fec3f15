"""OpenAI's chat completions, with thinking."""

from __future__ import annotations

from typing import Self

from pydantic import ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from s1ray.serving.http.dialects.base import Dialect, Route, ThinkingRequest
from s1ray.serving.ray_llm import ChatCompletionRequest


class ChatRequest(ThinkingRequest, ChatCompletionRequest):  # type: ignore[misc]  # vLLM is untyped here
    """A chat completion request with our parameters."""

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        messages = data.get("messages", []) if isinstance(data, dict) else []
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            problem = InitErrorDetails(type="list_type", loc=("messages",), input=messages)
            raise ValidationError.from_exception_data("ChatRequest", [problem])
        return handler(data).with_lists_read()

    def with_lists_read(self) -> Self:
        """The request with lists in its messages: pydantic leaves iterators, which cannot be sent to a replica."""
        for index, message in enumerate(self.messages):
            if not isinstance(message, dict):
                # vLLM's union includes a class of another API, which templates cannot render.
                raise _wrong(("messages", index), "is no chat message: it needs a role and a content")
            for field in ("content", "tool_calls"):
                value = message.get(field)
                if value is None or isinstance(value, str | list):
                    continue
                try:
                    message[field] = list(value)
                except ValidationError as error:
                    problem = error.errors(include_url=False, include_context=False)[0]
                    raise _wrong(("messages", index, field, *problem["loc"]), problem["msg"]) from None
        return self


def _wrong(where: tuple[int | str, ...], problem: str) -> ValidationError:
    kind = PydanticCustomError("message", "{problem}", {"problem": problem})
    return ValidationError.from_exception_data("ChatRequest", [InitErrorDetails(type=kind, loc=where, input=None)])


class OpenAIChat(Dialect):
    """`/v1/chat/completions`."""

    routes = (Route("/v1/chat/completions", "chat", ChatRequest),)
