"""The forcer against a model that samples whatever it likes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1ray.thinking.accounting import account, account_unforced
from s1ray.thinking.counts import Spans
from s1ray.thinking.forcer import BudgetForcer, Phase
from s1ray.thinking.plan import ForcingPlan
from s1ray.thinking.prompt import PromptState, prompt_state
from s1ray.thinking.repetition import MAX_PASSAGE, LoopDetector
from s1ray.thinking.replaying import replay
from s1ray.thinking.schedule import SchedulePlan
from tests.support.toy import (
    ANSWER,
    COLON,
    COMMA,
    EOS,
    FINAL,
    HMM,
    NEWLINE,
    THINK,
    TURN,
    VOCAB,
    WAIT,
    X,
    Y,
    drive,
    toy_plan,
)

WAIT_TEXTS = st.sampled_from([(), ((WAIT,),), ((WAIT, COMMA),), ((WAIT,), (HMM, COMMA, COMMA))])


@st.composite
def schedules(draw: st.DrawFn) -> SchedulePlan:
    return SchedulePlan(
        moment=draw(st.sampled_from([1, 4, 12, 40])),
        p_start=draw(st.sampled_from([1.0, 1.0, 0.5])),
        p_end=draw(st.sampled_from([0.0, 1.0])),
        wait=draw(st.sampled_from([(WAIT,), (WAIT, COMMA), (HMM, NEWLINE)])),
        after=draw(st.sampled_from([(NEWLINE,), (NEWLINE, NEWLINE), (Y, 12)])),
        after_ids=draw(st.sampled_from([(), (NEWLINE,), (14, 15)])),
        slow_words=draw(st.sampled_from([((WAIT,),), ((WAIT,), (HMM, COMMA)), ((13, 12),)])),
        seed=draw(st.sampled_from([None, 0, 2**63 - 1])),
    )


@st.composite
def plans(draw: st.DrawFn) -> ForcingPlan:
    maximum = draw(st.none() | st.integers(0, 30))
    schedule = draw(st.none() | schedules())
    minimum = 0 if schedule else draw(st.integers(0, 30 if maximum is None else maximum))
    shape = draw(st.sampled_from(["s1", "think_tags", "hand_over"]))
    shapes: dict[str, dict[str, Any]] = {
        "s1": {},
        "think_tags": {
            "start": (THINK,),
            "end": (ANSWER,),
            "end_triggers": (EOS, ANSWER),
            "cut": (ANSWER, NEWLINE),
            "answer_ban": ((THINK,), (ANSWER,)),
        },
        "hand_over": {"cut": (X, Y, TURN, ANSWER), "cut_answer": 4},
    }
    changes = shapes[shape]
    if shape == "think_tags":
        changes["cut_answer"] = 1
    return toy_plan(
        max_tokens=maximum,
        min_tokens=minimum,
        waits=0 if schedule else draw(st.integers(0, 4)),
        wait_texts=draw(WAIT_TEXTS),
        schedule=schedule,
        grace=draw(st.sampled_from([0, 0, 3, 10])),
        ban=draw(st.sampled_from([(), (), ((X,),), ((Y, Y), (12, 13, 12), (FINAL,))])),
        loops=draw(st.sampled_from([0, 0, 2, 4])),
        answer_reserve=draw(st.sampled_from([None, 0, 5])),
        **changes,
    )


PROMPTS = st.sampled_from([[], [X, TURN, Y, NEWLINE], [TURN, THINK], [THINK], [TURN, THINK, X, NEWLINE]])
ROOMS = st.none() | st.integers(0, 60)
WORDS = st.lists(st.integers(0, VOCAB - 1) | st.sampled_from([EOS, TURN, WAIT]), max_size=120)
CIRCLES = st.builds(
    lambda passage, times: passage * times, st.lists(st.integers(3, 15), min_size=1, max_size=9), st.just(12)
)
SAMPLES = WORDS | st.builds(lambda words, circle: words + circle, WORDS, CIRCLES)


def model(samples: list[int]) -> Callable[[int], int]:
    return lambda step: samples[step] if step < len(samples) else EOS


@given(plan=plans(), prompt=PROMPTS, samples=SAMPLES, room=ROOMS)
@settings(max_examples=900, deadline=None)
def test_every_response_keeps_its_budget_and_answers_after_the_end_delimiter(
    plan: ForcingPlan, prompt: list[int], samples: list[int], room: int | None
) -> None:
    forcer = BudgetForcer(plan, prompt, room=room)
    opened = forcer.phase is Phase.THINK or forcer.phase is Phase.END
    output = drive(forcer, model(samples), 400)
    counted = forcer.accounting()
    assert counted.answered, "a model that keeps trying to stop gets to its answer"
    ((answer_begin, _),) = counted.answer_spans
    if not counted.thinking_spans:
        assert room is not None
        assert room <= len(plan.start) + len(plan.end), "there was no room to think and to answer"
        assert answer_begin == 0
        return
    ((begin, end),) = counted.thinking_spans

    assert counted.thinking_tokens == end - begin
    assert begin == (0 if opened else len(plan.start))
    assert output[:begin] == list(plan.start[:begin])
    if plan.max_tokens is not None:
        assert counted.thinking_tokens <= plan.max_tokens
    assert counted.limit is None or counted.thinking_tokens <= counted.limit
    if counted.end_forced in (None, "budget"):
        assert counted.thinking_tokens >= plan.min_tokens
    # Between thinking and answer stands the delimiter, whole, and nothing but what was to be forced.
    forced_answer = 0
    between = output[end:answer_begin]
    assert between[-len(plan.end) :] == list(plan.end)
    if counted.end_forced:
        last = output[end - 1] if end else (prompt or [X])[-1]
        if counted.end_forced == "loop":
            assert plan.loops
            assert loop_at_the_end(output[begin:end], plan.loops)
        elif counted.limit is not None and counted.thinking_tokens < counted.limit:
            assert counted.limit - plan.grace <= counted.thinking_tokens
            assert last == NEWLINE
        if counted.end_forced == "budget":
            assert counted.limit == plan.max_tokens
        fits = room is None or room > begin + len(plan.newline) + len(plan.cut)
        if fits:
            newline = [] if last == NEWLINE else [NEWLINE]
            assert between == newline + list(plan.cut[: plan.cut_answer])
            forced_answer = len(plan.cut) - plan.cut_answer
            assert output[answer_begin:][:forced_answer] == list(plan.cut[plan.cut_answer :])
        if counted.end_forced == "context":
            assert room is not None
            reserve = max(1, plan.answer_reserve if plan.answer_reserve is not None else room // 8)
            assert answer_begin + forced_answer + reserve <= room or counted.thinking_tokens == 0
    else:
        assert between == list(plan.end)
    # No trigger within the thinking, no empty answer, and every token accounted for.
    assert not set(output[begin:end]) & set(plan.end_triggers)
    for banned in plan.ban:
        assert all(tuple(output[i : i + len(banned)]) != banned for i in range(begin, end - len(banned) + 1))
    assert counted.answer_tokens == len(output) - answer_begin > 0
    assert output[answer_begin + forced_answer] not in plan.end_triggers


@given(plan=plans(), prompt=PROMPTS, samples=SAMPLES, room=ROOMS, cut=st.integers(0, 60))
@settings(max_examples=400, deadline=None)
def test_an_end_from_outside_keeps_the_budget_and_gets_an_answer(
    plan: ForcingPlan, prompt: list[int], samples: list[int], room: int | None, cut: int
) -> None:
    forcer = BudgetForcer(plan, prompt, room=room)
    drive(forcer, model(samples), cut)
    if forcer.phase not in (Phase.THINK, Phase.WAIT):
        with pytest.raises(ValueError, match="cannot be ended in phase"):
            forcer.end_now("outside")
        return
    thought = forcer.thinking_tokens
    forcer.end_now("outside")
    forced = drive(forcer, model([X]), len(plan.newline) + len(plan.cut))
    drive(forcer, model([X]), 3)
    counted = forcer.accounting()
    assert (counted.end_forced, counted.thinking_tokens) == ("outside", thought)
    assert counted.answer_tokens > 0
    text = tuple(forced)
    assert any(text[at : at + len(plan.end)] == plan.end for at in range(len(text)))
    if room is not None:
        assert forcer.position - 3 <= room + len(plan.cut)


def loop_at_the_end(thinking: list[int], copies: int) -> bool:
    """Straight from the definition: some passage stands there so many times in a row, 32 ids in all at least."""
    for period in range(1, len(thinking) // copies + 1):
        stretch = max(copies * period, 32)
        tail = thinking[-stretch:]
        if len(tail) == stretch and all(tail[i] == tail[i - period] for i in range(period, stretch)):
            return True
    return False


@given(
    st.lists(st.integers(0, 3), max_size=40), st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(2, 5)
)
@settings(max_examples=500, deadline=None)
def test_what_is_found_is_a_loop_and_many_copies_are_found(before: list[int], passage: list[int], copies: int) -> None:
    detector, ids = LoopDetector(copies), []
    for token in before + passage * max(copies + 1, 40 // len(passage) + 1):
        detector.observe(token)
        ids.append(token)
        if detector.found:
            assert loop_at_the_end(ids, copies)
            return
    raise AssertionError("so many copies are a loop")


def test_prose_is_no_loop() -> None:
    detector, generator = LoopDetector(2), random.Random(0)
    for _ in range(5000):
        detector.observe(generator.randrange(4))
        assert not detector.found
    assert len(detector._seen) <= MAX_PASSAGE


@given(plan=plans(), prompt=PROMPTS, samples=SAMPLES, cut=st.integers(0, 400), room=ROOMS)
@settings(max_examples=300, deadline=None)
def test_a_replay_with_known_waits_equals_the_incremental_run_at_every_length(
    plan: ForcingPlan, prompt: list[int], samples: list[int], cut: Any, room: int | None
) -> None:
    forcer = BudgetForcer(plan, prompt, room=room)
    output = drive(forcer, model(samples), cut)
    again = replay(plan, prompt, output, swallowed=forcer.swallowed, room=room)
    assert again.accounting() == forcer.accounting()
    assert again.phase is forcer.phase
    ours, theirs = again.action, forcer.action
    assert (ours is None) == (theirs is None)
    if ours is not None and theirs is not None:
        assert ours.force == theirs.force
        assert (ours.ban, ours.exclude, ours.move_to) == (theirs.ban, theirs.exclude, theirs.move_to)


@given(plan=plans(), prompt=PROMPTS, samples=SAMPLES)
@settings(max_examples=300, deadline=None)
def test_ids_alone_give_everything_but_the_models_own_waits(
    plan: ForcingPlan, prompt: list[int], samples: list[int]
) -> None:
    forcer = BudgetForcer(plan, prompt)
    output = drive(forcer, model(samples), 400)
    exact, estimated = forcer.accounting(), account(plan, prompt, output)
    assert (estimated.thinking_spans, estimated.answer_spans, estimated.end_forced) == (
        exact.thinking_spans,
        exact.answer_spans,
        exact.end_forced,
    )
    if plan.schedule:
        assert estimated.waits == exact.waits
    if plan.wait_texts:
        assert estimated.waits >= exact.waits
    if not set(samples) & {text[0] for text in plan.wait_texts} and plan.wait_texts:
        assert estimated.waits == exact.waits


@given(
    maximum=st.integers(8, 30),
    grace=st.integers(0, 12),
    waits=st.integers(1, 4),
    texts=st.sampled_from([((NEWLINE, WAIT),), ((WAIT, NEWLINE),), ((WAIT,), (NEWLINE, HMM, COMMA)), ((NEWLINE,),)]),
    loops=st.sampled_from([0, 2]),
    samples=st.lists(st.sampled_from([X, X, Y, NEWLINE, WAIT, HMM, TURN, EOS]), min_size=1, max_size=60),
)
@settings(max_examples=500)
def test_waits_with_line_breaks_are_no_cuts(
    maximum: int, grace: int, waits: int, texts: Any, loops: int, samples: list[int]
) -> None:
    plan = toy_plan(max_tokens=maximum, grace=min(grace, maximum), waits=waits, wait_texts=texts, loops=loops)
    forcer = BudgetForcer(plan, [TURN, THINK])
    output = drive(forcer, model(samples), 100)
    exact, estimated = forcer.accounting(), account(plan, [TURN, THINK], output)
    assert (estimated.thinking_spans, estimated.answer_spans, estimated.end_forced) == (
        exact.thinking_spans,
        exact.answer_spans,
        exact.end_forced,
    )


def test_a_loop_that_ends_in_the_models_own_wait_is_cut_where_it_was() -> None:
    plan = toy_plan(waits=1, wait_texts=((WAIT, COMMA),), loops=4)
    forcer = BudgetForcer(plan, [TURN, THINK])
    # Three ids again and again: the 32nd, which makes them a loop, is a "Wait" that looks like an inserted one.
    output = drive(forcer, lambda step: (X, WAIT, Y)[step % 3], 60)
    assert forcer.accounting().end_forced == "loop"
    assert output[forcer.thinking_tokens - 1] == WAIT
    estimated, exact = account(plan, [TURN, THINK], output), forcer.accounting()
    assert (estimated.thinking_spans, estimated.answer_spans) == (exact.thinking_spans, exact.answer_spans)


@pytest.mark.parametrize("waits", [0, 1, 2, 4, 8])
@pytest.mark.parametrize("texts", [((WAIT,),), ((WAIT, COMMA),), ((WAIT,), (HMM, COMMA)), ()])
@pytest.mark.parametrize("trigger", [EOS, TURN])
def test_exactly_n_waits_while_the_model_keeps_trying_to_stop(waits: int, texts: Any, trigger: int) -> None:
    forcer = BudgetForcer(toy_plan(waits=waits, wait_texts=texts))
    # After every wait the model has to say one thing before it may stop again.
    output = drive(forcer, lambda step: trigger if step % 2 else X, 200)
    counted = forcer.accounting()
    assert counted.waits == waits
    ((begin, end),) = counted.thinking_spans
    thinking = output[begin:end]
    assert sum(token in (WAIT, HMM) for token in thinking) == (waits if texts else 0)
    assert counted.end_forced is None
    if len(texts) == 2:
        assert [t for t in thinking if t in (WAIT, HMM)] == [(WAIT, HMM)[k % 2] for k in range(waits)]


def test_s1s_exact_sequence_at_the_maximum() -> None:
    forcer = BudgetForcer(toy_plan(max_tokens=3), [TURN, Y, NEWLINE])
    output = drive(forcer, lambda step: X, 14)
    assert output[:10] == [TURN, THINK, X, X, X, NEWLINE, TURN, ANSWER, NEWLINE, FINAL]
    assert output[10] == COLON
    assert forcer.accounting().end_forced == "budget"


def test_no_line_break_is_added_after_one() -> None:
    forcer = BudgetForcer(toy_plan(max_tokens=2), [TURN, THINK])
    assert drive(forcer, lambda step: NEWLINE if step == 1 else X, 4) == [X, NEWLINE, TURN, ANSWER]


def test_zero_answers_at_once() -> None:
    forcer = BudgetForcer(toy_plan(max_tokens=0))
    output = drive(forcer, lambda step: X, 9)
    assert output == [TURN, THINK, NEWLINE, TURN, ANSWER, NEWLINE, FINAL, COLON, X]
    assert forcer.accounting().thinking_tokens == 0


def test_an_end_that_the_model_began_is_completed_without_final_answer() -> None:
    forcer = BudgetForcer(toy_plan(max_tokens=9), [TURN, THINK])
    output = drive(forcer, lambda step: TURN if step == 2 else X, 6)
    assert output == [X, X, TURN, ANSWER, X, X]
    assert forcer.accounting().end_forced is None


def test_eos_while_thinking_becomes_the_end_delimiter() -> None:
    forcer = BudgetForcer(toy_plan(), [TURN, THINK])
    assert drive(forcer, lambda step: EOS if step == 1 else X, 4) == [X, TURN, ANSWER, X]


def test_the_models_own_wait_is_not_ours() -> None:
    forcer = BudgetForcer(toy_plan(waits=1, wait_texts=((WAIT, COMMA),)), [TURN, THINK])
    output = drive(forcer, lambda step: {0: WAIT, 2: EOS}.get(step, X), 5)
    assert output == [WAIT, X, WAIT, COMMA, X]
    assert forcer.swallowed == [2]


@pytest.mark.parametrize("text", [(WAIT,), (WAIT, COMMA), (HMM, COMMA, COMMA)])
def test_the_end_is_banned_for_one_token_after_a_wait(text: str) -> None:
    forcer = BudgetForcer(toy_plan(waits=1, wait_texts=(text,)), [TURN, THINK])
    # Always EOS, and X where that is refused.
    output = drive(forcer, lambda step: X if step == len(text) + 1 else EOS, len(text) + 3)
    assert output == [*text, X, TURN, ANSWER]


def test_a_wait_that_would_fill_the_maximum_is_not_begun() -> None:
    forcer = BudgetForcer(toy_plan(waits=5, max_tokens=4, wait_texts=((WAIT, COMMA),)), [TURN, THINK])
    output = drive(forcer, lambda step: X if step < 2 else TURN, 4)
    assert output == [X, X, TURN, ANSWER]
    assert forcer.accounting().waits == 0


def test_the_minimum_swallows_more_stops_than_the_waits_asked() -> None:
    forcer = BudgetForcer(toy_plan(waits=1, min_tokens=6), [TURN, THINK])
    output = drive(forcer, lambda step: X if step % 2 else EOS, 40)
    ((begin, end),) = forcer.accounting().thinking_spans
    assert output[begin:end] == [WAIT, X, WAIT, X, WAIT, X]


def test_a_share_between_zero_and_one_is_drawn_with_that_chance() -> None:
    plan = toy_plan(waits=1)
    ours = 0
    for seed in range(4000):
        forcer = BudgetForcer(plan, [TURN, THINK], seed=seed)
        forcer.observe(X, 0.0)
        forcer.observe(WAIT, 0.3)
        ours += len(forcer.swallowed)
    assert abs(ours / 4000 - 0.3) < 0.03


@given(plan=plans(), prompt=PROMPTS, tokens=st.lists(st.integers(-1, VOCAB + 4), max_size=200))
@settings(max_examples=300, deadline=None)
def test_an_engine_that_overrides_forced_tokens_never_breaks_the_forcer(
    plan: ForcingPlan, prompt: list[int], tokens: list[int]
) -> None:
    forcer = BudgetForcer(plan, prompt)
    for token in tokens:
        forcer.observe(token, 0.5)
        if plan.max_tokens is not None:
            assert forcer.thinking_tokens <= plan.max_tokens
    assert forcer.position == len(tokens)


@pytest.mark.parametrize(
    ("prompt", "state"),
    [
        ([], PromptState.ABSENT),
        ([TURN, Y, NEWLINE], PromptState.ABSENT),
        ([TURN, THINK], PromptState.OPEN),
        ([TURN, THINK, X, X], PromptState.OPEN),
        ([TURN, THINK, X, TURN, ANSWER, NEWLINE], PromptState.CLOSED),
        ([TURN, THINK, X, TURN, ANSWER], PromptState.CLOSED),
        ([TURN, THINK, X, TURN, ANSWER, X], PromptState.CLOSED),
        ([TURN, THINK, X, TURN, ANSWER, X, EOS, TURN, Y, NEWLINE], PromptState.ABSENT),
        ([TURN, THINK, X, EOS], PromptState.ABSENT),
    ],
)
def test_the_prompts_tail_tells_whether_thinking_is_open(prompt: list[int], state: PromptState) -> None:
    plan = toy_plan()
    assert prompt_state(plan.start, plan.end, plan.end_triggers, prompt) is state


def test_behind_a_closed_prompt_comes_the_answer() -> None:
    forcer = BudgetForcer(toy_plan(max_tokens=5), [TURN, THINK, NEWLINE, TURN, ANSWER, NEWLINE])
    output = drive(forcer, lambda step: EOS if step != 1 else X, 3)
    assert output == [X, EOS]
    assert forcer.accounting().answer_tokens == 2


def test_stop_ids_of_the_request_end_the_thinking_not_the_response() -> None:
    forcer = BudgetForcer(toy_plan(), [TURN, THINK], stop_ids=[Y])
    assert drive(forcer, lambda step: Y if step == 1 else X, 4) == [X, TURN, ANSWER, X]


@given(plan=plans(), prompt=PROMPTS, samples=SAMPLES)
@settings(deadline=None)
def test_a_response_that_kept_its_format_counts_the_same_without_a_plan(
    plan: ForcingPlan, prompt: list[int], samples: list[int]
) -> None:
    forcer = BudgetForcer(plan, prompt)
    output = drive(forcer, model(samples), 400)
    forced, free = forcer.accounting(), account_unforced(plan, prompt, output)
    if forced.end_forced is None:
        assert (free.thinking_spans, free.answer_spans) == (forced.thinking_spans, forced.answer_spans)
        assert (free.thinking_tokens, free.answer_tokens) == (forced.thinking_tokens, forced.answer_tokens)
    assert free.answered


@pytest.mark.parametrize(
    ("prompt", "output", "thinking", "answer"),
    [
        ([], [X, Y, EOS], (), ((0, 3),)),
        ([], [TURN, THINK, X, Y], ((2, 4),), ()),
        ([], [NEWLINE, TURN, THINK, X, TURN, ANSWER, Y, EOS], ((3, 4),), ((6, 8),)),
        ([TURN, THINK], [X, EOS], ((0, 1),), ()),
        ([TURN, THINK], [X, TURN, X], ((0, 1),), ()),
        ([TURN, THINK, TURN, ANSWER], [X, EOS], (), ((0, 2),)),
        ([], [TURN, THINK], ((2, 2),), ()),
        ([], [], (), ((0, 0),)),
        (
            [TURN, THINK],
            [X, TURN, ANSWER, Y, TURN, THINK, X, X, TURN, ANSWER, Y, EOS],
            ((0, 1), (6, 8)),
            ((3, 4), (10, 12)),
        ),
        ([TURN, THINK], [X, TURN, ANSWER, Y, TURN, THINK, X], ((0, 1), (6, 7)), ((3, 4),)),
    ],
)
def test_free_responses_are_split_where_their_delimiters_are(
    prompt: list[int], output: list[int], thinking: Spans, answer: Spans
) -> None:
    counted = account_unforced(toy_plan(), prompt, output)
    assert (counted.thinking_spans, counted.answer_spans) == (thinking, answer)
