"""Votes over a scripted engine: who is elected, who is stopped, and that nothing goes uncounted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("vllm", reason="needs vLLM")

from vllm import RequestOutput, SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.logprobs import FlatLogprobs
from vllm.outputs import CompletionOutput
from vllm.sampling_params import RequestOutputKind

from s1ray.serving.protocol.strategies import Votes
from s1ray.serving.replica.accounting import RequestRecord
from s1ray.serving.replica.engine_strategies import Strategies
from s1ray.serving.replica.vote_traces import candidates_of
from s1ray.serving.replica.votes import Voting
from s1ray.thinking import ThinkingBudget
from tests.support.plans import ANSWER, EOS, NEWLINE, PLAN, THINK, TURN, X

PROMPT = [X, NEWLINE]
FREE = PLAN.model_copy(update={"max_tokens": None, "waits": 0, "wait_texts": ()})


def response(thinking: int, answer: int) -> list[int]:
    """Ids of a response that thinks so long, and answers with this number."""
    return [TURN, THINK, *[X] * thinking, TURN, ANSWER, *[X] * answer, EOS]


def texts(thinking: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> tuple[str, str]:
    number = sum(list(part).count(X) for part in answers)
    return "", f"\\boxed{{{number}}}" if number else "nothing to say\nabout it"


class Engine:
    """Writes one token of every response in each step.

    Args:
        responses: their ids, by number.
        confidence: of each token of a response, by its number.
        fails: the number of a response that fails at its third token.
    """

    def __init__(
        self, responses: Sequence[Sequence[int]], *, confidence: Sequence[float] = (), fails: int | None = None
    ) -> None:
        self._responses, self._confidence, self._fails = responses, confidence, fails
        self._aborted: set[str] = set()
        self.tokens = self.running = 0
        self.params: dict[int, SamplingParams] = {}
        self.output_processor = SimpleNamespace(external_req_ids={}, request_states={})

    async def generate(
        self, prompt: Any, params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput]:
        number = int(request_id.rpartition("-")[2])
        self.params[number] = params
        ids = self._responses[number]
        self.running += 1
        try:
            for place, token in enumerate(ids):
                await asyncio.sleep(0.001)
                if number == self._fails and place == 2:
                    raise RuntimeError("the engine's fault")
                if request_id in self._aborted:
                    yield self._output([], "abort")
                    return
                self.tokens += 1
                logprobs = self._logprobs(number) if params.logprobs else None
                yield self._output([token], "stop" if place == len(ids) - 1 else None, logprobs)
        finally:
            self.running -= 1

    async def abort(self, names: str | list[str]) -> None:
        self._aborted |= {names} if isinstance(names, str) else set(names)

    def _logprobs(self, number: int) -> FlatLogprobs:
        flat, confidence = FlatLogprobs(), self._confidence[number]
        # The sampled token's own comes first and does not count.
        flat.append_fast([9, 1, 2], [-30.0, -confidence, -confidence], iter([99, 1, 2]), [None] * 3)
        return flat

    def _output(self, ids: list[int], finish: str | None, logprobs: Any = None) -> RequestOutput:
        text = "".join(f"{token}," for token in ids)
        completion = CompletionOutput(0, text, ids, None, logprobs, finish_reason=finish)
        return RequestOutput("sub", None, PROMPT, None, [completion], finish is not None)


async def vote(
    engine: Engine, strategy: Votes, *, streams: bool = False, **params: Any
) -> tuple[list[RequestOutput], dict[str, Any]]:
    """The outputs for vLLM's server, and the account."""
    strategies = Strategies()
    strategies.install(engine)
    voting = Voting(strategy, RequestRecord(FREE, ThinkingBudget(), texts=texts))
    kind = RequestOutputKind.DELTA if streams else RequestOutputKind.FINAL_ONLY
    asked = SamplingParams(output_kind=kind, extra_args={**strategies.add(voting)}, **params)
    outputs = [output async for output in engine.generate(None, asked, "request")]
    assert engine.running == 0
    return outputs, voting.account()


