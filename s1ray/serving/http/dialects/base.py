"""What the ingress must know about a wire format, and the fields about thinking that all formats share.

A dialect is one file: its routes, how its requests become the engine's, how the engine's responses and streams become
its own, and how it words errors. The engine's format is OpenAI's as vLLM writes it: responses are its objects, streams
its server-sent events. To add a dialect, add a file to this folder and its class to `DIALECTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, Field, JsonValue, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError
from starlette.responses import Response
from vllm.exceptions import VLLMClientError

from s1ray.serving.http.errors import RefusedError
from s1ray.serving.http.json_values import unsendable
from s1ray.serving.protocol.aliases import DISPLAYS, KEEPS, MAX_TOKENS, SUMMARIES, TYPES
from s1ray.serving.protocol.strategies import STRATEGIES
from s1ray.thinking import ThinkingBudget

T = TypeVar("T")
BodyT = TypeVar("BodyT", bound=BaseModel)

Events = Callable[[Sequence[str]], str]
"""From some events of the engine's stream to what the client gets of them."""


Method = Literal["chat", "completions", "count_tokens", "tokenize", "detokenize"]


@dataclass(frozen=True)
class Route(Generic[BodyT]):
    """One path of a dialect. As it is, it speaks the engine's format; other formats override its methods."""

    path: str
    method: Method
    """The method of the model's server that answers."""
    body: type[BodyT]
    """Of a request."""
    silence: ClassVar[str] = ": keep-alive\n\n"
    """What a stream sends when it has had nothing to say for a while: clients pass over comments."""

    def to_engine(self, body: BodyT) -> BaseModel:
        """The engine's request.

        Raises:
            ValueError, VLLMClientError: a field has no counterpart there, or is wrong.
        """
        return body

    def response(self, body: BodyT, whole: BaseModel) -> Response:
        """The response, from the engine's whole one."""
        return Response(whole.model_dump_json(), media_type="application/json")

    def stream(self, body: BodyT) -> Events:
        """Rewrites a stream. Failures are events of the engine's stream, too: `data: {"error": ...}`."""
        return "".join


class Dialect:
    """One wire format. Errors have OpenAI's form where it has none of its own."""

    routes: ClassVar[Sequence[Route[Any]]]

    def error(self, error: RefusedError) -> Mapping[str, JsonValue]:
        """The body of an error's response."""
        return error.body()


TOKENS = {"type": "integer", "minimum": 0, "maximum": MAX_TOKENS}
THINKING = ThinkingBudget.model_json_schema()
MAX_WAITS = THINKING["properties"]["waits"]["maximum"]
THINKING["properties"] |= {
    "type": {"enum": [*TYPES, None], "description": "Anthropic's and others'; \"disabled\" answers at once."},
    "budget_tokens": TOKENS | {"description": "Anthropic's name of max_tokens; less than the response's max_tokens."},
    "display": {"enum": [*DISPLAYS, None], "description": "Anthropic's; omitted: counted, but not shown."},
    "keep": {"enum": [*KEEPS, None], "description": "Moonshot's: the chat template is asked to keep earlier thinking."},
    "clear_thinking": {"type": ["boolean", "null"], "description": "z.ai's: false is as `keep`."},
    "strategy": {
        "anyOf": [
            {
                "type": "object",
                "additionalProperties": False,
                "minProperties": 1,
                "maxProperties": 1,
                "properties": {name: strategy.model_json_schema() for name, strategy in STRATEGIES.items()},
            },
            {"type": "null"},
        ],
        "description": "A test-time strategy, by its name: several responses, of which one is given.",
    },
}
ANSWER = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"max_tokens": THINKING["properties"]["answer_max_tokens"]},
}
REASONING: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "effort": {"type": "string"},
        "max_tokens": TOKENS,
        "enabled": {"type": "boolean"},
        "exclude": {"type": "boolean"},
        "summary": {"enum": [*SUMMARIES, None]},
        "generate_summary": {"enum": [*SUMMARIES, None]},
    },
}


def _alias(schema: Mapping[str, object], description: str) -> Any:
    """A field that is typed for the API's description only: `read_request` reads it, with the same errors on every
    route.
    """
    arms: Any = {"anyOf": [schema, {"type": "null"}]}
    return Field(default=None, description=description, json_schema_extra=arms)


class ThinkingRequest(BaseModel):
    """Every field about thinking (`s1ray.serving.protocol.budgets` says what they mean); shared by all requests."""

    thinking: Any = _alias(
        {"anyOf": [THINKING, {"const": False}]},
        "How long the response may think; what is left out comes from the server's budgets. False, for completions: "
        "nothing is forced, the client does it.",
    )
    answer: Any = _alias(ANSWER, "Tokens of the answer at most: as `thinking.answer_max_tokens`.")
    reasoning: Any = _alias(REASONING, "OpenRouter's name; `effort` is also OpenAI's.")
    reasoning_effort: Any = _alias(
        {"type": "string"}, "OpenAI's: a name that the server maps to thinking tokens at most; /v1/models lists them."
    )
    think: Any = _alias({"type": ["boolean", "string"]}, "Ollama's: false answers at once; a name is an effort.")
    reasoning_budget: Any = _alias(TOKENS | {"minimum": -1}, "llama.cpp's: as `thinking_token_budget`.")
    thinking_token_budget: Any = _alias(
        TOKENS | {"minimum": -1}, "vLLM's: thinking tokens at most; -1: what the context allows."
    )
    max_tokens_thinking: Any = _alias(
        {"anyOf": [TOKENS, {"const": "auto"}]}, "The s1 harness's: thinking tokens at most."
    )
    min_tokens_thinking: Any = _alias(TOKENS, "The s1 harness's: thinking tokens at least.")
    thinking_n_ignore: Any = _alias(TOKENS | {"maximum": MAX_WAITS}, "The s1 harness's: stops that are suppressed.")
    thinking_n_ignore_str: Any = _alias({"type": "string"}, "The s1 harness's: written in place of a suppressed stop.")

    @model_validator(mode="wrap")
    @classmethod
    def _check_values(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        for where, value, problem in unsendable(data):
            detail = InitErrorDetails(type=PydanticCustomError("unsendable", problem), loc=where, input=value)
            raise ValidationError.from_exception_data(cls.__name__, [detail])
        return reading(lambda: handler(data))


def reading(read: Callable[[], T]) -> T:
    """Read a request. Some of vLLM's own checks fail, with any exception, on fields of a wrong type.

    Raises:
        ValueError, VLLMClientError: the request is wrong.
    """
    try:
        return read()
    except (ValueError, VLLMClientError):
        raise
    except Exception as error:
        raise ValueError(f"cannot be read: {error}") from error
