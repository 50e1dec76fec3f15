"""What the served application writes behind the end of the thinking: limits, stop strings, little room."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from s1ray.serving.local import ServedApp
from tests.support.served import QUESTION

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]

MARKERS = ("<|im_start|>", "<|im_end|>")


def post(served: ServedApp, **fields: Any) -> httpx.Response:
    body = {"model": "s1", "messages": QUESTION, "temperature": 0, "max_tokens": 120} | fields
    return httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=120)


def whole(served: ServedApp, **fields: Any) -> dict[str, Any]:
    response = post(served, **fields)
    assert response.status_code == 200, response.text
    choice: dict[str, Any] = response.json()["choices"][0]
    return choice


def streamed(served: ServedApp, **fields: Any) -> tuple[str, str, dict[str, Any]]:
    """Thinking, content and the last choice of a stream."""
    response = post(served, stream=True, **fields)
    assert response.status_code == 200, response.text
    thinking = content = ""
    last: dict[str, Any] = {}
    for line in response.text.splitlines():
        if not line.startswith("data: {"):
            continue
        for choice in json.loads(line.removeprefix("data: "))["choices"]:
            thinking += choice["delta"].get("reasoning") or ""
            content += choice["delta"].get("content") or ""
            last = choice if choice.get("finish_reason") else last
    return thinking, content, last


@pytest.mark.parametrize("maximum", [0, 3, 16, 40])
def test_a_cut_leaves_no_marker_and_an_answer(served: ServedApp, maximum: int) -> None:
    choice = whole(served, thinking={"max_tokens": maximum})
    message, thinking = choice["message"], choice["thinking"]
    assert message["content"].removeprefix("Final Answer:").strip()
    assert not any(marker in message["content"] for marker in MARKERS)
    assert thinking["thinking_tokens"] <= maximum
    assert streamed(served, thinking={"max_tokens": maximum})[1] == message["content"]


def test_an_answers_maximum_cuts_it_and_says_so(served: ServedApp) -> None:
    # EOS cannot be an answer's only token, so one token is always too few.
    fields = {"thinking": {"max_tokens": 8, "answer_max_tokens": 1}}
    choice = whole(served, **fields)
    assert choice["thinking"]["answer_tokens"] == 1
    assert choice["thinking"]["answer_cut"]
    assert choice["finish_reason"] == "length"
    _, content, last = streamed(served, **fields)
    assert (content, last["finish_reason"]) == (choice["message"]["content"], "length")
    assert last["thinking"] == choice["thinking"]


@pytest.mark.parametrize("stop", ["\n", ["\n", "So"], "e"])
def test_stop_strings_act_on_the_answer_only(served: ServedApp, stop: Any) -> None:
    fields = {"thinking": {"max_tokens": 24}, "max_tokens": 200}
    free, stopped = whole(served, **fields), whole(served, stop=stop, **fields)
    assert stopped["message"]["reasoning"] == free["message"]["reasoning"]
    content = stopped["message"]["content"]
    assert free["message"]["content"].startswith(content)
    own = content.removeprefix("Final Answer:").lstrip()
    assert own, "the forced beginning and the space behind it stop nothing"
    assert not any(text in own for text in stop)
    thinking, shown, _ = streamed(served, stop=stop, **fields)
    assert (thinking, shown) == (stopped["message"]["reasoning"], content)


@pytest.mark.parametrize("room", [*range(1, 16), 40])
def test_little_room_gives_an_answer_or_a_clear_refusal(served: ServedApp, room: int) -> None:
    for stream in (False, True):
        response = post(served, max_tokens=room, stream=stream)
        if response.status_code == 400:
            assert "max_tokens" in response.json()["error"]["message"]
        elif stream:
            assert streamed(served, max_tokens=room)[1].strip()
        else:
            assert response.json()["choices"][0]["message"]["content"].strip()


def test_a_begun_answer_is_continued(served: ServedApp) -> None:
    messages = [*QUESTION, {"role": "assistant", "content": "Final Answer: "}]
    choice = whole(served, messages=messages, continue_final_message=True, add_generation_prompt=False)
    assert choice["message"]["reasoning"] is None
    assert choice["message"]["content"].strip()
    assert choice["thinking"]["thinking_tokens"] == 0


def test_thinking_of_the_turn_is_taken_off_the_budget(served: ServedApp) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    earlier = {"role": "assistant", "content": "", "reasoning": "12 + 30 = 42 so", "tool_calls": [call]}
    messages = [*QUESTION, earlier, {"role": "tool", "tool_call_id": "c1", "content": "42"}]
    turn = whole(served, messages=messages, thinking={"max_tokens": 30, "scope": "turn"})["thinking"]
    alone = whole(served, messages=messages, thinking={"max_tokens": 30})["thinking"]
    assert turn["spent"] > 0
    assert turn["limit"] == 30 - turn["spent"]
    assert (alone["spent"], alone["limit"]) == (0, 30)


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_model_that_may_think_again_does_so_on_its_budget(served: ServedApp, temperature: float) -> None:
    for seed in range(6):
        fields = {"thinking": {"max_tokens": 40, "reopen": "allow"}, "temperature": temperature, "seed": seed}
        choice = whole(served, max_tokens=200, **fields)
        content, thinking = choice["message"]["content"] or "", choice["thinking"]
        assert not any(marker in content for marker in MARKERS)
        assert thinking["thinking_tokens"] <= 40
        reasoning, shown, last = streamed(served, max_tokens=200, **fields)
        assert (reasoning, shown) == (choice["message"]["reasoning"] or "", content)
        assert last["thinking"] == thinking


TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"n": {"enum": [1, 2]}},
            "required": ["n"],
            "additionalProperties": False,
        },
    },
}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
@pytest.mark.parametrize("budget", [0, 20])
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_forced_tools_end_in_well_formed_calls(
    served: ServedApp, tokenizer: Any, choice: Any, budget: int, temperature: float
) -> None:
    fields = {"tools": [TOOL], "tool_choice": choice, "thinking": {"max_tokens": budget}, "max_tokens": 400}
    # "required" allows more calls behind the first: a model that ends where it may.
    fields |= {"temperature": temperature, "seed": 5, "logit_bias": {str(tokenizer.eos_token_id): 50}}
    answered = whole(served, **fields)
    calls = answered["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["add"]
    assert json.loads(calls[0]["function"]["arguments"])["n"] in (1, 2)
    assert answered["thinking"]["thinking_tokens"] <= budget
