"""REBASE and the rewards it grows by: how width is shared, what is asked, and what is counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from s1ray.errors import UnreachableError
from s1ray.evaluation.strategies.base import Sampling
from s1ray.evaluation.strategies.best_by_reward import BestByReward
from s1ray.evaluation.strategies.cost import Metered
from s1ray.evaluation.strategies.rebase import Rebase, balanced
from s1ray.evaluation.strategies.rewards import RewardEndpoint, aggregated, try_rewards
from s1ray.generation import GenerationError, GenerationRequest
from s1ray.miniature import BASE_MODEL_DIR
from s1ray.schemas import Completion, Question

QUESTION = Question(id="q", question="What is 12 + 30?", answer="42", source="test")


def reward_of(step: str) -> float:
    """The test's idea of a good step."""
    return 0.9 if "good" in step else 0.1


@pytest.fixture(scope="module")
def rewards() -> Iterator[tuple[str, list[Any]]]:
    """An endpoint that likes good steps, and what it was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append(body)
            answer: Any = {"scores": [reward_of(step) for step in body["steps"]], "usage": {"total_tokens": 10}}
            status = 200 if self.path == "/v1/rewards" else 501
            if "refuse" in body["question"] or "refuse" in body["steps"]:
                status, answer = 400, {"error": {"message": "steps: too long"}}
            if "few" in body["question"]:
                answer = {"scores": []}
            if body["question"].startswith("{"):
                answer = json.loads(body["question"])
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", asked
    server.shutdown()
    thread.join()
    server.server_close()


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
    st.integers(1, 40),
    st.floats(0.01, 2),
)
def test_all_of_the_width_is_shared_out_and_the_better_never_get_less(
    values: list[float], width: int, temperature: float
) -> None:
    shares = balanced(values, width, temperature)
    assert sum(shares) == width
    assert all(share >= 0 for share in shares)
    best = max(range(len(values)), key=values.__getitem__)
    assert shares[best] == max(shares) or abs(values[shares.index(max(shares))] - values[best]) < 1e-6


def test_shares_follow_the_softmax() -> None:
    # e^(0.2/0.2) : e^0 = 2.718 : 1 of 8 = 5.85 : 2.15, rounded up from the best on.
    assert balanced([0.5, 0.7], 8, 0.2) == [2, 6]
    assert balanced([0.5, 0.5, 0.5], 7, 0.2) == [3, 2, 2]
    assert balanced([1.0, 0.0], 4, 0.01) == [4, 0]


def test_rewards_are_taken_together_in_four_ways() -> None:
    scores = [0.5, 0.8, 0.2]
    found = [aggregated(scores, how) for how in ("last", "min", "mean", "product")]
    assert found == pytest.approx([0.2, 0.2, 0.5, 0.08])
    assert aggregated([], "product") == 0


class Stepping:
    """Writes steps as a script says: by the step's number and the sample's, a text and whether the thinking ends."""

    def __init__(self, script: Any) -> None:
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(BASE_MODEL_DIR)
        self.script, self.seen = script, list[GenerationRequest]()

    async def complete(self, request: GenerationRequest) -> Completion:
        self.seen.append(request)
        prompt = self.tokenizer.decode(request.prompt_ids, skip_special_tokens=False)
        assert request.continues is not None
        thought = prompt.partition("<|im_start|>think")[2]
        if request.continues.of == "answer":
            text = " Final Answer: 42<|im_end|>" if "good" in thought else " Final Answer: 7<|im_end|>"
        else:
            text = self.script(thought.count("\n") - 1, len(self.seen))
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        is_thinking = request.continues.of == "thinking"
        return Completion(
            id=request.id,
            thinking="",
            answer="",
            prompt_tokens=len(request.prompt_ids or ()),
            thinking_tokens=len(ids) if is_thinking else 0,
            answer_tokens=0 if is_thinking else len(ids),
            output_ids=ids,
        )

    async def close(self) -> None: ...


def rebase(url: str, **settings: Any) -> Rebase:
    return Rebase.model_validate(
        {"reward": {"base_url": url}, "weights": "miniature-base", "width": 4, "delimiter": "\n", **settings}
    )


def test_the_tree_grows_where_the_reward_is(rewards: tuple[str, list[Any]]) -> None:
    url, asked = rewards

    def script(depth: int, number: int) -> str:
        if depth == 0:
            return "good start\n" if number == 1 else "bad start\n"
        return "so it is<|im_start|>" if depth == 2 else "further\n"

    model = Stepping(script)
    meter, before = Metered(model), len(asked)
    arm = rebase(url, balance=0.05)
    completion = asyncio.run(arm(meter, QUESTION, 0, Sampling(answer_tokens=50), seed=0))
    assert completion.answer == " Final Answer: 42"
    assert (completion.thinking, completion.end_forced) == ("good start\nfurther\nso it is", None)
    steps = [request for request in model.seen if request.continues and request.continues.of == "thinking"]
    # Four at each of three depths; the one good start got all of the second's width.
    assert len(steps) == 12
    assert len(model.seen) == 16 == meter.cost.calls <= arm.requests
    assert meter.cost.reward_tokens == 10 * (len(asked) - before)
    assert len({request.seed for request in model.seen}) == 16
    assert 0 < meter.cost.thinking_tokens <= (arm.limits[1] or 0)


def test_a_path_that_never_ends_is_ended_at_the_depth_and_at_the_maximum(rewards: tuple[str, list[Any]]) -> None:
    model = Stepping(lambda depth, number: "good step\n")
    deep = asyncio.run(rebase(rewards[0], depth=3)(model, QUESTION, 0, Sampling(answer_tokens=50), seed=0))
    assert deep.end_forced == "depth"
    assert len([each for each in model.seen if each.continues and each.continues.of == "answer"]) == 4
    assert len(model.seen) == 4 * 4
    none = Stepping(lambda depth, number: "good step\n")
    empty = asyncio.run(rebase(rewards[0], max_tokens=1)(none, QUESTION, 0, Sampling(answer_tokens=50), seed=0))
    assert empty.end_forced == "budget"
    assert [each.continues and each.continues.of for each in none.seen] == ["answer"] * 4
    short = Stepping(lambda depth, number: "good")
    completion = asyncio.run(rebase(rewards[0], max_tokens=2)(short, QUESTION, 0, Sampling(answer_tokens=50), seed=0))
    assert {each.max_tokens for each in short.seen if each.continues and each.continues.of == "thinking"} == {1}
    assert (completion.answer.strip(), completion.end_forced) == ("Final Answer: 42", "budget")


def test_best_by_reward_takes_the_response_with_the_best_steps(rewards: tuple[str, list[Any]]) -> None:
    class Said:
        def __init__(self, *thoughts: str) -> None:
            self.thoughts = list(thoughts)

        async def complete(self, request: GenerationRequest) -> Completion:
            thinking = self.thoughts.pop(0)
            return Completion(
                id=request.id,
                thinking=thinking,
                answer="Final Answer: 42 good" if "good" in thinking else "Final Answer: 7",
                prompt_tokens=1,
                thinking_tokens=1,
                answer_tokens=1,
            )

        async def close(self) -> None: ...

    url, asked = rewards
    thoughts = "bad\n\nbad", "bad\n\ngood", "bad"
    arm = BestByReward(reward=RewardEndpoint(base_url=url), n=3)
    meter = Metered(Said(*thoughts))
    assert asyncio.run(arm(meter, QUESTION, 0, Sampling(), seed=0)).thinking == "bad\n\ngood"
    assert meter.cost.reward_tokens == 30
    assert {"question": QUESTION.question, "steps": ["bad", "good", "Final Answer: 42 good"]} in asked
    weighted = arm.model_copy(update={"vote": True})
    assert asyncio.run(weighted(Said(*thoughts), QUESTION, 0, Sampling(), seed=0)).answer == "Final Answer: 42 good"
    assert (arm.name, weighted.name) == ("reward last of 3", "reward last vote of 3")


def test_what_was_read_is_counted_where_one_of_the_responses_cannot_be_scored(
    rewards: tuple[str, list[Any]],
) -> None:
    class Said:
        def __init__(self) -> None:
            self.thoughts = ["good", "refuse", "good", "bad"]

        async def complete(self, request: GenerationRequest) -> Completion:
            return Completion(
                id=request.id,
                thinking=self.thoughts.pop(),
                answer="Final Answer: 42",
                prompt_tokens=1,
                thinking_tokens=1,
                answer_tokens=1,
            )

        async def close(self) -> None: ...

    meter = Metered(Said())
    arm = BestByReward(reward=RewardEndpoint(base_url=rewards[0]), n=4)
    with pytest.raises(GenerationError, match="steps: too long"):
        asyncio.run(arm(meter, QUESTION, 0, Sampling(), seed=0))
    assert (meter.cost.calls, meter.cost.uncounted_calls, meter.cost.reward_tokens) == (4, 1, 30)


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ("refuse", "steps: too long"),
        ("few", "0 scores for 1 steps"),
        ('{"scores": "1"}', "no list of scores for 1 steps"),
        ('{"scores": {"1": 1}}', "no list of scores for 1 steps"),
        ('{"scores": [true]}', r"scores\[0\] is True, no number from 0 to 1"),
        ('{"scores": [NaN]}', r"scores\[0\] is nan, no number from 0 to 1"),
        ('{"scores": [1], "usage": {"total_tokens": Infinity}}', "total_tokens is a number, not a count"),
        ('{"scores": [1], "usage": {"total_tokens": -5}}', "total_tokens is a number, not a count"),
    ],
)
def test_an_endpoint_that_gives_no_rewards_fails_in_words(
    rewards: tuple[str, list[Any]], question: str, why: str
) -> None:
    with pytest.raises(GenerationError, match=why):
        asyncio.run(RewardEndpoint(base_url=rewards[0]).score_all([(question, ["a"])]))


def test_a_reward_model_that_is_not_there_is_found_before_anything_is_asked(rewards: tuple[str, list[Any]]) -> None:
    def arm(url: str) -> BestByReward:
        return BestByReward(reward=RewardEndpoint(base_url=url), n=2)

    try_rewards([[arm(rewards[0])], [arm(rewards[0])]])
    with pytest.raises(UnreachableError, match=r"arms: reward.base_url: .*status 501.* start a reward model there"):
        try_rewards([[arm(rewards[0].removesuffix("/v1") + "/nowhere")]])
    for url in ("http://", "ftp://a", "http://[", "http://a b"):
        with pytest.raises(ValidationError, match=r"must begin with http|not an address"):
            arm(url)