def run(engine: Engine, strategy: Votes, **options: Any) -> tuple[list[RequestOutput], dict[str, Any]]:
    return asyncio.run(vote(engine, strategy, **options))


def test_the_most_common_answer_wins_and_what_cannot_change_it_is_stopped() -> None:
    responses = [response(4, 3), response(2, 7), response(3, 7), response(1, 7), response(300, 3)]
    engine = Engine(responses)
    [output], account = run(engine, Votes(n=5))
    assert output.finished
    assert list(output.outputs[0].token_ids) == responses[account["winner"]]
    assert output.request_id == "request"
    assert account["decided_by"] == "majority"
    assert account["votes"][account["winner"]]["answer"] == "7"
    assert account["votes"][4]["finish_reason"] == "cancelled"
    assert account["votes"][4]["completion_tokens"] < 100
    assert account["completion_tokens"] == engine.tokens
    assert account["prompt_tokens"] == 5 * len(PROMPT)


def test_a_stream_begins_with_the_first_token_and_has_the_winner_in_parts() -> None:
    responses = [response(100, 3), response(40, 7), response(41, 7)]
    outputs, account = run(Engine(responses), Votes(n=3), streams=True)
    assert not outputs[0].outputs[0].token_ids
    assert not outputs[0].finished
    ids = [token for output in outputs for token in output.outputs[0].token_ids]
    assert ids == responses[account["winner"]]
    assert "".join(output.outputs[0].text for output in outputs) == "".join(f"{token}," for token in ids)
    assert [output.finished for output in outputs] == [False] * (len(outputs) - 1) + [True]


def test_the_first_to_end_decide() -> None:
    responses = [response(50, 1), response(20, 2), response(10, 5), response(200, 1)]
    _, account = run(Engine(responses), Votes(n=4, first=1))
    assert (account["winner"], account["decided_by"], account["cancelled"]) == (2, "first", 3)
    _, account = run(Engine(responses), Votes(n=4, first=3, stop_early=False))
    assert [vote["voted"] for vote in account["votes"]] == [True, True, True, False]
    assert account["winner"] == 0  # a tie of three: the first by number


def test_a_vote_may_weigh_what_the_model_was_sure_of() -> None:
    responses = [response(5, 3), response(5, 3), response(6, 7)]
    settings = Votes(n=3, weights="confidence", top_logprobs=2, stop_early=False)
    _, account = run(Engine(responses, confidence=[1.0, 1.5, 4.0]), settings)
    assert account["winner"] == 2
    assert [vote["weight"] for vote in account["votes"]] == pytest.approx([1.0, 1.5, 4.0])
    assert account["share"] == pytest.approx(4 / 6.5)


def test_candidates_are_the_likeliest_in_every_form() -> None:
    def flat(*places: tuple[list[int], list[float], int]) -> FlatLogprobs:
        made = FlatLogprobs()
        for ids, logprobs, rank in places:
            made.append_fast(ids, logprobs, chain((rank,), (1, 2, 3)), [None] * 4)
        return made

    among = ([5, 4, 5, 6], [-2.0, -1.0, -2.0, -3.0], 2)
    behind = ([9, 4, 5, 6], [-8.0, -1.0, -2.0, -3.0], 7)
    expected = [[-3.0, -2.0, -1.0]] * 2
    merged = flat(among)
    merged.extend(flat(behind, among))
    for form, places in ((flat(among, behind), 2), (list(flat(among, behind)), 2), (merged, 3)):
        found = [sorted(each) for each in candidates_of(form, 3)]
        assert found == expected + expected[: places - 2]
    assert list(candidates_of(None, 3)) == []


def test_an_unsure_response_is_stopped_but_never_the_last() -> None:
    responses = [response(60, 3), response(60, 3), response(60, 7)]
    engine = Engine(responses, confidence=[1.0, 1.0, 1.0])
    _, account = run(engine, Votes(n=3, stop_below=2.0, window=8))
    assert [vote["finish_reason"] for vote in account["votes"]].count("low_confidence") == 2
    assert [vote["voted"] for vote in account["votes"]].count(True) == 1
    assert account["completion_tokens"] == engine.tokens < 2 * len(responses[0])


