"""The request models of every route: vLLM's, with the fields about thinking.

Imported only where the app is built and in the ingress replicas, because ray.serve.llm imports vLLM.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError
from vllm.entrypoints.anthropic.protocol import AnthropicCountTokensRequest, AnthropicMessagesRequest
from vllm.entrypoints.anthropic.serving import AnthropicServingMessages
from vllm.exceptions import VLLMClientError

from s1ray.serving import ray_llm as api
from s1ray.serving.http.json_values import unsendable
from s1ray.serving.protocol.aliases import ALIASES, DISPLAYS, FIELD, MAX_TOKENS, TYPES
from s1ray.thinking import ThinkingBudget

TOKENS = {"type": "integer", "minimum": 0, "maximum": MAX_TOKENS}
THINKING = ThinkingBudget.model_json_schema()
MAX_WAITS = THINKING["properties"]["waits"]["maximum"]
THINKING["properties"] |= {
    "type": {"enum": [*TYPES, None], "description": 'Anthropic\'s; "disabled" answers at once.'},
    "budget_tokens": TOKENS | {"description": "Anthropic's name of max_tokens; less than the response's max_tokens."},
    "display": {"enum": [*DISPLAYS, None], "description": "Anthropic's; omitted: counted, but not shown."},
}
REASONING = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "effort": {"type": "string"},
        "max_tokens": TOKENS,
        "enabled": {"type": "boolean"},
        "exclude": {"type": "boolean"},
    },
}


def _spelling(schema: dict[str, Any], description: str) -> Any:
    """A field that is typed for the API's schema only. The model's server reads it, so that every route gives the same
    errors.
    """
    return Field(default=None, description=description, json_schema_extra={"anyOf": [schema, {"type": "null"}]})


class ThinkingRequest(BaseModel):
    """Every field about thinking (`s1ray.serving.protocol.budgets` says what they mean); shared by all requests."""

    thinking: Any = _spelling(
        {"anyOf": [THINKING, {"const": False}]},
        "How long the response may think; what is left out comes from the server's budgets. False, for completions: "
        "nothing is forced, the client does it.",
    )
    reasoning: Any = _spelling(REASONING, "OpenRouter's spelling; `effort` also is OpenAI's.")
    reasoning_effort: Any = _spelling(
        {"type": "string"}, "OpenAI's: a name that the server maps to thinking tokens at most; /v1/models lists them."
    )
    thinking_token_budget: Any = _spelling(
        TOKENS | {"minimum": -1}, "vLLM's: thinking tokens at most; -1: what the context allows."
    )
    max_tokens_thinking: Any = _spelling(
        {"anyOf": [TOKENS, {"const": "auto"}]}, "The s1 harness's: thinking tokens at most."
    )
    min_tokens_thinking: Any = _spelling(TOKENS, "The s1 harness's: thinking tokens at least.")
    thinking_n_ignore: Any = _spelling(TOKENS | {"maximum": MAX_WAITS}, "The s1 harness's: stops that are swallowed.")
    thinking_n_ignore_str: Any = _spelling(
        {"type": "string"}, "The s1 harness's: written in place of a swallowed stop."
    )

    @model_validator(mode="wrap")
    @classmethod
    def _check_values(cls, data: Any, validate: Callable[[Any], Any]) -> Any:
        for where, value, problem in unsendable(data):
            detail = InitErrorDetails(type=PydanticCustomError("unsendable", problem), loc=where, input=value)
            raise ValidationError.from_exception_data(cls.__name__, [detail])
        return _read(data, validate)


class ChatRequest(ThinkingRequest, api.ChatCompletionRequest):
    """A chat completion request with our parameters."""

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, data: Any, validate: Callable[[Any], Any]) -> Any:
        messages = data.get("messages", []) if isinstance(data, dict) else []
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            problem = InitErrorDetails(type="list_type", loc=("messages",), input=messages)
            raise ValidationError.from_exception_data("ChatRequest", [problem])
        return _with_contents_read(validate(data))


class CompletionRequest(ThinkingRequest, api.CompletionRequest):
    """A completion request with our parameters."""

    max_tokens: int | None = None
    """Without it a completion may use the whole context: OpenAI's default of 16 would end before most thinking does."""


class MessagesRequest(ThinkingRequest, AnthropicMessagesRequest):
    """A request of Anthropic's Messages API with our parameters."""

    model_config = ConfigDict(extra="allow")

    def to_chat(self) -> ChatRequest:
        """The chat completion that answers it.

        Raises:
            ValueError, VLLMClientError: a field has no counterpart there, or is wrong.
        """
        chat = _to_chat(self)
        # vLLM has made a `reasoning_effort` of it, which a client would not know in an error.
        chat.reasoning_effort = None
        ours = {name for name in self.model_extra or {} if FIELD in name}
        for name in ours.union(ALIASES):
            if (value := getattr(self, name, None)) is not None:
                setattr(chat, name, value)
        if self.output_config is not None:
            chat.output_config = {"effort": self.output_config.effort}
        return chat


class CountTokensRequest(ThinkingRequest, AnthropicCountTokensRequest):
    """A request of Anthropic's token counting. What is about thinking does not change the count."""

    def to_chat(self) -> ChatRequest:
        """The chat completion whose prompt is counted.

        Raises:
            ValueError, VLLMClientError: a field has no counterpart there, or is wrong.
        """
        return _to_chat(self)


def _to_chat(request: AnthropicMessagesRequest | AnthropicCountTokensRequest) -> ChatRequest:
    # Chat templates want a system message to come first.
    convert = AnthropicServingMessages.to_chat_completion_request
    chat = _read(request, lambda request: convert(request, merge_inline_system=True))
    return _with_contents_read(ChatRequest.model_construct(_fields_set=set(chat.model_fields_set), **dict(chat)))


def _with_contents_read(chat: ChatRequest) -> ChatRequest:
    """The request with lists in its messages: pydantic puts off reading some of them until somebody looks."""
    for index, message in enumerate(chat.messages):
        if not isinstance(message, dict):
            # vLLM's union has a class of another API in it, which templates cannot render.
            foreign = PydanticCustomError("message", "is no chat message: it needs a role and a content")
            detail = InitErrorDetails(type=foreign, loc=("messages", index), input=None)
            raise ValidationError.from_exception_data("ChatRequest", [detail])
        for field in ("content", "tool_calls"):
            value = message.get(field)
            if value is None or isinstance(value, str | list):
                continue
            try:
                message[field] = list(value)
            except ValidationError as error:
                problem = error.errors(include_url=False, include_context=False)[0]
                where = ("messages", index, field, *problem["loc"])
                detail = InitErrorDetails(type=PydanticCustomError("content", problem["msg"]), loc=where, input=None)
                raise ValidationError.from_exception_data("ChatRequest", [detail]) from None
    return chat


def _read(data: Any, validate: Callable[[Any], Any]) -> Any:
    """Validate a request. Some of vLLM's own checks stumble, with any exception, over fields of a wrong type."""
    try:
        return validate(data)
    except (ValueError, VLLMClientError):
        raise
    except Exception as error:
        raise ValueError(f"cannot be read: {error}") from error
