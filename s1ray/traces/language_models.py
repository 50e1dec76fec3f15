"""Teachers that are language models: on vLLM engines in this cluster, or behind an API."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field, JsonValue, field_validator, model_validator

from s1ray.config import HTTPAddress
from s1ray.generation.base import Call, GenerationError, GenerationRequest, Generator, OnCall, Usage, request_seed
from s1ray.generation.blocking import BlockingGenerator
from s1ray.generation.engine import check_engine, engine_actor_options, engine_identity
from s1ray.models import EngineConfig, FormatRef
from s1ray.schemas import Completion
from s1ray.thinking.budget import ThinkingBudget
from s1ray.traces.bill import Prices
from s1ray.traces.keys import read_key, refuse_secrets
from s1ray.traces.teachers import Ask, Placement, Response, RunningTeacher, Teacher

TEMPLATE_TOKENS = 512
"""Tokens that a chat template and a provider's own system prompt add to a prompt, at most."""


class LanguageModelTeacher(Teacher):
    """What teachers that are language models have in common."""

    prompt: str = "{question}"
    """The user's message. s1 asks the question and nothing else."""
    thinking: ThinkingBudget | None = None
    """How long to think. None: the teacher decides."""
    temperature: float = Field(default=0.6, ge=0)
    top_p: float = Field(default=0.95, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1)
    """None: all tokens, or the provider's default."""
    max_tokens: int | None = Field(default=32768, ge=1)
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
            seed=request_seed(seed, ask.id),
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
            "seed": request_seed(seed, ask),
            "prompt": self.prompt,
        }


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
        check_engine(self.engine)

    def inputs(self) -> dict[str, str]:
        """The weights and the tokenizer, where they are local."""
        return self.engine.inputs("teacher")

    def fingerprint(self) -> dict[str, JsonValue]:
        """A local model counts by its weights, not by its path."""
        return super().fingerprint() | {"engine": engine_identity(self.engine)}

    def placement(self) -> Placement:
        """One actor per engine, with its GPUs or CPUs."""
        return Placement(
            self.actors,
            engine_actor_options(self.engine),
        )

    def start(self, seed: int, folder: Path) -> RunningTeacher:
        """Start an engine."""
        from s1ray.generation.vllm import VLLMGenerator

        return RunningModel(lambda calls: VLLMGenerator(self.engine), self, seed, self.engine.max_num_seqs)


class OpenAITeacher(LanguageModelTeacher):
    """A reasoning model behind an OpenAI-compatible API that returns its reasoning apart (`reasoning_content`)."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        {
            *("concurrency", "requests_per_minute", "timeout", "attempts", "prices"),
            *("api_key_variable", "api_key_file"),
        }
    )

    base_url: HTTPAddress
    """The address with its `/v1`."""
    model: str
    api_key_variable: str | None = None
    """Environment variable that holds the key. None: no key is sent, or that of `api_key_file`."""
    api_key_file: str | None = None
    """File that holds the key and that nobody else may read (mode 0600)."""
    thinking_format: FormatRef | None = None
    """Splits the reasoning from the answer where both come within the text: a preset ("deepseek_r1": `<think>`), or a
    mapping with strings of your own."""
    concurrency: int = Field(default=32, ge=1)
    """Requests in flight at once."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Requests started per minute. None: no limit of ours; after a 429 a request waits as long as the provider says, or
    longer each time."""
    timeout: float = Field(default=3600, gt=0)
    """Seconds of one attempt."""
    attempts: int = Field(default=6, ge=1)
    """Tries of one request."""
    extra_body: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    """Further fields of every request."""
    prices: Prices | None = None
    """The provider's, for a million tokens. None: tokens are counted, money is not."""

    @model_validator(mode="before")
    @classmethod
    def _no_secrets(cls, data: object) -> object:
        # Before the fields are validated: an error about a field shows its value.
        if isinstance(data, Mapping):
            refuse_secrets(data)
        return data

    @property
    def label(self) -> str:
        """The model."""
        return self.model

    @property
    def price_list(self) -> Prices | None:
        """The configured prices."""
        return self.prices

    def sampling(self, ask: str, seed: int) -> dict[str, JsonValue] | None:
        """With the further fields of the request."""
        return (super().sampling(ask, seed) or {}) | ({"extra_body": dict(self.extra_body)} if self.extra_body else {})

    def check(self) -> None:
        """Look whether the API key is there."""
        self._api_key()

    def start(self, seed: int, folder: Path) -> RunningTeacher:
        """Open the connections."""
        return RunningModel(self._generator, self, seed, self.concurrency)

    def _generator(self, calls: OnCall) -> Generator:
        from s1ray.generation.http import HTTPGenerator

        generator = HTTPGenerator(
            self.base_url,
            self.model,
            api_key=self._api_key(),
            concurrency=self.concurrency,
            timeout=self.timeout,
            attempts=self.attempts,
            thinking_format=self.thinking_format,
            extra_body=self.extra_body,
            on_call=calls,
        )
        return generator if self.requests_per_minute is None else RateLimited(generator, self.requests_per_minute)

    def _api_key(self) -> str | None:
        return read_key(self.api_key_variable, self.api_key_file, self.base_url)


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
                yield by_id[completion.id], _response(completion)

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


class RateLimited:
    """A generator that starts at most a number of requests per minute, evenly spread."""

    def __init__(self, generator: Generator, requests_per_minute: float):
        """Wrap `generator`; `close` closes it."""
        self._generator = generator
        self._interval = 60 / requests_per_minute
        self._next = 0.0

    async def complete(self, request: GenerationRequest) -> Completion:
        """Wait for the request's turn, then generate."""
        now = asyncio.get_running_loop().time()
        turn = max(now, self._next)
        self._next = turn + self._interval
        await asyncio.sleep(turn - now)
        return await self._generator.complete(request)

    async def close(self) -> None:
        """Close the generator."""
        await self._generator.close()


def _response(completion: Completion) -> Response:
    if completion.error is not None:
        return Response(finish_reason="error", error=completion.error)
    # A response that reached the end of the context is as incomplete as one that ran out of tokens.
    cut = completion.end_forced == "context"
    usage = None
    if completion.completion_tokens is not None:
        usage = Usage(completion.prompt_tokens, completion.cached_tokens, completion.completion_tokens)
    return Response(
        completion.thinking,
        completion.answer,
        "length" if cut else completion.finish_reason,
        usage=usage,
        model_version=completion.model_version,
        raw_finish_reason=completion.raw_finish_reason,
    )