def test_the_first_responses_set_the_threshold_of_the_others() -> None:
    responses = [response(30, 3), response(30, 7), response(90, 3), response(40, 7), response(40, 7)]
    confidence = [1.0, 3.0, 2.0, 3.5, 3.0]
    _, account = run(
        Engine(responses, confidence=confidence), Votes(n=5, warmup=2, keep=0.5, window=8, stop_early=False)
    )
    # Half of two is kept, the surer one: 3.0.
    assert [vote["finish_reason"] for vote in account["votes"]] == ["stop", "stop", "low_confidence", "stop", "stop"]
    assert [vote["voted"] for vote in account["votes"]] == [False, True, False, True, True]
    assert account["votes"][2]["completion_tokens"] <= 12


def test_no_vote_is_decided_before_the_first_responses_are_weighed() -> None:
    responses = [response(10, 3), response(12, 3), response(14, 3), response(40, 7), response(40, 3)]
    confidence = [1.0, 1.1, 1.2, 3.0, 3.0]
    engine = Engine(responses, confidence=confidence)
    _, account = run(engine, Votes(n=5, warmup=4, keep=0.25, window=8))
    # Three equal answers of five, but the sure one of the first four says something else.
    assert [vote["voted"] for vote in account["votes"][:4]] == [False, False, False, True]
    assert account["calls"] == 5


def test_each_response_has_a_seed_of_its_own_and_none_names_the_strategy() -> None:
    engine = Engine([response(3, 1)] * 4)
    run(engine, Votes(n=4), seed=7)
    seeds = [engine.params[number].seed for number in range(4)]
    assert len(set(seeds)) == 4
    again = Engine([response(3, 1)] * 4)
    run(again, Votes(n=4), seed=7)
    assert [again.params[number].seed for number in range(4)] == seeds
    assert all(not params.extra_args for params in engine.params.values())


def test_nobody_has_an_answer() -> None:
    _, account = run(Engine([response(9, 0), response(3, 0)]), Votes(n=2))
    assert account["winner"] == 0
    assert account["share"] == 0.0


def test_one_that_fails_fails_the_request_and_stops_the_others() -> None:
    engine = Engine([response(50, 1)] * 4, fails=2)
    with pytest.raises(RuntimeError, match="the engine's fault"):
        run(engine, Votes(n=4))
    assert engine.running == 0


def test_at_temperature_0_there_is_nothing_to_vote_on() -> None:
    with pytest.raises(VLLMValidationError, match="temperature"):
        run(Engine([]), Votes(n=4), temperature=0.0)


def test_a_client_that_leaves_stops_all() -> None:
    engine = Engine([response(500, 1)] * 4)

    async def leave() -> None:
        strategies = Strategies()
        strategies.install(engine)
        voting = Voting(Votes(n=4), RequestRecord(FREE, ThinkingBudget(), texts=texts))
        asked = SamplingParams(output_kind=RequestOutputKind.DELTA, extra_args={**strategies.add(voting)})
        async with aclosing(engine.generate(None, asked, "request")) as stream:
            await anext(stream)
        assert engine.running == 0
        account: Any = voting.account()
        assert account["completion_tokens"] == engine.tokens
        assert list(voting.endings()) == ["cancelled"] * 4
        assert len(list(voting.others())) == 4

    asyncio.run(leave())


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=2, max_size=6))
def test_stopping_early_never_changes_the_answer_and_every_token_is_counted(sizes: list[tuple[int, int]]) -> None:
    responses = [response(*size) for size in sizes]
    answers = []
    for early in (True, False):
        engine = Engine(responses)
        _, account = run(engine, Votes(n=len(responses), stop_early=early))
        answers.append(account["votes"][account["winner"]]["answer"])
        assert account["completion_tokens"] == engine.tokens
        assert account["thinking_tokens"] == sum(vote["thinking_tokens"] for vote in account["votes"])
    assert answers[0] == answers[1]
