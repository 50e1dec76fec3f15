"""Strategies of several requests: which response is taken, and that every request is paid for."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from s1ray.config import ConfigError
from s1ray.evaluation.loading import load_results
from s1ray.evaluation.measure import Places
from s1ray.evaluation.runner import plan
from s1ray.evaluation.strategies.base import Sampling, Strategy
from s1ray.evaluation.strategies.best_of import BestOf
from s1ray.evaluation.strategies.cost import Cost, Metered
from s1ray.evaluation.strategies.majority import Majority
from s1ray.evaluation.strategies.rejection import Rejection
from s1ray.evaluation.strategies.served_votes import ServedVotes
from s1ray.evaluation.strategies.short_m_at_k import ShortMAtK
from s1ray.evaluation.summary import summary_markdown
from s1ray.generation import GenerationError, GenerationRequest
from s1ray.schemas import Completion, Evaluation, read_table
from tests.evaluation.test_strategies import config
from tests.support.evaluations import measured, run_eval
from tests.support.priced import ANSWER_TOKENS, PROMPT_TOKENS, Priced, Said
from tests.support.scripted_model import Recorder, questions

QUESTION = questions(1)[0]


def answered(arm: Strategy, *said: Said, sample: int = 0, seed: int = 0) -> tuple[Completion, Cost, Priced]:
    model = Priced(said)
    meter = Metered(model)
    completion = asyncio.run(arm(meter, QUESTION, sample, Sampling(answer_tokens=50), seed=seed))
    return completion, meter.cost, model


def answers(*values: str) -> list[Said]:
    return [Said(f"Final Answer: {value}") for value in values]


def lengths(*tokens: int) -> list[Said]:
    return [Said(f"Final Answer: {number}", count) for number, count in enumerate(tokens)]


@given(st.lists(st.integers(0, 12), min_size=6, max_size=6), st.integers(0, 8), st.integers(1, 6))
def test_rejection_takes_the_first_thought_that_is_short_by_itself_and_pays_for_all_tries(
    tokens: list[int], limit: int, tries: int
) -> None:
    kept, cost, model = answered(Rejection(max_tokens=limit, tries=tries), *lengths(*tokens))
    short = [number for number, count in enumerate(tokens[:tries]) if count <= limit]
    taken = short[0] if short else tries - 1
    assert kept.answer == f"Final Answer: {taken}"
    assert kept.thinking_tokens == min(tokens[taken], limit)
    assert bool(kept.end_forced) >= (not short), "what no try fits was ended by force"
    assert cost.calls == taken + 1
    thrown_away = sum(min(count, limit + 1) for count in tokens[:taken])
    assert cost.thinking_tokens == thrown_away + kept.thinking_tokens
    assert (cost.answer_tokens, cost.prompt_tokens) == (ANSWER_TOKENS * cost.calls, PROMPT_TOKENS * cost.calls)
    most = Rejection(max_tokens=limit, tries=tries).limits[1]
    assert most is not None
    assert cost.thinking_tokens <= most
    assert len({request.seed for request in model.seen}) == cost.calls


def test_a_vote_takes_the_first_response_with_the_most_common_answer_whatever_its_spelling() -> None:
    kept, cost, _ = answered(Majority(votes=5), *answers("3", "1/2", "7", "0.5", "7.0"))
    assert kept.answer == "Final Answer: 1/2", "1/2 and 7 have two votes each; 1/2 was seen first"
    assert (cost.calls, cost.thinking_tokens, cost.uncounted_calls) == (5, 50, 0)


def test_responses_without_an_answer_have_no_vote() -> None:
    said = [*[Said("It is hard to say.\nI give up.")] * 2, *answers("4")]
    assert answered(Majority(votes=3), *said)[0].answer == "Final Answer: 4"
    assert answered(Majority(votes=2), *said[:2])[0].answer == said[0].answer


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 5))
def test_there_are_places_for_all_requests_of_an_answer_at_once_and_never_more_than_there_are(
    wanted: list[int], count: int
) -> None:
    async def scenario() -> list[int]:
        places, busy, begun = Places(count), 0, []

        async def work(number: int, width: int) -> None:
            nonlocal busy
            async with places.taken(width):
                begun.append(number)
                busy += min(width, count)
                assert busy <= count
                for _ in range(number % 3):
                    await asyncio.sleep(0)
                busy -= min(width, count)

        await asyncio.gather(*(work(number, width) for number, width in enumerate(wanted)))
        return begun

    assert asyncio.run(scenario()) == list(range(len(wanted))), "first come, first served"


def test_the_first_of_k_to_finish_are_the_shortest_however_many_questions_wait(tmp_path: Path) -> None:
    class Shuffled(Recorder):
        """Finishes the third request of each answer first, where all of them begin at once; four run at a time."""

        async def complete(self, request: GenerationRequest) -> Completion:
            number = int(request.id.rpartition("-")[2])
            async with running:
                for _ in range(6 if number != 2 else 1):
                    await asyncio.sleep(0)
                completion = await super().complete(request)
            return dataclasses.replace(completion, answer=f"Final Answer: {number}")

    running = asyncio.Semaphore(4)
    arm: dict[str, JsonValue] = {"strategy": "short_m_at_k", "k": 3, "max_tokens": 4}
    models: JsonValue = [{"label": "sft", "name": "s"}]
    resolved = config(tmp_path, arm, models=models, endpoint={"concurrency": 4})
    run = run_eval(resolved, engines=lambda model: Shuffled(model.label))
    rows = [Evaluation(**row) for row in read_table(run.path / "evaluations.parquet", Evaluation).to_pylist()]
    assert {(row.answer, row.calls, row.uncounted_calls) for row in rows} == {("Final Answer: 2", 3, 2)}


@given(st.lists(st.sampled_from("1234"), min_size=2, max_size=9))
def test_no_answer_has_more_votes_than_the_one_taken(values: list[str]) -> None:
    kept, _, _ = answered(Majority(votes=len(values)), *answers(*values))
    votes, taken = Counter(values), kept.answer[-1]
    assert votes[taken] == max(votes.values())
    assert all(values.index(taken) <= values.index(other) for other in votes if votes[other] == votes[taken])


def test_draws_differ_and_are_the_same_again() -> None:
    def seeds(**changes: int) -> list[int | None]:
        model = answered(Majority(votes=3), *answers("1", "1", "1"), **changes)[2]
        assert {request.temperature for request in model.seen} == {1.0}
        return [request.seed for request in model.seen]

    assert seeds() == seeds()
    assert len({*seeds(), *seeds(sample=1), *seeds(seed=1)}) == 9


def test_one_failed_request_fails_the_answer_and_ends_the_others() -> None:
    meter = Metered(model := Priced([Said("1", 4), Said("2", 2, fails=True), Said("3", 1000)]))
    with pytest.raises(GenerationError, match="status 500"):
        asyncio.run(Majority(votes=3)(meter, QUESTION, 0, Sampling(), seed=0))
    assert meter.cost.calls == 3
    assert meter.cost.uncounted_calls >= 2
    assert f"{QUESTION.id}-0-2" not in model.finished


def test_the_first_to_finish_decide_and_the_others_are_cancelled() -> None:
    kept, cost, model = answered(ShortMAtK(k=4), *lengths(30, 10, 20, 200))
    assert kept.answer == "Final Answer: 1"
    assert (cost.calls, cost.uncounted_calls, cost.thinking_tokens) == (4, 3, 10)
    assert model.finished == [f"{QUESTION.id}-0-1"]


def test_of_those_that_decide_the_shortest_breaks_ties_and_a_majority_beats_it() -> None:
    said = [
        Said("Final Answer: 5", 9),
        Said("Final Answer: 6", 4),
        Said("Final Answer: 5", 6),
        Said("Final Answer: 6", 99),
    ]
    assert answered(ShortMAtK(k=4, m=2), *said)[0].thinking_tokens == 4
    assert answered(ShortMAtK(k=4, m=3), *said)[0].answer == "Final Answer: 5"


@given(st.lists(st.integers(0, 9), min_size=3, max_size=6), st.integers(1, 2))
def test_waiting_for_all_takes_the_same_answers_and_counts_every_token(tokens: list[int], m: int) -> None:
    counted, cost, _ = answered(ShortMAtK(k=len(tokens), m=m, cancel=False), *lengths(*tokens))
    assert counted.thinking_tokens == min(tokens)
    assert (cost.calls, cost.uncounted_calls, cost.thinking_tokens) == (len(tokens), 0, sum(tokens))
    cancelled, fewer, _ = answered(ShortMAtK(k=len(tokens), m=m), *lengths(*tokens))
    assert cancelled.answer == counted.answer
    assert fewer.thinking_tokens <= cost.thinking_tokens


@pytest.mark.parametrize(
    ("score", "taken"), [("shortest", "2"), ("longest", "0"), ("tests.support.own_scorer:digits", "1")]
)
def test_the_best_by_a_score_is_taken(score: str, taken: str) -> None:
    said = [Said("Final Answer: 0", 9), Said("Final Answer: 11", 5), Said("Final Answer: 2", 3), Said("", 1)]
    kept, cost, _ = answered(BestOf(n=4, score=score), *said)
    assert kept.answer.removeprefix("Final Answer: ")[0] == taken
    assert (cost.calls, cost.thinking_tokens) == (4, 18)


def test_a_cut_answer_is_taken_only_where_there_is_no_other_and_the_first_of_equals() -> None:
    cut = [Said("Final Answer: 1", 1, finish_reason="length"), Said("Final Answer: 2", 1, finish_reason="length")]
    assert answered(BestOf(n=3, score="shortest"), *cut, Said("Final Answer: 3", 9))[0].answer == "Final Answer: 3"
    assert answered(BestOf(n=2, score="shortest"), *cut)[0].answer == "Final Answer: 1"


def test_a_score_that_is_no_number_ends_the_run_with_a_sentence() -> None:
    with pytest.raises(GenerationError, match=r"score: .*nonsense' gave nan for question"):
        answered(BestOf(n=2, score="tests.support.own_scorer:nonsense"), *answers("1", "2"))
    with pytest.raises(GenerationError, match=r"score: .*broken' fails at question .*: KeyError: 'judge'"):
        answered(BestOf(n=2, score="tests.support.own_scorer:broken"), *answers("1", "2"))


def test_labels_and_limits() -> None:
    arms: list[Strategy] = [
        Rejection(max_tokens=100, tries=4),
        Majority(votes=4, max_tokens=64),
        Majority(votes=4, max_tokens=64, temperature=0.6),
        Majority(),
        ShortMAtK(m=3, k=5, max_tokens=10),
        ShortMAtK(m=3, k=5, max_tokens=10, cancel=False),
        BestOf(n=2, score="longest"),
        BestOf(n=2, score="tests.support.own_scorer:digits", max_tokens=7),
    ]
    assert [(arm.name, arm.limits[1]) for arm in arms] == [
        ("reject over 100, 4 tries", 403),
        ("vote of 4 max=64", 256),
        ("vote of 4 max=64 temperature=0.6", 256),
        ("vote of 8", None),
        ("short 3 of 5 max=10", 50),
        ("short 3 of 5 max=10 (all counted)", 50),
        ("longest of 2", None),
        ("digits of 2 max=7", 14),
    ]


def test_a_run_counts_tries_in_its_rows_and_its_table(tmp_path: Path) -> None:
    # Question i always thinks 1 + i letters: over 6, all four tries are thrown away but the last, which is cut.
    arms: list[dict[str, JsonValue]] = [
        {"strategy": "rejection", "max_tokens": 6, "tries": 4},
        {"strategy": "majority", "votes": 3, "max_tokens": 8},
        {"max_tokens": 8},
    ]
    resolved = config(tmp_path, *arms, models=[{"label": "sft", "name": "s"}])
    run = run_eval(resolved, engines=lambda model: Recorder(model.label))
    result = measured(run.path, "sft", "reject over 6, 4 tries")
    by_question = {row.question_id: row for row in result.rows}
    for i, question in enumerate(questions(12)):
        row, short = by_question[question.id], 1 + i <= 6
        assert (row.calls, row.kept_thinking_tokens) == ((1, None) if short else (4, 6))
        assert row.thinking_tokens == (1 + i if short else 3 * 7 + 6)
        assert row.correct is short
    assert result.calls.value == 2.5
    assert sorted(result.method_tokens.values()) == [[n] for n in [1, 2, 3, 4, 5, *[6] * 7]]
    assert result.obeying == 12
    table = summary_markdown([run.path])
    assert "| waits | requests |" in table
    assert [line.split(" | ")[-1] for line in table.splitlines()[2:5]] == ["2.5 |", "3.0 |", "1.0 |"]
    rows = [Evaluation(**row) for row in read_table(run.path / "evaluations.parquet", Evaluation).to_pylist()]
    assert sum(row.prompt_tokens or 0 for row in rows) == sum(row.calls for row in rows)
    assert [method.series for method in load_results([run.path]).methods()] == [
        "growing maximum",
        "rejection",
        "majority",
    ]


def test_the_plan_says_how_many_requests_there_may_be(tmp_path: Path) -> None:
    arms: list[dict[str, JsonValue]] = [{"strategy": "majority", "votes": 4, "max_tokens": 10}, {"max_tokens": 10}]
    line = plan(config(tmp_path, *arms))[-2]
    assert line.startswith("48 responses by at most 120 requests, at most 1,200 thinking tokens")


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"strategy": "rejection"}, "arms.0.max_tokens"),
        ({"strategy": "rejection", "max_tokens": 4, "tries": 0}, "arms.0.tries"),
        ({"strategy": "majority", "temperature": 0}, "arms.0.temperature"),
        ({"strategy": "majority", "votes": 1}, "arms.0.votes"),
        ({"strategy": "short_m_at_k", "m": 8}, "m: 8 of k = 8 responses is no choice"),
        ({"strategy": "short_m_at_k", "k": 65}, "takes the first of 65 requests, which must all run at once"),
        ({"strategy": "best_of"}, "arms.0.score"),
        ({"strategy": "best_of", "score": "shortes"}, "no scorer is called 'shortes'; did you mean 'shortest'"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, arm: dict[str, JsonValue], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(tmp_path, arm)
    assert message in str(error.value)


def test_votes_at_the_server_are_one_request_that_costs_what_the_server_says() -> None:
    class Server:
        async def complete(self, request: GenerationRequest) -> Completion:
            seen.append(request)
            account = {"calls": 3, "prompt_tokens": 30, "thinking_tokens": 70, "answer_tokens": 9}
            return Completion(
                id=request.id,
                thinking="",
                answer="Final Answer: 3",
                prompt_tokens=10,
                thinking_tokens=20,
                answer_tokens=3,
                strategy=account,
            )

        async def close(self) -> None:
            pass

    seen: list[GenerationRequest] = []
    meter = Metered(Server())
    arm = ServedVotes.model_validate({"votes": {"n": 3, "first": 2}, "max_tokens": 64})
    asyncio.run(arm(meter, QUESTION, 0, Sampling(), seed=0))
    [request] = seen
    assert request.strategy == {"votes": {"n": 3, "first": 2}}
    assert request.budget is not None
    assert (request.budget.max_tokens, request.temperature) == (64, 1.0)
    cost = meter.cost
    assert (cost.calls, cost.prompt_tokens, cost.thinking_tokens, cost.answer_tokens) == (3, 30, 70, 9)
    assert arm.name == "served vote of 3 first=2 max=64"
    assert arm.limits == (0, 3 * 64)
