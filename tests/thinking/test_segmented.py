"""The segmented driver over an endpoint without a model, against "sample, then replace" token by token."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1ray.thinking.forcer import BudgetForcer
from s1ray.thinking.plan import ForcingPlan
from s1ray.thinking.schedule import SchedulePlan
from s1ray.thinking.segmented import Segment, SegmentedResponse, SegmentError, force_in_segments
from tests.support.toy import ANSWER, COLON, COMMA, EOS, FINAL, HMM, NEWLINE, THINK, TURN, VOCAB, WAIT, X, Y, toy_plan

WIDTH = VOCAB + 4
"""Rows of the embedding: four more than the tokenizer knows."""
LONGEST = 200


def scores(key: int, ids: list[int]) -> list[float]:
    """What the model `key` says after some ids: random, often keen to stop, to wait or to go round in circles."""
    rng = random.Random(f"{key} {len(ids)} {ids[-3:]}")
    row = [rng.gauss(0, 1) for _ in range(WIDTH)]
    for token_id in (EOS, TURN, WAIT, HMM, NEWLINE, 14, 15, WIDTH - 1):
        row[token_id] += 2.5 * rng.randint(0, 1)
    if key % 5 == 4:
        row[12 + len(ids) % 3] += 7
    return row


def best(row: list[float], ban: set[int]) -> int:
    return max((i for i in range(WIDTH) if i not in ban), key=row.__getitem__)


@dataclass
class Endpoint:
    """Greedy completions of ids; looks after what a call may ask."""

    key: int
    budget: int
    asked: list[int] = field(default_factory=list)
    longest: int = LONGEST

    async def __call__(
        self, prompt_ids: list[int], *, max_tokens: int, stop_ids: Sequence[int], ban: Sequence[int], seed: int | None
    ) -> Segment:
        assert 1 <= max_tokens <= self.budget - len(prompt_ids), "more than what is left"
        self.asked.append(max_tokens)
        ids: list[int] = []
        while len(ids) < min(max_tokens, self.longest):
            ids.append(best(scores(self.key, [*prompt_ids, *ids]), set(ban)))
            if ids[-1] in stop_ids or ids[-1] == EOS:
                return Segment(ids, "stop")
        return Segment(ids, "length")


def sample_then_replace(
    plan: ForcingPlan, prompt: list[int], key: int, room: int, stops: Sequence[int]
) -> tuple[list[int], BudgetForcer]:
    """The definition: one token at a time, the forcer asked before each."""
    forcer = BudgetForcer(plan, prompt, room=room, stop_ids={EOS, *stops})
    output: list[int] = []
    beyond = set(range(VOCAB, WIDTH))
    while len(output) < room:
        action = forcer.action
        if action is not None and action.force is not None:
            token, share = action.force, 0.0
        else:
            row = scores(key, [*prompt, *output])
            out = beyond | set(action.exclude if action is not None else ())
            token, share = best(row, out), 0.0
            if action is not None and token in action.ban:
                share = 1.0
                token = action.move_to if action.move_to is not None else best(row, out | set(action.ban))
        forcer.observe(token, share)
        output.append(token)
        if token in (EOS, *stops):
            break
    return output, forcer


def segmented(
    endpoint: Any, plan: ForcingPlan, prompt: list[int], room: int, stops: Sequence[int] = (), **settings: Any
) -> SegmentedResponse:
    return asyncio.run(force_in_segments(endpoint, plan, prompt, room=room, eos_ids=[EOS], stop_ids=stops, **settings))


@st.composite
def schedules(draw: st.DrawFn) -> SchedulePlan:
    return SchedulePlan(
        moment=draw(st.sampled_from([1, 8, 30, 100])),
        p_start=draw(st.sampled_from([1.0, 0.6])),
        p_end=draw(st.sampled_from([0.0, 1.0])),
        wait=draw(st.sampled_from([(WAIT,), (WAIT, COMMA)])),
        after=draw(st.sampled_from([(NEWLINE,), (NEWLINE, NEWLINE), (13, 12)])),
        after_ids=draw(st.sampled_from([(), (12,)])),
        slow_words=draw(st.sampled_from([((WAIT,),), ((HMM,), (WAIT, 12))])),
        seed=draw(st.sampled_from([None, 5])),
    )


@st.composite
def plans(draw: st.DrawFn) -> ForcingPlan:
    maximum = draw(st.sampled_from([None, 0, 1, 2, 5, 12, 40, 90]))
    tool = draw(st.booleans())
    cut = draw(st.sampled_from([(TURN, ANSWER), (TURN, ANSWER, NEWLINE, FINAL, COLON), (Y, TURN, ANSWER, COLON)]))
    reopen = draw(st.sampled_from([(), (), (TURN,)]))
    schedule = draw(st.none() | st.none() | schedules())
    return toy_plan(
        schedule=schedule,
        answer_ban=(() if reopen else ((TURN,),)) + draw(st.sampled_from([(), ((12, 13), (X,)), ((14, 14),)])),
        answer_max_tokens=draw(st.sampled_from([None, None, 1, 4, 20])),
        reopen=reopen,
        end_spellings=draw(st.sampled_from([(), ((13, 12),)])),
        max_tokens=maximum,
        min_tokens=0 if schedule else draw(st.integers(0, 40 if maximum is None else maximum)),
        waits=0 if schedule else draw(st.sampled_from([0, 0, 1, 2, 6])),
        wait_texts=draw(st.sampled_from([(), (), ((WAIT,),), ((WAIT, COMMA, 12), (HMM,)), ((HMM, HMM), (WAIT, Y))])),
        grace=draw(st.sampled_from([0, 0, 1, 4, 60])) if maximum is None else draw(st.integers(0, maximum)),
        ban=draw(
            st.sampled_from(
                [(), (), ((X,), (13,)), ((X,), (12, FINAL)), ((NEWLINE, NEWLINE), (12, 13, 14)), ((14, 14),)]
            )
        ),
        loops=draw(st.sampled_from([0, 0, 2, 3])),
        answer_reserve=draw(st.sampled_from([None, 0, 10])),
        newline=draw(st.sampled_from([(), (NEWLINE,)])),
        cut=cut,
        cut_answer=cut.index(ANSWER) + 1,
        end_triggers=(EOS, TURN, 15) if tool else (EOS, TURN),
        tool_calls=(15,) if tool else (),
    )


@given(
    plan=plans(),
    prompt=st.sampled_from(
        [[X, Y], [TURN, THINK], [X, TURN, THINK, 12, NEWLINE], [TURN, THINK, X, TURN, ANSWER], [EOS]]
    ),
    key=st.integers(0, 10_000),
    room=st.sampled_from([1, 2, 7, 30, 80, 160]),
    stops=st.sampled_from([(), (), (14,), (13, 11)]),
    segment=st.sampled_from([None, None, 1, 3, 50]),
    longest=st.sampled_from([LONGEST, LONGEST, 5]),
)
@settings(max_examples=1500, deadline=None)
def test_the_ids_are_those_of_sampling_and_replacing(
    plan: ForcingPlan, prompt: list[int], key: int, room: int, stops: Sequence[int], segment: int | None, longest: int
) -> None:
    stops = tuple(i for i in stops if i not in {*plan.cut, *(j for text in plan.wait_texts for j in text)})
    endpoint = Endpoint(key, len(prompt) + room, longest=longest)
    response = segmented(endpoint, plan, prompt, room, stops, segment_tokens=segment)
    expected, forcer = sample_then_replace(plan, prompt, key, room, stops)
    assert response.output_ids == expected
    assert response.swallowed == forcer.swallowed
    ended = expected[-1] in (EOS, *stops) and not forcer.accounting().answer_cut
    assert response.finish_reason == ("stop" if ended else "length")
    assert response.requests == len(endpoint.asked)
    assert max(endpoint.asked, default=0) <= (segment or room)


def test_random_plans_meet_everything_that_the_driver_has_to_do() -> None:
    """The property above would hold emptily if its plans never waited, banned, looped or were cut."""
    met: Counter[str] = Counter()
    for key in range(400):
        rng = random.Random(key)
        plan = toy_plan(
            max_tokens=rng.choice([None, 5, 12, 40]),
            waits=rng.choice([0, 2]),
            wait_texts=rng.choice([(), ((WAIT, COMMA),)]),
            grace=rng.choice([0, 4]),
            ban=rng.choice([(), ((X,), (12, 13))]),
            loops=rng.choice([0, 2]),
            answer_max_tokens=rng.choice([None, 5]),
            answer_ban=rng.choice([((TURN,),), ((12, 13),)]),
        )
        if (TURN,) not in plan.answer_ban:
            plan = plan.model_copy(update={"reopen": (TURN,)})
        response = segmented(Endpoint(key, 162), plan, [X, Y], 160)
        _, forcer = sample_then_replace(plan, [X, Y], key, 160, ())
        assert response.swallowed == forcer.swallowed
        counted = forcer.accounting()
        met[f"cut: {counted.end_forced}"] += 1
        met["waits"] += bool(counted.waits and plan.wait_texts)
        met["suppressed"] += bool(counted.waits and not plan.wait_texts)
        met["grace"] += counted.end_forced == "budget" and counted.thinking_tokens < (counted.limit or 0)
        met[response.finish_reason] += 1
        met["more than one segment"] += response.requests > 2
        met["thought again"] += len(counted.thinking_spans) > 1
        met["answer ended"] += counted.answer_cut and response.output_ids[-1] == EOS
    assert len(met) == 12
    assert min(met.values()) >= 5, met


def test_a_schedule_is_the_same_from_outside_and_meets_what_it_is_for() -> None:
    met: Counter[str] = Counter()
    for key in range(200):
        rng = random.Random(key)
        schedule = SchedulePlan(
            moment=rng.choice([8, 30, 100]),
            p_start=1.0,
            p_end=rng.choice([0.0, 1.0]),
            wait=(WAIT, COMMA),
            after=(NEWLINE,),
            slow_words=((HMM,), (WAIT, 12)),
        )
        plan = toy_plan(schedule=schedule, max_tokens=rng.choice([None, 40]))
        response = segmented(Endpoint(key, 162), plan, [X, Y], 160)
        expected, forcer = sample_then_replace(plan, [X, Y], key, 160, ())
        assert response.output_ids == expected
        counted = forcer.accounting()
        met["waits"] += bool(forcer.scheduled)
        met["ended behind the moment"] += counted.end_forced is None and counted.thinking_tokens >= schedule.moment
    assert min(met["waits"], met["ended behind the moment"]) >= 10, met


def asked_for(
    plan: ForcingPlan, ids: list[int], room: int = 100, **settings: Any
) -> tuple[list[int], SegmentedResponse]:
    """The tokens asked for in each call of an endpoint that says `ids`, position by position (X behind them)."""
    asked = []

    async def say(
        prompt_ids: list[int], *, max_tokens: int, stop_ids: Sequence[int], ban: Sequence[int], seed: int | None
    ) -> Segment:
        asked.append(max_tokens)
        given = []
        for position in range(len(prompt_ids) - 2, len(prompt_ids) - 2 + max_tokens):
            wanted = ids[position] if position < len(ids) else X
            given.append(Y if wanted in ban else wanted)
            if given[-1] in stop_ids:
                return Segment(given, "stop")
        return Segment(given, "length")

    return asked, asyncio.run(force_in_segments(say, plan, [TURN, THINK], room=room, eos_ids=[EOS], **settings))


def test_each_call_asks_for_what_is_left_and_forced_text_takes_none() -> None:
    # Thinks 3 tokens, stops (a wait comes), 2 more, stops again, answers with 3 and EOS.
    said = [X, X, X, TURN, 0, X, X, TURN, 0, X, X, X, EOS]
    plan = toy_plan(max_tokens=20, waits=1, wait_texts=((WAIT, COMMA),), answer_reserve=0)
    asked, response = asked_for(plan, said)
    assert response.output_ids == [X, X, X, WAIT, COMMA, X, X, TURN, ANSWER, X, X, X, EOS]
    assert asked == [20, 15, 91]
    assert (response.requests, response.swallowed, response.generated_tokens) == (3, [3], 4 + 3 + 4)
    assert response.prompt_tokens_sent == 2 + 7 + 11


def test_without_thinking_there_is_one_call() -> None:
    asked, response = asked_for(toy_plan(max_tokens=0), [], room=20)
    assert asked == [14]
    assert response.output_ids[:6] == [NEWLINE, TURN, ANSWER, NEWLINE, FINAL, COLON]


def test_an_answer_is_one_call_that_an_empty_beginning_ends_at_once() -> None:
    asked, response = asked_for(toy_plan(max_tokens=0), [0] * 6 + [EOS, X, X, X, EOS], room=20)
    assert asked == [14, 1, 13]
    assert response.output_ids[6:] == [Y, X, X, X, EOS]
    assert response.generated_tokens == 1 + 1 + 4


def test_a_minimum_without_a_wait_text_is_one_call_however_often_the_model_stops() -> None:
    asked, response = asked_for(toy_plan(max_tokens=30, min_tokens=20, wait_texts=()), [TURN] * 100, room=60)
    assert asked[:2] == [20, 10]
    assert response.output_ids[:22] == [Y] * 20 + [TURN, ANSWER]


def test_the_grace_window_is_entered_by_a_call_that_ends_at_line_breaks() -> None:
    said = [X] * 8 + [NEWLINE] + [X] * 100
    asked, response = asked_for(toy_plan(max_tokens=12, grace=6, answer_reserve=0), said, room=40)
    assert asked[:2] == [5, 7]
    assert response.output_ids[8:11] == [NEWLINE, TURN, ANSWER]
    assert response.generated_tokens == 5 + 4 + len(response.output_ids) - 14


def test_a_loop_costs_no_more_than_a_segment() -> None:
    asked, response = asked_for(toy_plan(loops=2, answer_reserve=0), [], room=5000)
    assert asked[0] == 512
    assert len(response.output_ids) == 5000
    assert response.generated_tokens < 5000 + 512


PROPOSED = {TURN: 0.25, EOS: 0.05, WAIT: 0.1, HMM: 0.1, X: 0.2, Y: 0.1, VOCAB + 1: 0.15, 12: 0.05}
"""What the model would say at the position that is looked at."""


def drawn(plan: ForcingPlan, position: int, number: int, before: tuple[int, ...] = ()) -> Counter[int]:
    """The ids at a position of many responses of an endpoint that samples from `PROPOSED` (behind `before`)."""
    counted: Counter[int] = Counter()

    async def sample(
        prompt_ids: list[int], *, max_tokens: int, stop_ids: Sequence[int], ban: Sequence[int], seed: int | None
    ) -> Segment:
        rng = random.Random(seed)
        ids: list[int] = []
        while len(ids) < max_tokens:
            at = len(prompt_ids) - 2 + len(ids)
            weights = {before[at]: 1.0} if at < len(before) else PROPOSED
            allowed = {i: w for i, w in weights.items() if i not in ban}
            ids += rng.choices(list(allowed), list(allowed.values()))
            if ids[-1] in stop_ids:
                return Segment(ids, "stop")
        return Segment(ids, "length")

    async def run() -> None:
        for seed in range(number):
            response = await force_in_segments(
                sample, plan, [TURN, THINK], room=position + 9, eos_ids=[EOS], seed=seed, segment_tokens=3
            )
            counted[response.output_ids[position]] += 1

    asyncio.run(run())
    return counted


def replaced(
    ban: Sequence[int] = (TURN, EOS), exclude: Sequence[int] = (VOCAB + 1,), move_to: int | None = None
) -> dict[int, float]:
    """Sample from `PROPOSED` without `exclude`, then replace `ban`: what must come out."""
    known = {i: w for i, w in PROPOSED.items() if i not in exclude}
    whole = sum(known.values())
    stop = sum(w for i, w in known.items() if i in ban) / whole
    rest = {i: w / whole for i, w in known.items() if i not in ban}
    if move_to is None:
        return {i: w / (1 - stop) for i, w in rest.items()}
    return rest | {move_to: rest.get(move_to, 0.0) + stop}


def distance(one: dict[int, float], other: dict[int, float]) -> float:
    """Total variation."""
    return sum(abs(one.get(i, 0.0) - other.get(i, 0.0)) for i in {*one, *other}) / 2


BOUND = 0.03
"""Total variation that 4,000 draws of the right distributions stay below (0.03 was the most in 1,000 trials)."""

BEYOND = VOCAB + 1


@pytest.mark.parametrize(
    ("changes", "before", "expected", "mistakes"),
    [
        (
            {"waits": 1, "max_tokens": 3, "answer_reserve": 0},
            (),
            replaced(move_to=WAIT),
            [replaced(), replaced(move_to=WAIT, exclude=()), replaced(ban=(TURN,), move_to=WAIT)],
        ),
        (
            {"waits": 1, "wait_texts": (), "max_tokens": 3, "answer_reserve": 0},
            (X, X),
            replaced(),
            [replaced(move_to=X), replaced(exclude=())],
        ),
        (
            {"ban": ((X,), (Y, HMM)), "max_tokens": 3, "answer_reserve": 0},
            (Y,),
            replaced(ban=(EOS,), exclude=(BEYOND, X, HMM), move_to=TURN),
            [
                replaced(ban=(EOS,), exclude=(BEYOND, X), move_to=TURN),
                replaced(ban=(EOS, X, HMM), exclude=(BEYOND,), move_to=TURN),
            ],
        ),
    ],
)
def test_the_distribution_at_a_replaced_position_is_that_of_sampling_and_replacing(
    changes: dict[str, Any], before: tuple[int, ...], expected: dict[int, float], mistakes: list[dict[int, float]]
) -> None:
    counted = drawn(toy_plan(**changes), len(before), 4000, before)
    shares = {i: n / 4000 for i, n in counted.items()}
    assert distance(shares, expected) < BOUND
    for mistake in mistakes:
        assert distance(shares, mistake) > 2 * BOUND


def test_every_call_has_a_seed_of_its_own_and_a_response_has_the_same_ones_again() -> None:
    def seeds(seed: int | None) -> list[int | None]:
        seen = []

        async def note(
            prompt_ids: list[int], *, max_tokens: int, stop_ids: Sequence[int], ban: Sequence[int], seed: int | None
        ) -> Segment:
            seen.append(seed)
            return Segment([X], "length")

        asyncio.run(force_in_segments(note, toy_plan(), [X], room=30, eos_ids=[EOS], seed=seed))
        return seen

    assert seeds(1) == seeds(1) != seeds(2)
    assert len(set(seeds(1))) == len(seeds(1)) > 20
    assert set(seeds(None)) == {None}


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        (Segment([], "length"), "0 token ids where 1 to"),
        (Segment([X] * 99, "length"), "99 token ids where 1 to"),
        (Segment([Y], "length"), r"token 11 in spite of a ban.*logit_bias"),
        (Segment([X], "stop"), r"stopped at token 10.*eos_ids"),
        (Segment([X], "abort"), "'abort'"),
    ],
)
def test_an_endpoint_that_does_otherwise_is_found_out(segment: Segment, message: str) -> None:
    async def answer(
        prompt_ids: list[int], *, max_tokens: int, stop_ids: Sequence[int], ban: Sequence[int], seed: int | None
    ) -> Segment:
        return segment

    with pytest.raises(SegmentError, match=message):
        asyncio.run(force_in_segments(answer, toy_plan(ban=((Y,),)), [X], room=30, eos_ids=[EOS]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"room": 0}, "room"), ({"segment_tokens": 0}, "segment_tokens"), ({"stop_ids": [X, ANSWER]}, r"stop_ids: \[3\]")],
)
def test_what_cannot_be_done_is_refused_before_the_first_call(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        asyncio.run(force_in_segments(Endpoint(0, 0), toy_plan(), [X], **({"room": 5, "eos_ids": [EOS]} | settings)))
