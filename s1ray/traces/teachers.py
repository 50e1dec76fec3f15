"""Who thinks: one Protocol, and three teachers.

A teacher is made inside an actor, and is given one shard of asks at a time. It gives back one response an ask, in
order; a response that could not be had says why instead of ending the run.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from s1ray.config import ConfigError
from s1ray.generation.base import GenerationRequest, Generator, request_seed
from s1ray.generation.blocking import BlockingGenerator, MakeGenerator
from s1ray.generation.engine import check_engine
from s1ray.generation.vllm import VLLMGenerator
from s1ray.schemas import Completion, Question
from s1ray.traces.config import (
    OpenAITeacherConfig,
    ProceduralTeacherConfig,
    SampledTeacherConfig,
    TeacherConfig,
    VLLMTeacherConfig,
)


@dataclass(frozen=True)
class Ask:
    """One trace to be written."""

    question: Mapping[str, Any]
    """A Question row."""
    sample: int

    @property
    def id(self) -> str:
        """Key of the trace."""
        return f"{self.question['id']}-{self.sample}"


@dataclass(frozen=True)
class Response:
    """What a teacher wrote."""

    thinking: str = ""
    attempt: str = ""
    finish_reason: str = "stop"
    error: str | None = None
    """Why there is no response."""


class Teacher(Protocol):
    """Writes traces; the same asks under the same seed are meant to give the same traces."""

    def respond(self, asks: Sequence[Ask]) -> list[Response]:
        """One response an ask, in order."""

    def close(self) -> None:
        """Release what the teacher holds."""


class ProceduralTeacher:
    """The miniature's teacher."""

    def __init__(self, seed: int):
        """Sample k of a question is the trace of the teacher with its k-th seed."""
        self._seed = seed

    def respond(self, asks: Sequence[Ask]) -> list[Response]:
        """Traces; a question that is not of the miniature's world gives an error."""
        return [self._respond(ask) for ask in asks]

    def close(self) -> None:
        """Nothing to release."""

    def _respond(self, ask: Ask) -> Response:
        from s1ray.miniature.teacher import ProceduralTeacher as Rules

        seed = self._seed if ask.sample == 0 else request_seed(self._seed, str(ask.sample))
        try:
            thinking, attempt = Rules(seed=seed).solve(
                Question(**{name: ask.question[name] for name in ("id", "question", "metadata")})
            )
        except ValueError as error:
            return Response(finish_reason="error", error=str(error))
        return Response(thinking, attempt)


class GeneratorTeacher:
    """A language model, on an engine of ours or behind an API."""

    def __init__(self, make_generator: MakeGenerator, config: SampledTeacherConfig, seed: int, concurrency: int):
        """Make the generator; it belongs to the teacher."""
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
            messages=[{"role": "user", "content": self._config.prompt.replace("{question}", ask.question["question"])}],
            budget=self._config.thinking,
            temperature=self._config.temperature,
            top_p=self._config.top_p,
            max_tokens=self._config.max_tokens,
            seed=request_seed(self._seed, ask.id),
        )


class Paced:
    """A generator that starts at most so many requests a minute, evenly spread."""

    def __init__(self, generator: Generator, requests_per_minute: float):
        """Wrap `generator`, and own it."""
        self._generator = generator
        self._interval = 60 / requests_per_minute
        self._next = 0.0

    async def complete(self, request: GenerationRequest) -> Completion:
        """Wait for the turn, then generate."""
        now = asyncio.get_running_loop().time()
        turn = max(now, self._next)
        self._next = turn + self._interval
        await asyncio.sleep(turn - now)
        return await self._generator.complete(request)

    async def close(self) -> None:
        """Close the generator."""
        await self._generator.close()


def make_teacher(config: TeacherConfig, seed: int) -> Teacher:
    """The configured teacher; called in the actor, where its engine is to live."""
    if isinstance(config, ProceduralTeacherConfig):
        return ProceduralTeacher(seed)
    if isinstance(config, VLLMTeacherConfig):
        make = functools.partial(VLLMGenerator, config.engine)
        return GeneratorTeacher(make, config, seed, config.engine.max_num_seqs)
    return GeneratorTeacher(functools.partial(_openai_generator, config), config, seed, config.concurrency)


def teacher_name(config: TeacherConfig) -> str:
    """What `Trace.teacher` says."""
    if isinstance(config, VLLMTeacherConfig):
        return config.engine.model
    return config.model if isinstance(config, OpenAITeacherConfig) else config.kind


def check_teacher(config: TeacherConfig) -> None:
    """Find mistakes before anything is started.

    Raises:
        ConfigError: the API key's variable is not set.
        FileNotFoundError: the model's folder is not there.
        ValueError: the thinking format does not exist.
    """
    if isinstance(config, VLLMTeacherConfig):
        check_engine(config.engine)
    elif isinstance(config, OpenAITeacherConfig):
        _api_key(config)


def _openai_generator(config: OpenAITeacherConfig) -> Generator:
    from s1ray.generation.http import HTTPGenerator

    generator = HTTPGenerator(
        config.base_url,
        config.model,
        api_key=_api_key(config),
        concurrency=config.concurrency,
        timeout=config.timeout,
        attempts=config.attempts,
        thinking_format=config.thinking_format,
        extra_body=config.extra_body,
    )
    return generator if config.requests_per_minute is None else Paced(generator, config.requests_per_minute)


def _api_key(config: OpenAITeacherConfig) -> str | None:
    if config.api_key_variable is None:
        return None
    key = os.environ.get(config.api_key_variable)
    if not key:
        raise ConfigError(
            f"teacher.api_key_variable: the environment variable {config.api_key_variable} is not set; export the "
            f"key for {config.base_url} there"
        )
    return key


def _response(completion: Completion) -> Response:
    if completion.error is not None:
        return Response(finish_reason="error", error=completion.error)
    # Cut for want of room, a trace is as incomplete as one that ran out of tokens.
    cut = completion.end_forced == "context"
    return Response(completion.thinking, completion.answer, "length" if cut else completion.finish_reason)
