"""What an eval run says to an endpoint that speaks another API than ours: checked without asking it, and tried once."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Sequence

import httpx

from s1ray.config import ConfigError
from s1ray.errors import InputError, UnreachableError
from s1ray.evaluation.asking import Instructed
from s1ray.evaluation.config import Endpoint, EvalConfig, ServedModel
from s1ray.evaluation.strategies.base import Sampling, Strategy
from s1ray.generation import GenerationError, GenerationRequest, Generator
from s1ray.generation.http import HTTPGenerator
from s1ray.generation.wires import AnthropicMessages, ChatCompletions, OpenAIResponses, Wire
from s1ray.schemas import Completion, Question

TRIAL = Question(id="trial", question="1 + 1 = ?", answer="2")


def wire_of(endpoint: Endpoint) -> Wire:
    """The format of an endpoint's API."""
    if endpoint.api == "anthropic":
        return AnthropicMessages()
    return OpenAIResponses() if endpoint.api == "responses" else ChatCompletions()


class Unseeded:
    """A generator behind an API that takes no seed: none is sent, and answers differ from run to run.

    Args:
        generator: its own; `close` closes it.
    """

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    async def complete(self, request: GenerationRequest) -> Completion:
        """Generate one response.

        Raises:
            GenerationError: it could not be had.
        """
        return await self._generator.complete(dataclasses.replace(request, seed=None))

    async def close(self) -> None:
        """Close the generator."""
        await self._generator.close()


def check_requests(config: EvalConfig) -> None:
    """Look whether the APIs take what the arms will ask; asks nobody.

    Raises:
        ConfigError: one does not, in words.
    """
    for model in config.models:
        endpoint = config.endpoint_of(model)
        if endpoint.api == "openai":
            continue
        for arm in config.arms_of(model):
            request = dataclasses.replace(first_request(arm, config.sampling), seed=None)
            try:
                wire_of(endpoint).body(request, model.name, model.extra_body)
            except InputError as error:
                raise ConfigError(f"models: {model.label!r} with arm {arm.name!r}: {_in_eval(str(error))}") from None


def first_request(arm: Strategy, sampling: Sampling) -> GenerationRequest:
    """The first request that an arm makes for a question."""

    async def ask() -> GenerationRequest:
        recorder = _Recorder()
        with contextlib.suppress(GenerationError):
            await arm(Instructed(recorder, None, sampling.top_k), TRIAL, 0, sampling, 0)
        assert recorder.first is not None, "a strategy asks"
        return recorder.first

    return asyncio.run(ask())


class _Recorder:
    """A generator that keeps the first request, and answers none."""

    def __init__(self) -> None:
        self.first: GenerationRequest | None = None

    async def complete(self, request: GenerationRequest) -> Completion:
        self.first = self.first or request
        raise GenerationError("only recorded")

    async def close(self) -> None:
        """Nothing to close."""


def try_arms(
    endpoint: Endpoint,
    key: str | None,
    model: ServedModel,
    arms: Sequence[Strategy],
    sampling: Sampling,
    transport: httpx.AsyncBaseTransport | None = None,
) -> None:
    """Ask every address of an endpoint one short question with each arm's first request, as the run will.

    Args:
        endpoint: where.
        key: for it.
        model: whom.
        arms: of this model.
        sampling: of the run.
        transport: replaces the network, for tests.

    Raises:
        ConfigError: the API refuses a temperature.
        UnreachableError: there is no answer, or none of use.
    """

    async def ask(address: str) -> None:
        generator = HTTPGenerator(
            [address],
            model.name,
            wire=wire_of(endpoint),
            api_key=key,
            timeout=endpoint.timeout,
            attempts=endpoint.attempts,
            extra_body=model.extra_body,
            transport=transport,
        )
        async with generator:
            for arm in arms:
                try:
                    await Unseeded(generator).complete(first_requests[arm.name])
                except GenerationError as error:
                    raise refused(f"models: {model.label!r} with arm {arm.name!r}", str(error)) from None

    first_requests = {arm.name: first_request(arm, sampling) for arm in arms}
    for address in endpoint.addresses:
        asyncio.run(ask(address))


def refused(where: str, message: str) -> ConfigError | UnreachableError:
    """The error of a trial that the server did not answer."""
    if "temperature" in message.lower() and "status 400" in message:
        return ConfigError(
            f"{where}: {message}. Set sampling.temperature to what the model takes: reasoning models of OpenAI's and "
            "models of Anthropic's that think take 1 alone"
        )
    return UnreachableError(f"{where}: {message}")


def _in_eval(message: str) -> str:
    """An API's complaint, with the fields of an eval config."""
    field, colon, rest = message.partition(":")
    names = {"temperature": "sampling.temperature", "top_p": "sampling.top_p", "top_k": "sampling.top_k"}
    names |= {"max_tokens": "the arm's max_tokens", "thinking.max_tokens": "thinking_tokens"}
    return f"{names.get(field, field)}{colon}{rest}"
