"""The served application from outside: Ray Serve, vLLM, the openai client, and every budget kept to the token."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from s1ray.config import validate_config
from s1ray.serving.config import DEFAULT_EFFORT, ServingConfig
from s1ray.serving.local import ServedApp, ServingError, serve_locally
from s1ray.serving.protocol.aliases import ALIASES
from s1ray.thinking import ThinkingBudget, ThinkingFormat
from tests.support.served import CONTEXT, EFFORT, QUESTION, chat, check_ids

pytestmark = pytest.mark.end_to_end


@pytest.mark.parametrize("budget", [0, 1, 7, 40])
def test_chat_keeps_its_budget_and_shows_thinking_apart(client: openai.OpenAI, tokenizer: Any, budget: int) -> None:
    for seed in range(4):
        response = chat(client, {"max_tokens": budget}, seed=seed)
        choice = response.choices[0]
        thinking = choice.thinking
        check_ids(tokenizer, choice.token_ids, thinking)
        assert thinking["budget"]["max_tokens"] == budget
        assert response.usage.completion_tokens_details.reasoning_tokens == thinking["thinking_tokens"] <= budget
        message = choice.message
        assert message.reasoning == message.reasoning_content
        if budget == 0:
            assert message.reasoning is None
        for text in (message.reasoning or "", message.content or ""):
            assert "<|im_start|>" not in text
        if thinking["end_forced"]:
            assert message.content.startswith("Final Answer:")


def test_a_wait_is_put_where_the_model_would_stop(
    client: openai.OpenAI, tokenizer: Any, always_stops: dict[str, int]
) -> None:
    thinking = {"max_tokens": 200, "waits": 3, "wait_text": ["Wait", "Hmm"]}
    response = chat(client, thinking, logit_bias=always_stops, temperature=0.0)
    choice = response.choices[0]
    check_ids(tokenizer, choice.token_ids, choice.thinking)
    assert choice.thinking["waits"] == 3
    assert choice.thinking["end_forced"] is None
    texts = [choice.message.reasoning.count(word) for word in ("Wait", "Hmm")]
    assert texts == [2, 1]


def test_a_minimum_is_reached(client: openai.OpenAI, always_stops: dict[str, int]) -> None:
    thinking = {"min_tokens": 30, "max_tokens": 60, "wait_text": None}
    response = chat(client, thinking, logit_bias=always_stops)
    assert response.choices[0].thinking["thinking_tokens"] == 30


def test_chat_stream_gives_the_whole_response(client: openai.OpenAI, never_stops: dict[str, int]) -> None:
    fields: dict[str, Any] = {"temperature": 0.0, "max_tokens": 60, "logit_bias": never_stops}
    whole = chat(client, {"max_tokens": 20}, **fields)
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(chat(client, {"max_tokens": 20}, **fields, **options))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    reasoning = "".join(getattr(delta, "reasoning", None) or "" for delta in deltas)
    content = "".join(delta.content or "" for delta in deltas)
    assert reasoning == whole.choices[0].message.reasoning
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == reasoning
    assert content == whole.choices[0].message.content
    ids = [i for chunk in chunks if chunk.choices for i in getattr(chunk.choices[0], "token_ids", None) or []]
    assert ids == whole.choices[0].token_ids
    last = next(chunk for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason)
    assert last.choices[0].thinking == whole.choices[0].thinking
    assert chunks[-1].usage.completion_tokens_details.reasoning_tokens == 20
    assert chunks[-1].usage.completion_tokens == len(ids)


def test_ids_are_shown_only_to_those_who_ask(client: openai.OpenAI) -> None:
    create = client.chat.completions.create
    response: Any = create(model="s1", messages=QUESTION, max_tokens=10, extra_body={"thinking": {"max_tokens": 3}})
    assert response.choices[0].token_ids is None
    assert response.prompt_token_ids is None
    for chunk in create(model="s1", messages=QUESTION, max_tokens=10, stream=True):
        assert "token_ids" not in chunk.model_dump_json()
        assert all(choice.finish_reason or choice.delta.model_dump(exclude_none=True) for choice in chunk.choices)


def test_hidden_reasoning_is_still_counted(client: openai.OpenAI, never_stops: dict[str, int]) -> None:
    extra = {"thinking": {"max_tokens": 12}, "include_reasoning": False}
    fields: dict[str, Any] = {"model": "s1", "messages": QUESTION, "max_tokens": 40, "temperature": 0}
    fields |= {"extra_body": extra, "logit_bias": never_stops}
    response = client.chat.completions.create(**fields)
    assert response.choices[0].thinking["thinking_tokens"] == 12
    assert response.choices[0].message.reasoning is None
    chunks = list(client.chat.completions.create(**fields, stream=True))
    assert not any(getattr(c.choices[0].delta, "reasoning", None) for c in chunks if c.choices)
    content = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert content == response.choices[0].message.content


def test_completion_text_holds_both_and_thinking_holds_them_apart(
    client: openai.OpenAI, tokenizer: Any, never_stops: dict[str, int]
) -> None:
    prompt = tokenizer.apply_chat_template(QUESTION, tokenize=False, add_generation_prompt=True)
    extra = {"thinking": {"max_tokens": 15}, "return_token_ids": True}
    fields: dict[str, Any] = {"model": "s1", "prompt": prompt, "max_tokens": 60, "temperature": 0}
    fields |= {"extra_body": extra, "logit_bias": never_stops}
    choice = client.completions.create(**fields).choices[0]
    check_ids(tokenizer, choice.token_ids, choice.thinking)
    assert choice.text.startswith("<|im_start|>think")
    thinking, answer = ThinkingFormat.preset("s1").split(choice.text)
    assert (choice.thinking["text"].strip(), choice.thinking["answer"].strip()) == (thinking.strip(), answer.strip())
    chunks = list(client.completions.create(**fields, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == choice.text
    last = next(chunk for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason)
    assert last.choices[0].thinking == choice.thinking
    assert chunks[-1].usage.completion_tokens_details.reasoning_tokens == 15


def test_many_prompts_and_choices_each_keep_the_budget(client: openai.OpenAI, tokenizer: Any) -> None:
    prompts = [tokenizer.encode(f"{n} + {n} =") for n in range(3)]
    extra = {"thinking": {"max_tokens": 9}, "return_token_ids": True}
    response: Any = client.completions.create(
        model="s1", prompt=prompts, n=2, max_tokens=40, temperature=1, extra_body=extra
    )
    assert len(response.choices) == 6
    for choice in response.choices:
        check_ids(tokenizer, choice.token_ids, choice.thinking)
    total = sum(choice.thinking["thinking_tokens"] for choice in response.choices)
    assert response.usage.completion_tokens_details.reasoning_tokens == total


def test_a_completion_without_max_tokens_runs_beyond_openais_sixteen(
    client: openai.OpenAI, never_stops: dict[str, int]
) -> None:
    extra = {"thinking": {"max_tokens": 30}}
    response: Any = client.completions.create(model="s1", prompt="7 * 6 =", logit_bias=never_stops, extra_body=extra)
    assert response.usage.total_tokens == CONTEXT


@pytest.mark.second_model
def test_the_second_model_has_its_own_format_and_default_budget(client: openai.OpenAI, tokenizer: Any) -> None:
    response = chat(client, model="ponder")
    choice = response.choices[0]
    check_ids(tokenizer, choice.token_ids, choice.thinking, "ponder")
    assert choice.thinking["budget"]["max_tokens"] == 8
    assert choice.thinking["thinking_tokens"] <= 8
    assert "<|im_start|>" not in (choice.message.reasoning or "") + (choice.message.content or "")


def test_concurrent_requests_each_get_their_own_budget(served: ServedApp, tokenizer: Any) -> None:
    import asyncio

    async def run() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="unused", timeout=120) as client:
            create = client.chat.completions.create
            calls = [
                create(
                    model="s1",
                    messages=QUESTION,
                    max_tokens=150,
                    temperature=1.0,
                    extra_body={"thinking": {"max_tokens": 3 * n, "waits": int(n > 5)}, "return_token_ids": True},
                )
                for n in range(32)
            ]
            return await asyncio.gather(*calls)

    for n, response in enumerate(asyncio.run(run())):
        assert response.choices[0].thinking["budget"]["max_tokens"] == 3 * n
        check_ids(tokenizer, response.choices[0].token_ids, response.choices[0].thinking)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"thinking": {"waits": 1, "wait_text": "<|im_end|>"}}, "thinking.wait_text"),
        ({"thinking": {"end_text": "no delimiter"}}, "thinking.end_text"),
        pytest.param(
            {"thinking": {"max_tokens": 5, "min_tokens": 65}, "model": "ponder"},
            "thinking.min_tokens",
            marks=pytest.mark.second_model,
        ),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"messages": 5}, "messages"),
        ({"messages": ["hello"]}, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"logprobs": "many"}, "logprobs"),
        ({"tools": 3}, "tools"),
        ({"stop": ["answer"], "thinking": {"stop": True}}, "stop"),
        ({"stop": ["x"], "thinking": {"reopen": "allow"}}, "stop"),
        ({"thinking": {"waits": 1, "wait_text": ["a" * 501]}}, "thinking.wait_text"),
    ],
)
def test_a_bad_request_is_refused_by_name(served: ServedApp, body: dict[str, Any], field: str) -> None:
    request = {"model": "s1", "messages": QUESTION, "max_tokens": 10} | body
    response = httpx.post(f"{served.url}/v1/chat/completions", json=request, timeout=60)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"].startswith(field)
    assert field in error["message"]


@pytest.mark.second_model
def test_a_budget_above_the_maximum_is_clamped_and_said(client: openai.OpenAI) -> None:
    thinking = chat(client, {"max_tokens": 65}, model="ponder").choices[0].thinking
    assert (thinking["budget"]["max_tokens"], thinking["clamped_from"]) == (64, {"max_tokens": 65})
    assert thinking["thinking_tokens"] <= 64


def test_a_completion_does_not_lose_its_prompt_without_a_word(served: ServedApp) -> None:
    request = {"model": "s1", "prompt": "What is 1 + 1?", "echo": True, "max_tokens": 4}
    response = httpx.post(f"{served.url}/v1/completions", json=request, timeout=60)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "echo"
    for changes in ({"max_tokens": 0}, {"prompt": [1, 2, 3], "thinking": False}):
        response = httpx.post(f"{served.url}/v1/completions", json=request | changes, timeout=60)
        assert response.status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_hidden_thinking_is_not_told_by_logprobs(served: ServedApp, stream: bool) -> None:
    request = {"model": "s1", "messages": QUESTION, "max_tokens": 60, "logprobs": True, "stream": stream}
    hidden = request | {"thinking": {"max_tokens": 12}, "include_reasoning": False}
    response = httpx.post(f"{served.url}/v1/chat/completions", json=hidden, timeout=60)
    assert response.status_code == 200
    assert '"logprob"' not in response.text
    shown = httpx.post(f"{served.url}/v1/chat/completions", json=hidden | {"include_reasoning": True}, timeout=60)
    assert '"logprob"' in shown.text


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="unknown"):
        chat(client, model="unknown")


def test_an_unknown_path_or_model_card_is_not_found_in_openais_form(served: ServedApp) -> None:
    for path in ("v1/models/unknown", "nothing"):
        response = httpx.get(f"{served.url}/{path}", timeout=60)
        assert response.status_code == 404
        assert response.json()["error"]["code"] == 404


def test_broken_json_is_a_bad_request(served: ServedApp) -> None:
    response = httpx.post(
        f"{served.url}/v1/chat/completions", content="{", headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 400
    assert "error" in response.json()


@pytest.mark.second_model
def test_models_are_listed_with_their_formats_and_limits(client: openai.OpenAI) -> None:
    listed: Any = client.models.list()
    cards = {card.id: card.metadata for card in listed}
    assert cards["s1"]["thinking_format"] == "s1"
    assert cards["ponder"]["maximum_thinking_tokens"] == 64
    assert cards["s1"]["effort"] == EFFORT | {"minimal": 8, "xhigh": "auto", "max": "auto"}
    assert cards["ponder"]["effort"] == {name: n if n in (0, "auto") else 64 for name, n in DEFAULT_EFFORT.items()}


def test_the_api_description_documents_every_alias(served: ServedApp) -> None:
    schemas = httpx.get(f"{served.url}/openapi.json", timeout=60).json()["components"]["schemas"]
    for request in ("ChatRequest", "CompletionRequest", "MessagesRequest"):
        fields = schemas[request]["properties"]
        assert all(fields[name]["description"] and fields[name]["anyOf"] for name in ALIASES)
        thinking, forced_outside = fields["thinking"]["anyOf"][0]["anyOf"]
        assert forced_outside == {"const": False}
        assert set(ThinkingBudget.model_fields) < set(thinking["properties"])
        assert "budget_tokens" in thinking["properties"]


@pytest.mark.slow
def test_a_failing_engine_is_reported_in_time_and_stopped(served: ServedApp) -> None:
    broken = {
        "name": "broken",
        "model": "miniature-base",
        "device": "cpu",
        "start_attempts": 1,
        # What `serve check` lets pass.
        "engine_kwargs": {"hf_overrides": {"architectures": ["NoSuchForCausalLM"]}},
    }
    config = validate_config(ServingConfig, {"models": [broken]}, "test")
    with pytest.raises(ServingError, match="NoSuchForCausalLM"), serve_locally(config, start_timeout_s=1200):
        pytest.fail("an engine without a model came up")
    assert httpx.get(f"{served.url}/v1/models", timeout=60).status_code == 200
