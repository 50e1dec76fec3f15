"""The `openai` and `anthropic` clients with their own parameters."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from s1ray.generation import GenerationRequest
from s1ray.generation.http import HTTPGenerator
from s1ray.generation.segmented import SegmentedGenerator
from s1ray.schemas import Completion
from s1ray.serving.local import ServedApp
from s1ray.thinking import ThinkingBudget
from tests.support.served import CONTEXT, EFFORT, QUESTION, chat, check_ids

pytestmark = pytest.mark.end_to_end

SHORT: dict[str, Any] = {"model": "s1", "messages": QUESTION, "max_tokens": 60}
GREEDY: dict[str, Any] = SHORT | {"temperature": 0.0}
# The client's newest versions have no parameters for sampling; the API has.
GREEDY_MESSAGE: dict[str, Any] = SHORT | {"extra_body": {"temperature": 0.0}}
SCHEMA = {
    "type": "object",
    "properties": {"sure": {"type": "boolean"}, "kind": {"enum": ["sum", "other"]}},
    "required": ["sure", "kind"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": SCHEMA, "strict": True}}


@pytest.fixture(scope="module")
def claude(served: ServedApp) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=served.url, api_key="unused", max_retries=0, timeout=120) as client:
        yield client


@pytest.mark.parametrize("effort", EFFORT)
def test_openais_effort_is_the_servers_budget(client: openai.OpenAI, tokenizer: Any, effort: str) -> None:
    response = chat(client, reasoning_effort=effort, max_tokens=None, max_completion_tokens=100)
    choice = response.choices[0]
    assert choice.thinking["budget"]["max_tokens"] == EFFORT[effort]
    check_ids(tokenizer, choice.token_ids, choice.thinking)


@pytest.mark.parametrize(
    "alias",
    [
        {"thinking": {"max_tokens": 8}},
        {"thinking": {"type": "enabled", "budget_tokens": 8}},
        {"thinking": {"effort": "low"}},
        {"reasoning": {"max_tokens": 8}},
        {"reasoning": {"effort": "low"}, "reasoning_effort": "low"},
        {"thinking_token_budget": 8},
        {"reasoning_budget": 8},
        {"think": "low"},
        {"max_tokens_thinking": 8, "thinking_token_budget": 8},
    ],
    ids=str,
)
def test_every_alias_is_the_same_request(client: openai.OpenAI, alias: dict[str, Any]) -> None:
    create = client.chat.completions.create
    ours = create(**GREEDY, extra_body={"thinking": {"max_tokens": 8}, "return_token_ids": True}).choices[0]
    theirs = create(**GREEDY, extra_body={**alias, "return_token_ids": True}).choices[0]
    assert theirs.token_ids == ours.token_ids
    assert theirs.thinking == ours.thinking
    text: Any = client.completions.create(model="s1", prompt="7 * 6 =", max_tokens=60, extra_body=alias).choices[0]
    assert text.thinking["limit"] == 8


def test_equal_answers_are_one_answer_n_times(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = GREEDY | {"n": 3, "extra_body": {"thinking": {"max_tokens": 8}}}
    whole: Any = client.chat.completions.create(**fields)
    texts = {choice.index: choice.message.content for choice in whole.choices}
    assert (len(texts), len(set(texts.values()))) == (3, 1)
    accounting = whole.choices[2].thinking
    assert whole.usage.completion_tokens_details.reasoning_tokens == accounting["thinking_tokens"]
    streamed = {0: "", 1: "", 2: ""}
    for chunk in client.chat.completions.create(**fields, stream=True):
        for part in chunk.choices:
            streamed[part.index] += part.delta.content or ""
    assert streamed == texts


def test_forced_from_outside_it_gives_the_ids_that_it_gives_by_itself(served: ServedApp) -> None:
    budgets = [ThinkingBudget(max_tokens=n, waits=n % 3, grace=n % 5) for n in (1, 7, 12, 40)]
    requests = [
        GenerationRequest(id=str(i), messages=QUESTION, budget=budget, max_tokens=90)
        for i, budget in enumerate(budgets)
    ]

    async def both() -> tuple[list[Completion], list[Completion]]:
        url, ids = f"{served.url}/v1", {"return_token_ids": True}
        async with HTTPGenerator(url, "s1", extra_body=ids) as inside:
            theirs = await asyncio.gather(*map(inside.complete, requests))
        async with SegmentedGenerator(url, "s1", weights="miniature-base", context=CONTEXT) as outside:
            return theirs, await asyncio.gather(*map(outside.complete, requests))

    for theirs, ours in zip(*asyncio.run(both()), strict=True):
        assert ours.output_ids == theirs.output_ids
        assert (ours.thinking_tokens, ours.end_forced) == (theirs.thinking_tokens, theirs.end_forced)


def test_the_harness_has_its_own_names_for_waits(client: openai.OpenAI, always_stops: dict[str, int]) -> None:
    fields = {"max_tokens_thinking": "auto", "thinking_n_ignore": 2, "thinking_n_ignore_str": "Hmm"}
    choice: Any = client.chat.completions.create(**GREEDY, logit_bias=always_stops, extra_body=fields).choices[0]
    assert choice.message.reasoning.count("Hmm") == choice.thinking["waits"] == 2
    assert choice.thinking["budget"]["max_tokens"] == "auto"


def test_a_chat_without_limits_that_thinks_for_ever_is_answered(
    client: openai.OpenAI, never_stops: dict[str, int]
) -> None:
    response: Any = client.chat.completions.create(model="s1", messages=QUESTION, logit_bias=never_stops)
    choice = response.choices[0]
    assert choice.thinking["end_forced"] == "context"
    assert choice.thinking["thinking_tokens"] == choice.thinking["limit"]
    assert choice.message.content.startswith("Final Answer:")
    assert choice.thinking["answer_tokens"] > 100
    assert response.usage.total_tokens == CONTEXT


@pytest.mark.parametrize("budget", [0, 16])
def test_thinking_is_free_and_the_answer_obeys_the_schema(
    client: openai.OpenAI, never_stops: dict[str, int], tokenizer: Any, budget: int
) -> None:
    fields: dict[str, Any] = {"response_format": FORMAT, "temperature": 1.0, "max_tokens": 200}
    if budget:
        # Free to end the answer, not the thinking.
        eos = str(tokenizer.eos_token_id)
        fields["logit_bias"] = {k: v for k, v in never_stops.items() if k != eos}
    response = chat(client, {"max_tokens": budget}, n=2, seed=3, **fields)
    assert len(response.choices) == 2
    for choice in response.choices:
        check_ids(tokenizer, choice.token_ids, choice.thinking)
        check_verdict(choice.message.content)
        assert bool(choice.message.reasoning) == bool(budget)
    texts = {0: "", 1: ""}
    for chunk in chat(client, {"max_tokens": budget}, n=2, seed=3, stream=True, **fields):
        for part in chunk.choices:
            texts[part.index] += part.delta.content or ""
    assert texts == {choice.index: choice.message.content for choice in response.choices}


def check_verdict(text: str) -> None:
    verdict = json.loads(text)
    assert set(verdict) == {"sure", "kind"}
    assert isinstance(verdict["sure"], bool)


def test_a_message_is_the_same_response_as_a_chat(client: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    system = [{"role": "system", "content": "Be brief."}]
    fields = GREEDY | {"messages": system + QUESTION, "extra_body": {"thinking": {"max_tokens": 12}}}
    chatted = client.chat.completions.create(**fields)
    choice = chatted.choices[0]
    fields = GREEDY_MESSAGE | {"system": "Be brief.", "thinking": {"type": "enabled", "budget_tokens": 12}}
    message = claude.messages.create(**fields)
    check_blocks(message, choice)
    assert read_tokens(message.usage) == chatted.usage.prompt_tokens
    assert message.usage.output_tokens == chatted.usage.completion_tokens
    assert message.stop_reason == {"stop": "end_turn", "length": "max_tokens"}[choice.finish_reason]
    with claude.messages.stream(**fields) as stream:
        kinds = [event.type for event in stream]
        check_blocks(stream.get_final_message(), choice)
    assert "thinking" in kinds
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")


def read_tokens(usage: Any) -> int:
    """Tokens of the prompt; Anthropic counts cached ones apart."""
    return int(usage.input_tokens + (usage.cache_read_input_tokens or 0))


def check_blocks(message: Any, choice: Any) -> None:
    thinking, text = message.content
    assert (thinking.type, text.type) == ("thinking", "text")
    assert thinking.thinking == choice.message.reasoning
    assert thinking.signature
    assert text.text == choice.message.content
    details = message.usage.output_tokens_details
    assert details.thinking_tokens == choice.thinking["thinking_tokens"]
    assert details.to_dict() == choice.thinking


def test_a_message_takes_anthropics_sampling_and_stops(claude: anthropic.Anthropic) -> None:
    fields = SHORT | {"thinking": {"type": "disabled"}, "metadata": {"user_id": "u"}}
    fields |= {"extra_body": {"temperature": 0.5, "top_p": 0.9, "top_k": 20}}
    # What the model writes is its own; the forced "Final Answer:" stops nothing.
    stops = ["Answer:", "\n", "e", "1"]
    message = claude.messages.create(**fields, stop_sequences=stops)
    assert message.stop_sequence in (None, *stops[1:])
    assert (message.stop_reason == "stop_sequence") == (message.stop_sequence is not None)
    assert [block.type for block in message.content] == ["text"]
    assert message.usage.output_tokens_details.thinking_tokens == 0


def test_hidden_thinking_is_an_empty_block(claude: anthropic.Anthropic) -> None:
    thinking: Any = {"type": "enabled", "budget_tokens": 12, "display": "omitted"}
    message = claude.messages.create(**GREEDY_MESSAGE, thinking=thinking)
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[0].thinking == ""
    with claude.messages.stream(**GREEDY_MESSAGE, thinking=thinking) as stream:
        streamed: Any = stream.get_final_message()
    assert [block.type for block in streamed.content] == ["thinking", "text"]
    assert streamed.content[0].thinking == ""
    assert streamed.content[1].text == message.content[1].text
    assert streamed.usage.output_tokens_details.thinking_tokens > 0


def test_a_turn_with_thinking_and_tools_may_be_sent_back_and_counted(claude: anthropic.Anthropic) -> None:
    tool: Any = {"name": "add", "input_schema": {"type": "object", "properties": {"n": {"enum": [1, 2]}}}}
    messages: Any = [
        *QUESTION,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Let me add.", "signature": "x"},
                {"type": "text", "text": "Adding."},
                {"type": "tool_use", "id": "t1", "name": "add", "input": {"n": 1}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "42"}]},
    ]
    count = claude.messages.count_tokens(model="s1", messages=messages, tools=[tool])
    fields: Any = {"model": "s1", "messages": messages, "max_tokens": 40, "tools": [tool]}
    message = claude.messages.create(**fields, tool_choice={"type": "none"}, thinking={"type": "disabled"})
    assert read_tokens(message.usage) == count.input_tokens > 0


def test_a_forced_tool_is_used_after_thinking(
    client: openai.OpenAI, claude: anthropic.Anthropic, tokenizer: Any
) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    fields: dict[str, Any] = {
        "max_tokens": 400,
        "tools": [{"type": "function", "function": {"name": "add", "parameters": schema}}],
        "tool_choice": {"type": "function", "function": {"name": "add"}},
    }
    choice = chat(client, {"max_tokens": 12}, **fields).choices[0]
    check_ids(tokenizer, choice.token_ids, choice.thinking)
    (call,) = choice.message.tool_calls
    assert call.function.name == "add"
    assert json.loads(call.function.arguments)["n"] in (1, 2)
    tool: Any = {"name": "add", "input_schema": schema}
    choose: Any = {"type": "tool", "name": "add"}
    thinking: Any = {"type": "enabled", "budget_tokens": 12}
    asked: dict[str, Any] = SHORT | {"max_tokens": 400, "thinking": thinking, "tools": [tool], "tool_choice": choose}
    with claude.messages.stream(**asked) as stream:
        message: Any = stream.get_final_message()
    assert (message.content[-1].type, message.content[-1].name) == ("tool_use", "add")
    assert message.content[-1].input["n"] in (1, 2)


def test_anthropics_structured_output(claude: anthropic.Anthropic) -> None:
    config: Any = {"format": {"type": "json_schema", "schema": SCHEMA}, "effort": "low"}
    message = claude.messages.create(**(SHORT | {"max_tokens": 200}), output_config=config)
    check_verdict(message.content[-1].text)
    assert message.usage.output_tokens_details.to_dict()["budget"]["max_tokens"] == EFFORT["low"]


@pytest.mark.parametrize(
    ("fields", "error", "named"),
    [
        ({"model": "unknown"}, anthropic.NotFoundError, "unknown"),
        ({"thinking": {"type": "enabled", "budget_tokens": 60}}, anthropic.BadRequestError, "thinking.budget_tokens"),
        ({"thinking": {"type": "often"}}, anthropic.BadRequestError, "thinking.type"),
        ({"output_config": {"effort": "huge"}}, anthropic.BadRequestError, "output_config.effort"),
        ({"max_tokens": 0}, anthropic.BadRequestError, "max_tokens"),
        ({"messages": [{"role": "user", "content": [{"type": "film"}]}]}, anthropic.BadRequestError, "messages"),
        ({"extra_body": {"temperature": -1.0}}, anthropic.BadRequestError, "temperature"),
    ],
)
def test_anthropics_errors(claude: anthropic.Anthropic, fields: dict[str, Any], error: Any, named: str) -> None:
    with pytest.raises(error, match=named) as caught:
        claude.messages.create(**(SHORT | fields))
    body = caught.value.body
    assert body["type"] == "error"
    assert body["error"]["type"] == {404: "not_found_error", 400: "invalid_request_error"}[caught.value.status_code]


ASKED: dict[str, Any] = {"model": "s1", "input": QUESTION[0]["content"], "max_output_tokens": 60}


@pytest.mark.parametrize("summary", [None, "auto"])
def test_a_response_is_the_same_as_a_chat(client: openai.OpenAI, summary: Any) -> None:
    system = [{"role": "system", "content": "Be brief."}]
    budget = {"thinking": {"max_tokens": 12}}
    chatted = client.chat.completions.create(**(GREEDY | {"messages": system + QUESTION}), extra_body=budget)
    choice: Any = chatted.choices[0]
    fields = ASKED | {"instructions": "Be brief.", "temperature": 0.0, "extra_body": budget}
    response: Any = client.responses.create(**fields, reasoning={"summary": summary})
    reasoning, message = response.output
    assert reasoning.content[0].text == choice.message.reasoning
    assert [part.text for part in reasoning.summary] == ([choice.message.reasoning] if summary else [])
    assert response.output_text == message.content[0].text == choice.message.content
    assert response.thinking == choice.thinking
    assert response.status == {"stop": "completed", "length": "incomplete"}[choice.finish_reason]
    assert response.usage.input_tokens == chatted.usage.prompt_tokens
    assert response.usage.output_tokens == chatted.usage.completion_tokens
    assert response.usage.output_tokens_details.reasoning_tokens == choice.thinking["thinking_tokens"]
    with client.responses.stream(**fields, reasoning={"summary": summary}) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_response()
    assert same(streamed) == same(response)
    assert kinds[0] == "response.created"
    assert ("response.reasoning_summary_text.delta" in kinds) == bool(summary)


def same(response: Any) -> Any:
    """What two responses to one request share."""
    data = json.loads(response.to_json(exclude_unset=False))
    for item in data["output"]:
        del item["id"]
        for part in item["content"]:
            part.pop("parsed", None)
    return {name: value for name, value in data.items() if name not in ("id", "created_at")}


def test_a_function_is_called_after_thinking_and_its_output_sent_back(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    tool: Any = {"type": "function", "name": "add", "parameters": schema, "strict": True}
    extra = {"thinking": {"max_tokens": 12}}
    fields: dict[str, Any] = {"model": "s1", "max_output_tokens": 400, "tools": [tool], "temperature": 0.0}
    asked: dict[str, Any] = fields | {"tool_choice": {"type": "function", "name": "add"}, "extra_body": extra}
    response: Any = client.responses.create(**asked, input=ASKED["input"])
    reasoning, call = response.output
    assert (reasoning.type, call.type, call.name) == ("reasoning", "function_call", "add")
    assert json.loads(call.arguments)["n"] in (1, 2)
    (*_, last) = client.responses.create(**asked, input=ASKED["input"], stream=True)
    streamed: Any = last
    assert streamed.type == "response.completed"
    # vLLM writes a whole call's JSON anew.
    assert json.loads(streamed.response.output[-1].arguments) == json.loads(call.arguments)
    conversation: Any = [
        *QUESTION,
        *(item.to_dict() for item in response.output),
        {"type": "function_call_output", "call_id": call.call_id, "output": "42"},
    ]
    off: Any = {"extra_body": {"thinking": {"type": "disabled"}}, "tool_choice": "none"}
    answer = client.responses.create(**fields, **off, input=conversation)
    assert answer.usage is not None
    assert answer.usage.input_tokens > response.usage.input_tokens
    assert [item.type for item in answer.output] == ["message"]
    counted = client.responses.input_tokens.count(model="s1", input=conversation, tools=[tool], tool_choice="none")
    assert counted.input_tokens == answer.usage.input_tokens


def test_a_responses_text_obeys_the_schema_and_its_effort_is_the_servers(client: openai.OpenAI) -> None:
    text: Any = {"format": {"type": "json_schema", "name": "verdict", "schema": SCHEMA, "strict": True}}
    fields = ASKED | {"max_output_tokens": 200, "text": text, "reasoning": {"effort": "low"}}
    response: Any = client.responses.create(**fields)
    check_verdict(response.output_text)
    assert response.thinking["budget"]["max_tokens"] == EFFORT["low"]


@pytest.mark.parametrize(
    ("fields", "error", "named"),
    [
        ({"model": "unknown"}, openai.NotFoundError, "model"),
        ({"previous_response_id": "resp_1"}, openai.BadRequestError, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, openai.BadRequestError, "tools.0.type"),
        ({"reasoning": {"effort": "huge"}}, openai.BadRequestError, "reasoning.effort"),
        ({"extra_body": {"thinking": {"min_tokens": 90}}}, openai.BadRequestError, "thinking.min_tokens"),
        ({"extra_body": {"thinking_tokens": 90}}, openai.BadRequestError, "thinking_tokens"),
        ({"temperature": -1.0}, openai.BadRequestError, "temperature"),
        ({"max_output_tokens": 0}, openai.BadRequestError, "max_output_tokens"),
    ],
)
def test_a_responses_errors(client: openai.OpenAI, fields: dict[str, Any], error: Any, named: str) -> None:
    for stream in (False, True):
        with pytest.raises(error) as caught:
            client.responses.create(**(ASKED | fields), stream=stream)
        assert caught.value.param == named


def test_an_alias_stands_for_a_model(client: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    asked: Any = {"model": "gpt-5"}
    assert client.chat.completions.create(**(SHORT | asked)).model == "gpt-5"
    assert {chunk.model for chunk in client.chat.completions.create(**(SHORT | asked), stream=True)} == {"gpt-5"}
    assert claude.messages.create(**(SHORT | asked)).model == "gpt-5"
    with claude.messages.stream(**(SHORT | asked)) as stream:
        assert stream.get_final_message().model == "gpt-5"
    assert client.responses.create(**(ASKED | asked)).model == "gpt-5"
    assert client.models.retrieve("gpt-5").id == "gpt-5"
    cards = {card.id: card for card in client.models.list()}
    metadata: Any = cards["s1"].to_dict()["metadata"]
    assert metadata["aliases"] == ["gpt-*"]
    assert 0 < time.time() - cards["s1"].created < 3600
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**(SHORT | {"model": "gpt"}))


@pytest.mark.parametrize("kind", ["chat", "completions"])
def test_a_streams_usage_is_that_of_the_whole_response(client: openai.OpenAI, kind: str) -> None:
    fields: dict[str, Any] = {"model": "s1", "max_tokens": 60, "temperature": 0.0}
    fields |= {"extra_body": {"thinking": {"max_tokens": 12}}}
    # Longer than a block of the cache.
    asked = "What is 12 + 30? " * 40
    create: Any = client.completions.create if kind == "completions" else client.chat.completions.create
    fields |= {"prompt": asked} if kind == "completions" else {"messages": [{"role": "user", "content": asked}]}
    create(**fields)
    whole = create(**fields).usage
    (*_, last) = create(**fields, stream=True, stream_options={"include_usage": True})
    assert last.usage.to_dict() == {
        **whole.to_dict(),
        "prompt_tokens_details": {"cached_tokens": whole.prompt_tokens_details.cached_tokens},
    }
    assert 0 < whole.completion_tokens_details.reasoning_tokens <= 12
    assert 0 < whole.prompt_tokens_details.cached_tokens < whole.prompt_tokens
    if kind == "chat":
        fields = {"model": "s1", "input": asked, "max_output_tokens": 60, "extra_body": fields["extra_body"]}
        usage = client.responses.create(**fields, temperature=0.0).usage
        assert usage is not None
        assert usage.input_tokens_details.cached_tokens == whole.prompt_tokens_details.cached_tokens
        assert usage.total_tokens == whole.total_tokens
