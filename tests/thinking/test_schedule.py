"""AlphaOne's schedule in the forcer: when waits are written, and what ends the thinking behind the alpha moment."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from s1ray.thinking import ThinkingBudget, account, make_plan
from s1ray.thinking.forcer import BudgetForcer
from s1ray.thinking.plan import ForcingPlan
from s1ray.thinking.schedule import Schedule, SchedulePlan, drawn
from tests.support.toy import ANSWER, COMMA, EOS, HMM, NEWLINE, THINK, TURN, VOCAB, WAIT, X, Y, drive, toy_plan
from tests.thinking.test_format import S1, ByteLevel

PROMPT = [TURN, THINK]
TOKENIZER = ByteLevel("<|im_start|>", "<|im_end|>")


def schedule(**changes: Any) -> SchedulePlan:
    fields: dict[str, Any] = {
        "moment": 40,
        "p_start": 1.0,
        "p_end": 0.0,
        "wait": (WAIT, COMMA),
        "after": (NEWLINE, NEWLINE),
        "slow_words": ((HMM,),),
        "seed": 0,
    }
    return SchedulePlan(**(fields | changes))


def thinking_of(plan: ForcingPlan, samples: list[int], tokens: int = 400) -> tuple[list[int], BudgetForcer]:
    forcer = BudgetForcer(plan, PROMPT)
    output = drive(forcer, lambda step: samples[step % len(samples)], tokens)
    ((begin, end),) = forcer.accounting().thinking_spans
    return output[begin:end], forcer


def test_a_wait_follows_a_paragraph_break_and_nothing_else() -> None:
    plan = toy_plan(schedule=schedule(p_end=1.0), max_tokens=20)
    thinking, forcer = thinking_of(plan, [X, NEWLINE, Y, NEWLINE, NEWLINE])
    assert thinking[:8] == [X, NEWLINE, Y, NEWLINE, NEWLINE, WAIT, COMMA, Y]
    assert forcer.accounting().waits == thinking.count(WAIT) == len(forcer.scheduled)
    assert [thinking[at] for at in forcer.scheduled] == [WAIT] * len(forcer.scheduled)
    spans = forcer.accounting().wait_spans
    assert [thinking[begin:end] for begin, end in spans] == [[WAIT, COMMA]] * len(forcer.scheduled)


def test_an_id_that_ends_in_the_break_is_one() -> None:
    thinking, _ = thinking_of(toy_plan(schedule=schedule(p_end=1.0, after_ids=(14,)), max_tokens=9), [X, 14])
    assert thinking == [X, 14, WAIT, COMMA, X, 14, WAIT, COMMA, X]


def test_two_waits_never_follow_each_other_and_the_end_is_banned_after_one() -> None:
    text = (WAIT, NEWLINE)
    plan = toy_plan(schedule=schedule(p_end=1.0, wait=text, after=(NEWLINE,)), max_tokens=12)
    forcer = BudgetForcer(plan, PROMPT)
    output = drive(forcer, lambda step: NEWLINE if step % 2 == 0 else EOS, 4)
    assert output == [NEWLINE, *text, NEWLINE], "EOS was refused behind the wait"


@pytest.mark.parametrize(("p_start", "p_end"), [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
def test_the_chance_of_a_wait_changes_linearly_until_the_alpha_moment(p_start: float, p_end: float) -> None:
    early = late = 0
    for seed in range(800):
        chosen = schedule(p_start=p_start, p_end=p_end, moment=100, after=(NEWLINE,), wait=(WAIT,), seed=seed)
        forcer = BudgetForcer(toy_plan(schedule=chosen), PROMPT)
        for count in range(110):
            written = NEWLINE if count in (19, 79, 104) else X
            if forcer.action is not None and forcer.action.force == WAIT:
                written = WAIT
            forcer.observe(written)
        assert all(at in (20, 80) for at in forcer.scheduled)
        early += 20 in forcer.scheduled
        late += 80 in forcer.scheduled
    assert early / 800 == pytest.approx(p_start + 0.2 * (p_end - p_start), abs=0.06)
    assert late / 800 == pytest.approx(p_start + 0.8 * (p_end - p_start), abs=0.06)


@pytest.mark.parametrize("word", [(HMM,), (Y, HMM)])
def test_a_slow_word_ends_the_thinking_behind_the_alpha_moment_only(word: tuple[int, ...]) -> None:
    plan = toy_plan(schedule=schedule(moment=6, slow_words=(word,)))
    samples = [X, *word] * 10
    thinking, forcer = thinking_of(plan, samples)
    first = next(at for at in range(6, 20) if samples[at] == HMM)
    assert thinking == samples[:first]
    assert forcer.accounting().end_forced is None
    assert drive(BudgetForcer(plan, PROMPT), samples.__getitem__, first + 2)[first:] == [TURN, ANSWER]


def test_a_slow_word_that_is_the_only_thing_to_watch_moves_to_the_end() -> None:
    plan = toy_plan(
        schedule=schedule(moment=1), end=(ANSWER,), end_triggers=(ANSWER,), cut=(ANSWER,), cut_answer=1, answer_ban=()
    )
    forcer = BudgetForcer(plan, PROMPT)
    forcer.observe(X)
    assert forcer.action is not None
    assert (forcer.action.ban, forcer.action.move_to) == ((HMM,), ANSWER)


def test_a_maximum_without_room_for_the_wait_gets_none() -> None:
    plan = toy_plan(schedule=schedule(p_end=1.0, after=(NEWLINE,)), max_tokens=4)
    assert thinking_of(plan, [X, NEWLINE])[0] == [X, NEWLINE, X, NEWLINE]


@given(seed=st.none() | st.integers(0, 2**63 - 1), prompt=st.lists(st.integers(4, VOCAB - 1), max_size=5))
def test_equal_seeds_wait_at_the_same_places_whoever_follows(seed: int | None, prompt: list[int]) -> None:
    plan = toy_plan(schedule=schedule(p_end=1.0, p_start=0.5, after=(NEWLINE,), seed=seed), max_tokens=60)
    prompt = [*prompt, *PROMPT]
    outputs = []
    for own in (1, 2):
        forcer = BudgetForcer(plan, prompt, seed=own)
        outputs.append(drive(forcer, lambda step: (X, NEWLINE)[step % 2], 100))
        assert account(plan, prompt, outputs[-1]) == forcer.accounting()
    assert outputs[0] == outputs[1]


def test_draws_are_even_and_differ() -> None:
    numbers = [drawn(seed, number) for seed in range(100) for number in range(100)]
    assert len(set(numbers)) == len(numbers)
    for tenth in range(10):
        share = sum(tenth <= 10 * number < tenth + 1 for number in numbers) / len(numbers)
        assert share == pytest.approx(0.1, abs=0.012)


def test_the_plan_has_the_schedule_in_the_tokenizers_ids() -> None:
    resolved = S1.resolve(TOKENIZER)
    plan = make_plan(resolved, ThinkingBudget(), schedule=Schedule(phase_tokens=100))
    assert plan.schedule is not None
    assert plan.schedule.moment == 140
    assert plan.schedule.wait == resolved.encode("Wait")
    assert set(plan.schedule.slow_words) == {resolved.encode("Wait"), resolved.encode(" Wait")}
    assert plan.schedule.after == resolved.encode("\n\n")
    assert all(resolved.decode([i]).endswith("\n\n") for i in plan.schedule.after_ids)
    assert ForcingPlan.from_json(plan.to_json()) == plan
    assert plan.written.issuperset(plan.schedule.wait)


@pytest.mark.parametrize(
    ("budget", "fields", "message"),
    [
        ({"waits": 1}, {}, "schedule: says by itself when to wait"),
        ({"min_tokens": 1}, {}, "schedule: says by itself when to wait"),
        ({"ban": ("Wait",)}, {"wait_text": "Hmm"}, "schedule: slow_words: one is banned"),
        ({"ban": ("Hmm",)}, {"wait_text": "Hmm"}, "schedule: wait_text contains a banned text"),
        ({}, {"wait_text": "Wait<|im_end|>"}, "schedule: wait_text contains a token that ends"),
        ({}, {"slow_words": ("<|im_end|>",)}, "schedule: slow_words: one contains a token"),
        ({}, {"p_start": 0.0, "slow_words": ()}, "schedule: p_start: .* does nothing"),
    ],
)
def test_what_does_not_go_together_is_refused(budget: dict[str, Any], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_plan(S1.resolve(TOKENIZER), ThinkingBudget(**budget), schedule=Schedule(**({"phase_tokens": 10} | fields)))


@pytest.mark.parametrize(
    "fields",
    [
        {"phase_tokens": 0},
        {"alpha": 0},
        {"p_start": 1.5},
        {"after": "."},
        {"after": ""},
        {"wait_text": ""},
        {"slow_words": ("",)},
        {"seed": -1},
        {"alpha_moment": 3},
    ],
)
def test_nonsense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Schedule(**({"phase_tokens": 10} | fields))
