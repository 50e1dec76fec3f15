"""The device forcer in a small Model Runner V2, row by row against the host's `BudgetForcer` and `LogitEdits`."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from s1ray.thinking import repetition
from s1ray.thinking.forcer import BudgetForcer, Phase
from s1ray.thinking.logit_edits import FORCED
from s1ray.thinking.plan import ForcingPlan
from s1ray.thinking.vllm.v2 import forcer as device_forcer
from s1ray.thinking.vllm.v2.forcer import _drawn
from s1ray.thinking.vllm.v2.state import signed
from tests.support.model_runner_v2 import Request, Runner, feed, one, request
from tests.support.toy import ANSWER, COLON, COMMA, EOS, FINAL, HMM, NEWLINE, THINK, TURN, VOCAB, WAIT, X, Y, toy_plan
from tests.support.toy_engine import WIDTH

SHAPES: list[dict[str, Any]] = [
    {},
    {"start": (THINK,), "end": (ANSWER,), "end_triggers": (EOS, ANSWER), "cut": (ANSWER, NEWLINE), "cut_answer": 1},
    {"cut": (X, Y, TURN, ANSWER), "cut_answer": 4, "newline": ()},
    {
        "end_triggers": (EOS, TURN, COMMA),
        "tool_calls": (COMMA,),
        "newline": (15, NEWLINE),
        "newline_ids": (NEWLINE, 14),
    },
    {"end": (TURN,), "end_triggers": (TURN,), "cut": (TURN,), "cut_answer": 1},
    {
        "start": (HMM, COMMA),
        "end": (ANSWER, COLON, FINAL),
        "end_triggers": (EOS, ANSWER, 15),
        "tool_calls": (15,),
        "cut": (Y, NEWLINE, ANSWER, COLON, FINAL, 12),
        "cut_answer": 5,
    },
]
ANSWER_BANS = [
    (),
    ((TURN,),),
    ((TURN,), (X, Y), (12, 13, 14)),
    ((ANSWER,), (NEWLINE, 12), (Y, EOS), (X, X, X, X), (13,)),
    ((COLON, X), (COLON, WAIT), (12, X), (NEWLINE, WAIT), (X, TURN), (Y, ANSWER)),
]
SPELLINGS = [(), ((X, FINAL), (Y, Y, FINAL)), ((13, 12, X), (14,), (HMM, HMM, HMM, HMM))]
BANS = [(), (), ((X,), (Y, FINAL)), ((NEWLINE, NEWLINE), (12, 13, 14), (13,)), ((12, WAIT), (Y,), (14, Y), (X, 14))]
PROMPTS = [
    [X, Y],
    [TURN, THINK],
    [THINK],
    [TURN, THINK, X, NEWLINE],
    [X, TURN, Y, NEWLINE],
    [TURN, THINK, X, TURN, ANSWER],
    [TURN, THINK, X, TURN, ANSWER, X, EOS, TURN, Y],
]


def random_plan(rng: random.Random, **changes: Any) -> ForcingPlan:
    maximum = rng.choice([None, 0, 0, 1, 3, 8, 20, 60])
    texts = [(), ((WAIT,),), ((WAIT, COMMA), (HMM,)), ((HMM, X, X, Y), (WAIT,), (WAIT, FINAL))]
    while True:
        try:
            fields: dict[str, Any] = {
                "max_tokens": maximum,
                "min_tokens": rng.choice([0, rng.randint(0, 20 if maximum is None else maximum)]),
                "waits": rng.choice([0, 1, 2, 3, 10]),
                "wait_texts": rng.choice(texts),
                "grace": rng.choice([0, 0, 4, 200]),
                "ban": rng.choice(BANS),
                "loops": rng.choice([0, 2, 3]),
                "answer_reserve": rng.choice([None, 0, 10, 1000]),
                "end_spellings": rng.choice(SPELLINGS),
                "answer_ban": rng.choice(ANSWER_BANS),
                "answer_max_tokens": rng.choice([None, None, 1, 2, 3, 4, 5, 12]),
                "eos": rng.choice([EOS, 14]),
                "blank_ids": rng.choice([(), (NEWLINE,), (NEWLINE, 12, 15)]),
                "begun_answer": rng.random() < 0.1,
            }
            return toy_plan(**(fields | rng.choice(SHAPES) | changes))
        except ValueError:  # this ban or trigger is part of this wait text
            continue


def random_requests(
    rng: random.Random, count: int, temperatures: Sequence[float], changes: dict[str, Any]
) -> list[Request]:
    made = []
    for _ in range(count):
        plan = random_plan(rng, **changes) if rng.random() < 0.9 else None
        prompt = rng.choice(PROMPTS) + ([] if rng.random() < 0.7 else [X] * rng.randint(1, 5))
        sampling: dict[str, Any] = {
            "temperature": rng.choice(temperatures),
            "max_tokens": rng.choice([rng.randint(1, 6), rng.randint(4, 13), 12, 40, 90, 400]),
        }
        if rng.random() < 0.4:
            sampling["stop_token_ids"] = rng.choice([[Y], [15, 14], [WAIT, WIDTH + 7]])
        made.append(request(rng.randrange(10_000), plan, prompt, **sampling))
    return made


def run(
    seed: int, temperatures: Sequence[float] = (0.0,), *, lose: bool = False, **changes: Any
) -> tuple[list[Request], Counter[str]]:
    """Requests that come, go, are preempted and come back, and which rules they met.

    Args:
        seed: of the requests, and of what becomes of them.
        temperatures: to choose each request's from.
        lose: whether the states of preempted requests are lost.
        changes: fields of all plans.
    """
    rng = random.Random(seed)
    runner, waiting = Runner(6, seed), random_requests(rng, 14, temperatures, changes)
    running: list[Request] = []
    everybody, lengths = list(waiting), [rng.randint(5, 50) for _ in waiting]
    preemptions = 0
    while waiting or running:
        for made in list(running):
            closed = made.forcer is not None and made.forcer.phase is Phase.CLOSE and rng.random() < 0.3
            if len(made.output) >= lengths[everybody.index(made)] or closed:
                runner.leave(made)
                running.remove(made)
        for made in list(running):
            if rng.random() < 0.04:
                preemptions += 1
                if lose:
                    runner.processor._forcer._state[made.slot] = 0
                runner.leave(made)
                running.remove(made)
                waiting.insert(0, made)
                if made.output and made.forcer and len(made.output) > made.forcer.position and rng.random() < 0.3:
                    made.output.pop()  # sampled, but thrown away under asynchronous scheduling
        entering = [waiting.pop(0) for _ in range(min(len(waiting), len(runner.free))) if rng.random() < 0.7]
        runner.enter(entering)
        running += entering
        if running:
            runner.step(running)
    assert preemptions > 1
    assert all(r.forcer is None or r.forcer.position >= len(r.output) - 1 for r in everybody)
    return everybody, runner.met


@pytest.mark.parametrize("seed", range(12))
def test_greedy_batches_follow_the_host_token_for_token(seed: int) -> None:
    run(seed)


@pytest.mark.parametrize("seed", range(100, 106))
def test_sampled_batches_follow_the_host_and_attribute_waits_alike(seed: int) -> None:
    texts = ((WAIT, COMMA), (HMM,))
    thinks: dict[str, Any] = {
        "waits": 10,
        "wait_texts": texts,
        "max_tokens": 60,
        "min_tokens": 0,
        "ban": (),
        "begun_answer": False,
    }
    requests, _ = run(seed, [0.7, 1.0, 1.7], **thinks)
    drawn = [share for made in requests for share in made.shares if 0.01 < share < 0.99]
    assert len(drawn) > 4, "attribution has something to draw"


@pytest.mark.parametrize("seed", range(200, 206))
def test_a_lost_state_is_found_again_from_the_ids_where_these_say_everything(seed: int) -> None:
    run(seed, lose=True, waits=0, wait_texts=(), loops=0, grace=0)


def test_random_requests_meet_every_rule_for_the_end_and_the_answer() -> None:
    met: Counter[str] = Counter()
    for seed in range(300, 306):
        met += run(seed, waits=0, loops=0, min_tokens=0, blank_ids=(NEWLINE, 12, 15))[1]
    assert len(met) == 12, met
    assert min(met.values()) >= 3, met


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.7])
def test_the_distribution_is_that_of_sampling_and_replacing(temperature: float) -> None:
    runner, made = one(toy_plan(waits=1), temperature=temperature)
    logits = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(5)) * 3
    before = torch.softmax(logits[0, :VOCAB].double() / temperature, 0)
    after = torch.softmax(feed(runner, made, logits)[0].double() / temperature, 0)
    expected = before.clone()
    expected[WAIT] += before[EOS] + before[TURN]
    expected[[EOS, TURN]] = 0
    torch.testing.assert_close(after[:VOCAB], expected, rtol=1e-5, atol=1e-7)
    assert float(after[VOCAB:].sum()) == 0


def test_suppressing_without_a_wait_text_renormalises() -> None:
    runner, made = one(toy_plan(waits=1, wait_texts=()), temperature=1.0)
    logits = torch.zeros(1, WIDTH)
    logits[0, TURN] = 2.0
    before = torch.softmax(logits[0, :VOCAB], 0)
    after = torch.softmax(feed(runner, made, logits)[0], 0)
    stop = float(before[EOS] + before[TURN])
    assert float(after[TURN]) == 0
    torch.testing.assert_close(float(after[X]), float(before[X]) / (1 - stop), rtol=1e-5, atol=0)
    torch.testing.assert_close(float(runner.processor._forcer._share[made.slot]), stop, rtol=1e-5, atol=0)


def test_numbers_are_drawn_as_the_host_draws_them() -> None:
    rng = random.Random(4)
    for _ in range(300):
        forcer = BudgetForcer(toy_plan(waits=1), seed=rng.randrange(-(2**40), 2**63))
        forcer.observe(rng.randrange(VOCAB))
        number = float(_drawn(torch.tensor([signed(forcer._hash)]))[0])
        assert forcer._drawn(number, unknown=False) is False
        assert forcer._drawn(math.nextafter(number, 2.0), unknown=False) is True


@pytest.mark.parametrize("thrown_away", [0, 1])
def test_a_preempted_request_keeps_knowing_which_waits_were_its_own(thrown_away: int) -> None:
    runner, made = one(toy_plan(waits=1))
    own = torch.zeros(1, WIDTH)
    own[0, [WAIT, TURN]] = torch.tensor([5.0, 1.0])
    feed(runner, made, own, WAIT)
    feed(runner, made, torch.zeros(1, WIDTH), X)
    made.output = made.output[: 2 - thrown_away]
    runner.leave(made)
    # Two others take both slots, and are forced too, so its state has to be parked.
    others = [request(6, toy_plan(waits=1), [TURN, THINK]), request(7, toy_plan(), [X])]
    runner.enter(others)
    runner.processor.apply_staged_writes()
    for other in others:
        runner.leave(other)
    runner.enter([made])
    runner.processor.apply_staged_writes()
    stop = torch.zeros(1, WIDTH)
    stop[0, TURN] = 5.0
    assert int(feed(runner, made, stop)[0].argmax()) == WAIT


def test_an_ambiguous_wait_is_attributed_by_the_share_from_before_the_preemption() -> None:
    for stop, ours in [(1.0, 0), (7.0, 1)]:
        runner, made = one(toy_plan(waits=1, wait_texts=((WAIT, COMMA),)))
        logits = torch.zeros(1, WIDTH)
        logits[0, [WAIT, TURN]] = torch.tensor([5.0, stop])
        feed(runner, made, logits, WAIT)
        runner.leave(made)
        runner.enter([made])
        runner.processor.apply_staged_writes()
        # A chunk of the prefill: its row says something else, and is not sampled from.
        chunk = torch.zeros(1, WIDTH)
        chunk[0, TURN if not ours else WAIT] = 9.0
        runner.apply(chunk, [made], [1])
        feed(runner, made, torch.zeros(1, WIDTH))
        assert runner.processor._forcer.state_of(made.slot)["swallowed"] == ours


def test_equal_outputs_of_different_requests_are_not_mixed_up() -> None:
    runner = Runner(4, 0)
    twins = [
        request(3, toy_plan(max_tokens=50), [TURN, THINK]),
        request(3, toy_plan(max_tokens=12), [TURN, THINK]),
        request(3, toy_plan(max_tokens=50), [TURN, THINK, X]),
        request(3, toy_plan(max_tokens=50), [TURN, THINK], max_tokens=30),
    ]
    runner.enter(twins)
    for _ in range(4):
        runner.step(twins)
    assert len({tuple(twin.output[:1]) for twin in twins}) == 1
    for twin in twins:
        runner.leave(twin)
    runner.enter(twins[::-1])
    for _ in range(30):
        runner.step(twins)


def test_a_request_whose_state_was_overwritten_is_replayed_from_its_ids(caplog: pytest.LogCaptureFixture) -> None:
    plans = [toy_plan(max_tokens=6, waits=2, wait_texts=((WAIT, COMMA), (HMM,)), loops=2), toy_plan(max_tokens=0)]
    plans += [toy_plan(answer_max_tokens=6, answer_ban=((TURN,), (12, 13, X), (COLON, 12)), max_tokens=1)]
    plans += [toy_plan(end_spellings=((12, 13, X),), answer_max_tokens=3)]
    for plan, output in [
        (plans[0], []),
        (plans[0], [X, WAIT]),
        (plans[0], [X, WAIT, COMMA, X, HMM]),
        (plans[0], [X] * 6 + [NEWLINE, TURN]),
        (plans[0], [X, X, TURN]),
        (plans[0], [X] * 6 + [NEWLINE, TURN, ANSWER, NEWLINE, FINAL, 9, X]),
        (plans[1], [NEWLINE]),
        (plans[2], [NEWLINE, TURN, ANSWER, NEWLINE]),
        (plans[2], [NEWLINE, TURN, ANSWER, NEWLINE, FINAL, COLON]),
        (plans[2], [NEWLINE, TURN, ANSWER, NEWLINE, FINAL, COLON, NEWLINE]),
        (plans[2], [NEWLINE, TURN, ANSWER, NEWLINE, FINAL, COLON, 12, 13]),
        (plans[2], [NEWLINE, TURN, ANSWER, NEWLINE, FINAL, COLON, 13, X, Y]),
        (plans[3], [TURN, ANSWER, *[NEWLINE] * 2]),
        (plans[3], [TURN, ANSWER, X, X, X, EOS]),
        (plans[3], [12, 13]),
    ]:
        runner = Runner(2, 0)
        made = request(5, plan, [TURN, THINK])
        made.output = [X, *output]
        assert made.forcer is not None
        for token in made.output:
            made.forcer.observe(token)
        runner.enter([made])
        runner.processor.apply_staged_writes()
        for _ in range(30):
            logits = made.logits().unsqueeze(0)
            edited = feed(runner, made, logits.clone())
            runner.check(made, logits[0], edited[0])
            token = int(edited[0].argmax())
            runner.state.all_token_ids.gpu[made.slot, len(made.prompt) + len(made.output)] = token
            made.output.append(token)
        assert made.forcer.position > len(output)
    assert "came back after too many others" in caplog.text


def test_children_of_one_request_that_are_preempted_together_get_their_own_states_back() -> None:
    plan = toy_plan(waits=2, wait_texts=((WAIT, COMMA),))
    runner = Runner(4, 0)
    children = [request(6, plan, [TURN, THINK], temperature=1.7) for _ in range(4)]
    runner.enter(children)
    for _ in range(25):
        runner.step(children)
    assert len({tuple(child.output) for child in children}) == 4
    for child in children:
        runner.leave(child)
    runner.enter(children[::-1])
    for _ in range(25):
        runner.step(children)


def passage_of(length: int) -> list[int]:
    rng = random.Random(length)
    return [rng.choice([HMM, COMMA, FINAL, X, Y, 12, 13, 14, 15]) for _ in range(length)]


@pytest.mark.parametrize(
    ("said", "copies", "cut"),
    [
        (passage_of(1) * 40, 2, 32),
        (passage_of(5) * 10, 8, 40),
        (passage_of(50) * 3, 2, 100),
        (passage_of(51) * 3, 2, None),
        # Two words only: everything has stood before, more than once.
        ([X if token < 14 else Y for token in passage_of(150)], 10, None),
    ],
)
@pytest.mark.parametrize("said_in_prompt", [False, True])
def test_loops_are_found_where_the_host_finds_them(
    said: list[int], copies: int, cut: int | None, said_in_prompt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (repetition, device_forcer):
        monkeypatch.setattr(module, "MAX_PASSAGE", 50)
    # What the prompt holds is no copy.
    prompt = [TURN, THINK, *(said[: len(said) // 3] if said_in_prompt else [])]
    runner, made = one(toy_plan(loops=copies, answer_reserve=0), prompt, max_tokens=220)
    assert made.forcer is not None
    for position, token in enumerate(said):
        if position:
            made.forcer.observe(made.output[-1])
        edited = feed(runner, made, torch.zeros(1, WIDTH), token)
        assert (float(edited.max()) == FORCED) == (made.forcer.end_forced == "loop")
        state, detector = runner.processor._forcer.state_of(made.slot), made.forcer._loop
        assert detector is not None
        assert (state["period"], state["matched"]) == (detector._period, detector._matched)
        if made.forcer.end_forced:
            break
    assert made.forcer.end_forced == ("loop" if cut else None)
    assert cut in (None, position)


def test_plans_that_differ_in_one_field_are_not_mixed_up() -> None:
    tools = (EOS, TURN, COMMA)
    cut = (TURN, ANSWER, TURN, ANSWER)
    base: dict[str, Any] = {"max_tokens": 1, "answer_max_tokens": 4, "end_triggers": tools, "cut": cut, "cut_answer": 2}
    changes: list[dict[str, Any]] = [
        {},
        {"eos": 14},
        {"cut_answer": 4},
        {"blank_ids": (NEWLINE, X)},
        {"answer_ban": ((X,), (Y, X))},
        {"tool_calls": (COMMA,)},
        {"newline": ()},
    ]
    runner = Runner(len(changes), 0)
    requests = [request(3, toy_plan(**(base | change)), [TURN, THINK]) for change in changes]
    runner.enter(requests)
    for _ in range(14):
        runner.step(requests)
    assert len({tuple(made.output) for made in requests}) > 4


def test_many_plans_come_and_go_through_one_pool() -> None:
    runner, rng = Runner(4, 0), random.Random(0)
    for round_ in range(150):
        text = tuple(rng.choice([X, Y, HMM, 12, 13]) for _ in range(60))
        stops = [14] if round_ % 2 else []
        made = [request(round_, toy_plan(waits=1, wait_texts=(text,)), [TURN, THINK], stop_token_ids=stops)]
        made += [request(round_ + 1, toy_plan(max_tokens=round_), [X])]
        runner.enter(made)
        runner.step(made)
        for other in made:
            runner.leave(other)
    assert len(runner.processor._forcer._tables._ids) < 10_000
    assert runner.processor._forcer._tables.flags.shape[0] <= 4
