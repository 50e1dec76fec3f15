"""Teachers: who writes the traces.

A teacher is a config class in the registry `TEACHERS`: the mapping `teacher:` of a config is validated with the class
that its `kind` names, and the methods of the class tell the stage everything else. A new teacher is one file:

    class MyTeacher(Teacher):
        def start(self, seed: int) -> RunningTeacher: ...

The stage starts the teacher inside a Ray actor and hands it one shard of asks at a time. It gives back one response per
ask, in order; a response that could not be had says why instead of ending the run.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Protocol

from pydantic import Field, JsonValue, field_validator

from s1ray.config import Config, ConfigError, HTTPAddress
from s1ray.generation.base import GenerationRequest, Generator, request_seed
from s1ray.generation.blocking import BlockingGenerator, MakeGenerator
from s1ray.generation.engine import check_engine, engine_actor_options, engine_identity
from s1ray.models import EngineConfig, FormatRef
from s1ray.runs import without
from s1ray.schemas import Completion, Question
from s1ray.thinking.budget import ThinkingBudget


@dataclass(frozen=True)
class Ask:
    """One trace to write."""

    question: Question
    """Its id, text, answer, domain and metadata."""
    sample: int

    @property
    def id(self) -> str:
        """Key of the trace."""
        return f"{self.question.id}-{self.sample}"


@dataclass(frozen=True)
class Response:
    """What a teacher wrote."""

    thinking: str = ""
    attempt: str = ""
    finish_reason: str = "stop"
    error: str | None = None
    """Why there is no response."""


class RunningTeacher(Protocol):
    """Writes traces. The same asks under the same seed should give the same traces."""

    def respond(self, asks: Sequence[Ask]) -> list[Response]:
        """One response per ask, in order."""

    def close(self) -> None:
        """Release what the teacher holds."""


@dataclass(frozen=True)
class Placement:
    """The Ray actors that a teacher runs in."""

    actors: int = 1
    options: Mapping[str, object] = field(default_factory=dict)
    """Of each actor (`num_cpus`, `num_gpus`, ...)."""


class Teacher(Config):
    """Base of every teacher's config."""

    incidental: ClassVar[frozenset[str]] = frozenset()
    """Fields that cannot change what the teacher writes (dotted names are of fields within fields)."""

    kind: str
    """Name in the registry."""

    @property
    def label(self) -> str:
        """What `Trace.teacher` says."""
        return self.kind

    @property
    def max_response_tokens(self) -> int | None:
        """Tokens of one response at most, for the plan. None: not known."""
        return None

    def check(self) -> None:
        """Find mistakes before anything is started.

        Raises:
            S1rayError: the teacher cannot be started like this.
        """

    def inputs(self) -> dict[str, str]:
        """Name -> local file or folder whose content decides what the teacher writes."""
        return {}

    def fingerprint(self) -> dict[str, JsonValue]:
        """What decides what the teacher writes, besides the asks and the seed."""
        decisive = without(self.model_dump(mode="json"), self.incidental_fields())
        assert isinstance(decisive, dict)
        return decisive

    def placement(self) -> Placement:
        """Where the teacher runs. Ray is connected."""
        return Placement()

    def start(self, seed: int) -> RunningTeacher:
        """Start the teacher; called inside the actor."""
        raise NotImplementedError(f"{type(self).__name__} does not implement start")


class LanguageModelTeacher(Teacher):
    """What teachers that are language models have in common."""

    prompt: str = "{question}"
    """The user's message. s1 asks the question and nothing else."""
    thinking: ThinkingBudget | None = None
    """How long to think. None: the teacher decides."""
    temperature: float = Field(default=0.6, ge=0)
    top_p: float = Field(default=0.95, gt=0, le=1)
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
        return Placement(self.actors, engine_actor_options(self.engine))

    def start(self, seed: int) -> RunningTeacher:
        """Start an engine."""
        from s1ray.generation.vllm import VLLMGenerator

        return RunningModel(partial(VLLMGenerator, self.engine), self, seed, self.engine.max_num_seqs)


class OpenAITeacher(LanguageModelTeacher):
    """A reasoning model behind an OpenAI-compatible API that returns its reasoning apart (`reasoning_content`)."""

    incidental: ClassVar[frozenset[str]] = frozenset({"concurrency", "requests_per_minute", "timeout", "attempts"})

    base_url: HTTPAddress
    """The address with its `/v1`."""
    model: str
    api_key_variable: str | None = None
    """Environment variable that holds the key. None: no key is sent."""
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

    @property
    def label(self) -> str:
        """The model."""
        return self.model

    def check(self) -> None:
        """Look whether the API key is set."""
        self._api_key()

    def start(self, seed: int) -> RunningTeacher:
        """Open the connections."""
        return RunningModel(self._generator, self, seed, self.concurrency)

    def _generator(self) -> Generator:
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
        )
        return generator if self.requests_per_minute is None else RateLimited(generator, self.requests_per_minute)

    def _api_key(self) -> str | None:
        if self.api_key_variable is None:
            return None
        key = os.environ.get(self.api_key_variable)
        if not key:
            raise ConfigError(
                f"teacher.api_key_variable: the environment variable {self.api_key_variable} is not set; export the "
                f"key for {self.base_url} there"
            )
        return key


class RunningModel:
    """A language model that writes traces, on an engine here or behind an API."""

    def __init__(self, make_generator: MakeGenerator, config: LanguageModelTeacher, seed: int, concurrency: int):
        """Make the generator; `close` closes it."""
        self._generator = BlockingGenerator(make_generator, concurrency)
        self._config = config
        self._seed = seed

    def respond(self, asks: Sequence[Ask]) -> list[Response]:
        """Traces, `concurrency` of them in flight."""
        completions = self._generator.complete([self._request(ask) for ask in asks])
        return [_response(completion) for completion in completions]

    def close(self) -> None:
        """Stop the engine, or close the connections."""
        self._generator.close()

    def _request(self, ask: Ask) -> GenerationRequest:
        return GenerationRequest(
            id=ask.id,
            messages=[{"role": "user", "content": self._config.prompt.replace("{question}", ask.question.question)}],
            budget=self._config.thinking,
            temperature=self._config.temperature,
            top_p=self._config.top_p,
            max_tokens=self._config.max_tokens,
            seed=request_seed(self._seed, ask.id),
        )


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
    return Response(completion.thinking, completion.answer, "length" if cut else completion.finish_reason)
