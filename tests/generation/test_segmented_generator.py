"""Budget forcing from outside over HTTP, against a server that says what a script says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from s1ray.generation import GenerationError, GenerationRequest, complete_all
from s1ray.generation.base import Call
from s1ray.generation.segmented import SegmentedGenerator
from s1ray.miniature import BASE_MODEL_DIR
from s1ray.schemas import Completion
from s1ray.thinking import ThinkingBudget, ThinkingFormat

transformers = pytest.importorskip("transformers")

Change = Callable[[dict[str, Any]], dict[str, Any]]

URL = "http://model.test/v1"
MESSAGES = [{"role": "user", "content": "2 + 2?"}]
TOKENIZER = transformers.AutoTokenizer.from_pretrained(BASE_MODEL_DIR)
TURN, EOS = TOKENIZER.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])


class Server:
    """`vllm serve`, as far as the driver needs it: says `script` id by id, whatever it is asked.

    `change` may spoil an answer.
    """

    def __init__(self, script: str, change: Change = lambda choice: choice, card: dict[str, Any] | None = None) -> None:
        self.script = TOKENIZER.encode(script, add_special_tokens=False)
        self.change, self.card = change, {"id": "m", "max_model_len": 400} if card is None else card
        self.said = 0
        self.bodies: list[dict[str, Any]] = []
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if request.url.path.endswith("/models"):
            return httpx.Response(200, json={"data": [self.card]})
        body = json.loads(request.content)
        self.bodies.append(body)
        ids: list[int] = []
        reason, stop = "length", None
        while len(ids) < body["max_tokens"]:
            token = self.script[self.said] if self.said < len(self.script) else EOS
            self.said += 1
            if str(token) not in body.get("logit_bias", {}):
                ids.append(token)
            if token in (*body["stop_token_ids"], EOS):
                reason, stop = "stop", None if token == EOS else token
                break
        choice = {"index": 0, "text": "", "finish_reason": reason, "stop_reason": stop, "token_ids": ids}
        return httpx.Response(200, json={"choices": [self.change(choice)], "usage": {}})


def ask(server: Server, request: GenerationRequest | None = None, **settings: Any) -> Completion:
    async def run() -> Completion:
        made: dict[str, Any] = {
            "weights": "miniature-base",
            "attempts": 1,
            "transport": httpx.MockTransport(server),
        } | settings
        async with SegmentedGenerator(URL, "m", **made) as generator:
            return await generator.complete(request or GenerationRequest(id="q-0", messages=MESSAGES))

    return asyncio.run(run())


def test_every_segment_is_a_call_that_is_told_with_its_number_and_count() -> None:
    class Metered(Server):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            answer = super().__call__(request).json()
            body = json.loads(request.content) if request.content else {}
            usage = {"prompt_tokens": len(body.get("prompt", ())), "completion_tokens": 3}
            return httpx.Response(200, json=answer | {"usage": usage})

    told: list[Call] = []
    server = Metered("one two<|im_start|> three<|im_start|>\nfour<|im_end|>")
    request = GenerationRequest(id="q-0", messages=MESSAGES, budget=ThinkingBudget(max_tokens=90, waits=1))
    assert ask(server, request, on_call=told.append).answer == "four"
    assert [(call.number, call.outcome) for call in told] == [
        (number, outcome) for number in (1, 2, 3) for outcome in ("sent", "answered")
    ]
    counted = [(call.usage.prompt_tokens, call.usage.completion_tokens) for call in told if call.usage is not None]
    assert counted == [(len(body["prompt"]), 3) for body in server.bodies]


def test_a_wait_and_an_answer_are_three_calls() -> None:
    server = Server("one two<|im_start|> three<|im_start|>\nfour<|im_end|>")
    request = GenerationRequest(
        id="q-0", messages=MESSAGES, budget=ThinkingBudget(max_tokens=90, waits=1), temperature=0.7, top_p=0.9, seed=4
    )
    row = ask(server, request, extra_body={"user": "u"})
    assert (row.id, row.thinking, row.answer, row.finish_reason) == ("q-0", "one twoWait three", "four", "stop")
    assert (row.waits, row.end_forced, row.error) == (1, None, None)
    output = TOKENIZER.encode(
        "<|im_start|>think" + "one twoWait three" + "<|im_start|>answer\nfour<|im_end|>", add_special_tokens=False
    )
    assert TOKENIZER.decode(row.output_ids) == TOKENIZER.decode(output)
    first, second, third = server.bodies
    prompt = TOKENIZER.encode(
        "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n<|im_start|>think", add_special_tokens=False
    )
    assert first["prompt"] == prompt
    assert second["prompt"][: len(prompt)] == prompt
    assert third["prompt"][-2:] == list(TOKENIZER.encode("<|im_start|>answer", add_special_tokens=False))
    assert first["max_tokens"] == 90
    assert second["max_tokens"] == 90 - (len(second["prompt"]) - len(prompt))
    assert row.prompt_tokens == len(prompt) - 2
    for body in server.bodies:
        assert body["return_token_ids"] is True
        # No header gets into the answer; while thinking it is an attempt to stop.
        assert body.get("logit_bias") == ({str(TURN): -100.0} if body is third else None)
        sampling = {name: body[name] for name in ("model", "temperature", "top_p", "top_k", "min_p", "user")}
        assert sampling == {"model": "m", "temperature": 0.7, "top_p": 0.9, "top_k": 0, "min_p": 0.0, "user": "u"}
        assert body["repetition_penalty"] == 1.0
        # <|endoftext|> ends the miniature's responses, too: only generation_config.json says so.
        assert {996, EOS} <= set(body["stop_token_ids"])
    assert TURN in first["stop_token_ids"]
    assert len({body["seed"] for body in server.bodies}) == 3


def test_a_suppressed_stop_is_asked_again_under_a_bias() -> None:
    server = Server("one<|im_start|> two three<|im_start|>\nfour<|im_end|>")
    row = ask(server, GenerationRequest(id="q", messages=MESSAGES, budget=ThinkingBudget(waits=1, wait_text=None)))
    assert (row.thinking, row.waits) == ("one two three", 1)
    assert [body["max_tokens"] for body in server.bodies][1] == 1
    assert server.bodies[1]["logit_bias"] == {str(i): -100.0 for i in (996, TURN, EOS)}


def test_without_a_budget_there_is_one_call_and_nothing_is_forced() -> None:
    server = Server("<|im_start|>think\none<|im_start|>answer\nfour<|im_end|>")
    row = ask(server, GenerationRequest(id="q", prompt_ids=[5, 6], max_tokens=100, seed=3))
    assert (row.thinking, row.answer, row.waits) == ("one", "four", 0)
    (body,) = server.bodies
    assert (body["prompt"], body["max_tokens"], body["seed"]) == ([5, 6], 100, 3)


def test_the_context_is_asked_for_once_and_bounds_the_response() -> None:
    server = Server("so " * 2000)

    async def run() -> Any:
        transport = httpx.MockTransport(server)
        async with SegmentedGenerator(URL, "m", weights="miniature-base", transport=transport) as generator:
            requests = [
                GenerationRequest(id=str(i), prompt_ids=[7] * 100, budget=ThinkingBudget(answer_reserve=40))
                for i in range(5)
            ]
            return [row async for row in complete_all(generator, requests, concurrency=5)]

    rows = asyncio.run(run())
    assert [(row.error, len(row.output_ids), row.end_forced) for row in rows] == [(None, 300, "context")] * 5
    assert server.asked.count("/v1/models") == 1


@pytest.mark.parametrize("card", [{"id": "m"}, {"id": "other", "max_model_len": 9}])
def test_a_server_that_keeps_its_context_to_itself_needs_one_given(card: dict[str, Any]) -> None:
    with pytest.raises(GenerationError, match="does not say how long the context of 'm' is; give it as `context`"):
        ask(Server("a", card=card))
    server = Server("four<|im_end|>", card=card)
    assert ask(server, context=400).answer == "four"
    assert "/v1/models" not in server.asked


def test_a_prompt_that_fills_the_context_is_refused() -> None:
    with pytest.raises(GenerationError, match=r"'q'.*400 tokens, which fills the model's context of 400"):
        ask(Server("a"), GenerationRequest(id="q", prompt_ids=[1] * 400))


def changed(**fields: Any) -> Change:
    return lambda choice: {k: v for k, v in (choice | fields).items() if v != "gone"}


BANNED = ThinkingBudget(ban=("one",))


@pytest.mark.parametrize(
    ("change", "budget", "message"),
    [
        (changed(token_ids="gone"), BANNED, "no token ids"),
        (changed(token_ids=None), None, "no token ids"),
        (changed(thinking={"thinking_tokens": 3}), BANNED, "forces budgets itself.*driver: engine"),
        (
            changed(token_ids=TOKENIZER.encode("one"), finish_reason="length"),
            BANNED,
            r"'q'.*http://model.test/v1: .*in spite of a ban.*logit_bias",
        ),
        (changed(token_ids=[5], finish_reason="stop"), BANNED, r"stopped at token 5, .*eos_ids"),
        (lambda choice: None, BANNED, "not OpenAI's"),
    ],
)
def test_a_server_that_cannot_do_it_is_named_with_what_it_lacks(
    change: Change, budget: ThinkingBudget | None, message: str
) -> None:
    with pytest.raises(GenerationError, match=message):
        ask(Server("one two " * 50, change), GenerationRequest(id="q", messages=MESSAGES, budget=budget))


def test_a_stop_id_that_the_server_leaves_out_is_put_back() -> None:
    def without(choice: dict[str, Any]) -> dict[str, Any]:
        stopped = choice["stop_reason"] is not None
        return choice | {"token_ids": choice["token_ids"][:-1] if stopped else choice["token_ids"]}

    script = "one two<|im_start|>\nfour<|im_end|>"
    request = GenerationRequest(id="q", messages=MESSAGES, budget=ThinkingBudget())
    assert ask(Server(script, without), request).output_ids == ask(Server(script), request).output_ids


def test_a_strategy_of_the_servers_is_not_left_out_in_silence() -> None:
    with pytest.raises(GenerationError, match="'q': strategy: only a server of s1ray's carries it out"):
        ask(Server("a"), GenerationRequest(id="q", messages=MESSAGES, strategy={"votes": {}}))


def test_a_budget_that_the_format_cannot_express_fails_its_request_only() -> None:
    with pytest.raises(GenerationError, match=r"'q': ban: .*token that ends the thinking"):
        ask(Server("a"), GenerationRequest(id="q", messages=MESSAGES, budget=ThinkingBudget(ban="<|im_end|>")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "no/such/folder/here"}, "weights: no/such/folder/here: its tokenizer cannot be loaded"),
        ({"thinking_format": "qwen9"}, "no thinking format is called 'qwen9'"),
        ({"thinking_format": ThinkingFormat.preset("qwen3")}, "no token of its own"),
    ],
)
def test_what_does_not_fit_is_found_when_the_generator_is_made(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(Server("a"), **settings)
