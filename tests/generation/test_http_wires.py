"""The HTTP engine in the formats of other providers, against a server on this machine that answers by script."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from s1ray.generation import GenerationError, GenerationRequest
from s1ray.generation.base import Call
from s1ray.generation.http import HTTPGenerator
from s1ray.generation.wires import AnthropicMessages, OpenAIResponses, Wire
from s1ray.schemas import Completion
from tests.support.provider import MESSAGE, RESPONSE, Provider, running_provider


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running_provider() as running:
        yield running


def ask(provider: Provider, wire: Wire, told: list[Call] | None = None, **settings: Any) -> Completion:
    request = GenerationRequest(
        id="q-0", messages=[{"role": "user", "content": "2 + 2?"}], temperature=None, top_p=None, max_tokens=2048
    )

    async def run() -> Completion:
        on_call = None if told is None else told.append
        async with HTTPGenerator(
            provider.url, "m", wire=wire, api_key="sk-1", on_call=on_call, **settings
        ) as generator:
            return await generator.complete(request)

    return asyncio.run(run())


def test_anthropics_api_is_asked_again_while_it_is_overloaded(provider: Provider) -> None:
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    provider.answers = [(529, {"retry-after-ms": "1"}, overloaded), (200, {}, overloaded), (200, {}, MESSAGE)]
    told: list[Call] = []
    row = ask(provider, AnthropicMessages(), told)
    assert (row.thinking, row.answer, row.model_version) == ("two and two", "4", "claude-1")
    path, headers, body = provider.asked[0]
    assert (path, headers["x-api-key"], headers["anthropic-version"]) == ("/v1/messages", "sk-1", "2023-06-01")
    assert "authorization" not in headers
    assert body == {"model": "m", "max_tokens": 2048, "messages": [{"role": "user", "content": "2 + 2?"}]}
    assert [call.outcome for call in told] == ["sent", "retried", "sent", "retried", "sent", "answered"]
    assert told[-1].usage is not None
    assert (told[-1].usage.prompt_tokens, told[-1].usage.completion_tokens) == (9, 30)


def test_the_responses_api_is_asked_again_after_a_failed_response_whose_tokens_count(provider: Provider) -> None:
    failed = RESPONSE | {"status": "failed", "output": [], "error": {"code": "server_error", "message": "sorry"}}
    provider.answers = [(200, {}, failed), (200, {}, RESPONSE)]
    told: list[Call] = []
    row = ask(provider, OpenAIResponses("auto"), told)
    assert (row.thinking, row.answer) == ("two and two", "4")
    path, headers, body = provider.asked[1]
    assert (path, headers["authorization"]) == ("/v1/responses", "Bearer sk-1")
    assert (body["reasoning"], body["store"], body["max_output_tokens"]) == ({"summary": "auto"}, False, 2048)
    assert [call.outcome for call in told] == ["sent", "retried", "sent", "answered"]
    assert told[1].usage is not None
    assert told[1].usage.completion_tokens == 30


def test_a_response_that_never_ends_is_no_answer_and_may_be_billed(provider: Provider) -> None:
    provider.answers = [(200, {}, {"status": "queued", "output": []})]
    told: list[Call] = []
    with pytest.raises(GenerationError, match="the response's status is 'queued'"):
        ask(provider, OpenAIResponses(), told, attempts=1)
    assert told[-1].outcome == "lost"


def test_finish_reasons_in_either_ones_words_are_asked_again_and_the_last_answer_stays(provider: Provider) -> None:
    cut = MESSAGE | {"stop_reason": "max_tokens"}
    for reason in ("length", "max_tokens"):
        provider.answers = [(200, {}, cut), (200, {}, MESSAGE)]
        assert ask(provider, AnthropicMessages(), retried_reasons=[reason]).finish_reason == "stop"
    provider.answers = [(200, {}, cut)]
    assert ask(provider, AnthropicMessages(), retried_reasons=["length"], attempts=1).finish_reason == "length"


@pytest.mark.parametrize(
    ("status", "should", "asked"), [(400, "true", 2), (500, "false", 1), (400, "", 1), (409, "", 2), (500, "", 2)]
)
def test_the_server_knows_best_whether_asking_again_helps(
    provider: Provider, status: int, should: str, asked: int
) -> None:
    error = {"type": "error", "error": {"type": "api_error", "message": "told"}}
    headers = {"retry-after-ms": "1"} | ({"x-should-retry": should} if should else {})
    provider.answers = [(status, headers, error), (200, {}, MESSAGE)]
    if asked == 2:
        assert ask(provider, AnthropicMessages()).answer == "4"
    else:
        with pytest.raises(GenerationError, match=f"status {status}: told"):
            ask(provider, AnthropicMessages())
    assert len(provider.asked) == asked


REFUSALS = [
    (
        400,
        {
            "error": {
                "code": "invalid_prompt",
                "message": "Invalid prompt: your prompt was flagged as potentially violating our policy",
            }
        },
    ),
    (
        400,
        {"error": {"message": "Content Exists Risk", "type": "invalid_request_error", "code": "invalid_request_error"}},
    ),
    (400, {"error": {"code": "content_filter", "message": "The response was filtered"}}),
    (400, {"code": "data_inspection_failed", "message": "Output data may contain inappropriate content."}),
    (403, {"code": "The caller does not have permission", "error": "Content violates usage guidelines."}),
    (
        400,
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "Output blocked by content filtering policy"},
        },
    ),
    (
        200,
        RESPONSE | {"status": "failed", "error": {"code": "bio_policy", "message": "flagged as potentially violating"}},
    ),
]


@pytest.mark.parametrize(("status", "error"), REFUSALS)
def test_an_error_of_a_filter_is_a_refusal_and_no_failed_request(provider: Provider, status: int, error: Any) -> None:
    provider.answers = [(status, {}, error)]
    told: list[Call] = []
    row = ask(provider, OpenAIResponses(), told)
    assert (row.finish_reason, row.thinking, row.answer, row.error) == ("content_filter", "", "", None)
    assert row.raw_finish_reason is not None
    assert row.raw_finish_reason.startswith(f"status {status}")
    assert [call.outcome for call in told] == ["sent", "failed"]


def test_words_of_a_filter_in_a_busy_servers_error_do_not_end_the_request(provider: Provider) -> None:
    busy = {"error": {"message": "the content_filter service is overloaded"}}
    provider.answers = [(503, {"retry-after-ms": "1"}, busy), (200, {}, RESPONSE)]
    assert ask(provider, OpenAIResponses()).answer == "4"


def test_a_request_that_the_format_cannot_write_is_that_requests_error(provider: Provider) -> None:
    async def run() -> None:
        async with HTTPGenerator(provider.url, "m", wire=AnthropicMessages()) as generator:
            await generator.complete(GenerationRequest(id="q-0", prompt_ids=[1]))

    with pytest.raises(GenerationError, match="request 'q-0': prompt_ids: Anthropic's Messages API takes messages"):
        asyncio.run(run())
    assert not provider.asked
