"""Teachers that are language models: what they have in common, and those on vLLM engines in this cluster.

Those behind an API are in `endpoints`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

from pydantic import Field, JsonValue, field_validator

from s1ray.config import ConfigError, PlainText
from s1ray.errors import InputError
from s1ray.generation.base import Call, GenerationError, GenerationRequest, Generator, OnCall, Usage, request_seed
from s1ray.generation.blocking import BlockingGenerator
from s1ray.generation.engine import check_engine, engine_actor_options, engine_identity, requests_in_flight
from s1ray.generation.wires.base import MAX_TOKENS
from s1ray.models import EngineConfig
from s1ray.schemas import Completion
from s1ray.storage import Location
from s1ray.teachers.base import Ask, Placement, Response, RunningTeacher, Teacher
from s1ray.thinking.budget import ThinkingBudget

TEMPLATE_TOKENS = 512
"""Tokens that a chat template and a provider's own system prompt add to a prompt, at most."""


class LanguageModelTeacher(Teacher):
    """What teachers that are language models have in common."""

    seeded: ClassVar[bool] = True
    """Whether a request can say the seed of its sampling."""

    prompt: PlainText = "{question}"
    """The user's message. s1 asks the question and nothing else."""
    thinking: ThinkingBudget | None = None
    """How long to think. None: the teacher decides."""
    temperature: float | None = Field(default=0.6, ge=0)
    """0: greedy. None: the provider's default; of a vLLM engine, 1."""
    top_p: float | None = Field(default=0.95, gt=0, le=1)
    """None: the provider's default; of a vLLM engine, 1."""
    top_k: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    """None: all tokens, or the provider's default."""
    max_tokens: int | None = Field(default=32768, ge=1, le=MAX_TOKENS)
    """Tokens of a response, thinking included. None: what the context allows."""

    @field_validator("prompt")
    @classmethod
    def _has_the_question(cls, prompt: str) -> str:
        if "{question}" not in prompt:
            raise ValueError('must contain "{question}", the place of the question')
        return prompt

    @property
    def max_response_tokens(self) -> int | None:
        """The configured maximum."""
        return self.max_tokens

    def prompt_tokens_at_most(self, question: str) -> int:
        """With the user's message and the chat template."""
        return super().prompt_tokens_at_most(self.message(question)) + TEMPLATE_TOKENS

    def message(self, question: str) -> str:
        """The user's message for a question."""
        return self.prompt.replace("{question}", question)

    def request(self, ask: Ask, seed: int) -> GenerationRequest:
        """What an engine gets."""
        return GenerationRequest(
            id=ask.id,
            messages=[{"role": "user", "content": self.message(ask.question.question)}],
            budget=self.thinking,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            max_tokens=self.max_tokens,
            seed=self._seed_of(ask.id, seed),
        )

    def sampling(self, ask: str, seed: int) -> dict[str, JsonValue] | None:
        """The fields of the request, and the template of the prompt."""
        budget = None if self.thinking is None else self.thinking.model_dump(mode="json", exclude_unset=True)
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "max_tokens": self.max_tokens,
            "budget": budget,
            "seed": self._seed_of(ask, seed),
            "prompt": self.prompt,
        }

    def _seed_of(self, ask: str, seed: int) -> int | None:
        return request_seed(seed, ask) if self.seeded else None


class VLLMTeacher(LanguageModelTeacher):
    """A reasoning model on vLLM engines in this cluster."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        {"actors", "engine.max_num_seqs", "engine.kv_cache_gib", "engine.device"}
    )

    engine: EngineConfig
    actors: int = Field(default=1, ge=1)
    """Engines side by side, each in an actor of its own."""

    @property
    def label(self) -> str:
        """The model: its Hugging Face id, or its folder's name, as a full path would differ from machine to machine."""
        return self.engine.model if self.engine.folder is None else self.engine.folder.name

    def check(self) -> None:
        """Look whether the model is there and vLLM knows the engine's arguments."""
        try:
            check_engine(self.engine)
        except InputError as error:
            raise ConfigError(f"{self.config_field}.engine.{error}") from None

    def inputs(self) -> dict[str, str]:
        """The weights and the tokenizer, where they are local."""
        return self.engine.inputs("teacher")

    def fingerprint(self) -> dict[str, JsonValue]:
        """A local model counts by its weights, not by its path."""
        return super().fingerprint() | {"engine": engine_identity(self.engine)}

    def placement(self) -> Placement:
        """One actor per engine, with its GPUs or CPUs."""
        return Placement(self.actors, engine_actor_options(self.engine, self.node_labels))

    def start(self, seed: int, folder: Location) -> RunningTeacher:
        """Start an engine."""
        from s1ray.generation.vllm import VLLMGenerator

        return RunningModel(lambda calls: VLLMGenerator(self.engine), self, seed, requests_in_flight(self.engine))


class RunningModel:
    """A language model that writes traces, on an engine here or behind an API."""

    def __init__(
        self, make_generator: Callable[[OnCall], Generator], config: LanguageModelTeacher, seed: int, concurrency: int
    ):
        """Make the generator, which tells its calls to the function that it gets; `close` closes it."""
        self._generator = BlockingGenerator(lambda: _Reporting(make_generator(self._tell)), concurrency)
        self._config = config
        self._seed = seed
        self._calls: OnCall | None = None

    def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
        """Traces, `concurrency` of them in flight."""
        self._calls = calls
        by_id = {ask.id: ask for ask in asks}
        requests = [self._config.request(ask, self._seed) for ask in asks]
        with contextlib.closing(self._generator.stream(requests)) as completions:
            for completion in completions:
                yield by_id[completion.id], response_of(completion)

    def close(self) -> None:
        """Stop the engine, or close the connections."""
        self._generator.close()

    def _tell(self, call: Call) -> None:
        if self._calls is not None:
            self._calls(call)


class _Reporting:
    """A generator whose errors of any kind are those of one request."""

    def __init__(self, generator: Generator):
        self._generator = generator

    async def complete(self, request: GenerationRequest) -> Completion:
        try:
            completion = await self._generator.complete(request)
        except GenerationError:
            raise
        except Exception as error:
            raise GenerationError(f"request {request.id!r}: {type(error).__name__}: {error}") from error
        if completion.id != request.id:
            raise GenerationError(f"request {request.id!r}: got the completion of {completion.id!r}")
        return completion

    async def close(self) -> None:
        await self._generator.close()


def response_of(completion: Completion) -> Response:
    """What a completion is for its ask."""
    if completion.error is not None:
        return Response(finish_reason="error", error=completion.error)
    # A response that reached the end of the context is as incomplete as one that ran out of tokens.
    cut = completion.end_forced == "context"
    tokens = completion.completion_tokens
    if tokens is None and completion.output_ids is not None:
        tokens = len(completion.output_ids)  # of an engine here
    usage = None
    if tokens is not None:
        usage = Usage(completion.prompt_tokens, completion.cached_tokens, tokens, completion.thinking_tokens or None)
    return Response(
        completion.thinking,
        completion.answer,
        "length" if cut else completion.finish_reason,
        usage=usage,
        model_version=completion.model_version,
        raw_finish_reason=completion.raw_finish_reason,
    )
