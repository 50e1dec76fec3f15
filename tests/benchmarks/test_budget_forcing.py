"""The benchmark's own logic: what requests must give, how rounds are run, how timings become ratios."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from benchmarks.budget_forcing.__main__ import WrongIds, check_ids
from benchmarks.budget_forcing.arms import BARRIER, IN_ENGINE, NATIVE, PLAIN, Rounds, arms_for
from benchmarks.budget_forcing.report import Measured
from benchmarks.budget_forcing.scripted_model import ScriptedModel, write_scripted_model
from benchmarks.budget_forcing.statistics import ratios, rotated, spread
from benchmarks.budget_forcing.workload import Request, Workload, make_requests
from s1ray.thinking import account
from s1ray.thinking.segmented import CompleteIds, Segment, force_in_segments


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ScriptedModel:
    return write_scripted_model(tmp_path_factory.mktemp("scripted"), chain=32, answer=4, layers=1)


def test_a_ratio_compares_measurements_side_by_side_so_that_a_slow_minute_does_not_matter() -> None:
    assert ratios([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]) == [0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0], [1.0, 1.0])


def test_arms_are_compared_through_the_plain_decode_beside_each() -> None:
    one = Measured(
        Workload("base"),
        tokens=100,
        plain_seconds=[1.0, 1.0, 4.0],
        seconds={IN_ENGINE: [1.0, 4.0], BARRIER: [2.0, 8.0]},
        beside={IN_ENGINE: [1.0, 4.0], BARRIER: [1.0, 4.0]},
        controller_share={IN_ENGINE: [0.01, 0.02], BARRIER: [0.0, 0.0]},
        work={},
    )
    assert one.ratio(IN_ENGINE).median == 1.0
    assert one.ratio(BARRIER).median == 0.5
    assert one.ratio_to(IN_ENGINE, BARRIER).median == 2.0
    assert one.tokens_per_second(BARRIER).largest == 50.0


def test_the_spread_of_numbers() -> None:
    some = spread([4.0, 1.0, 3.0, 2.0, 5.0])
    assert (some.median, some.low, some.high, some.smallest, some.largest) == (3.0, 2.0, 4.0, 1.0, 5.0)
    assert spread([7.0]).low == spread([7.0]).high == 7.0
    with pytest.raises(ValueError, match="nothing"):
        spread([])


def test_each_arm_comes_first_as_often_as_any_other_and_order_is_reversed_in_turn() -> None:
    orders = [rotated("abcd", turn) for turn in range(8)]
    assert all(sorted(order) == list("abcd") for order in orders)
    assert sorted(order[0] for order in orders) == sorted("abcd" * 2)
    followers = {(one, other) for order in orders for one, other in itertools.pairwise(order)}
    assert {("a", "b"), ("b", "a")} <= followers


def test_waits_and_lengths_of_a_workload_are_in_the_expected_ids(model: ScriptedModel) -> None:
    equal = make_requests(model, Workload("equal", waits=3, concurrency=4))
    assert len({len(request.expected) for request in equal}) == 1
    assert len({tuple(request.prompt_ids) for request in equal}) == 4
    for request in equal:
        counted = account(request.plan, request.prompt_ids, request.expected)
        assert counted.waits == 3
        assert counted.thinking_tokens == 4 * 32 + 3
        assert counted.answer_tokens == 4 + 1
    unequal = make_requests(model, Workload("unequal", waits=3, lengths="unequal", concurrency=8))
    assert all(account(r.plan, r.prompt_ids, r.expected).waits == 3 for r in unequal)
    assert len({len(request.expected) for request in unequal}) > 4


def test_an_endless_thought_is_cut_at_its_maximum(model: ScriptedModel) -> None:
    (request,) = make_requests(model, Workload("cut", waits=0, lengths="endless", concurrency=1, maximum=50))
    counted = account(request.plan, request.prompt_ids, request.expected)
    assert (counted.thinking_tokens, counted.end_forced) == (50, "budget")


def test_only_a_bare_maximum_has_a_native_arm() -> None:
    assert NATIVE in arms_for(Workload("cut", waits=0, lengths="endless", maximum=50))
    assert NATIVE not in arms_for(Workload("both", waits=1, maximum=50))
    assert NATIVE not in arms_for(Workload("base"))


def follow_script(model: ScriptedModel) -> tuple[CompleteIds, list[str]]:
    """An endpoint that does what the model would do, and notes when calls begin and end."""
    log: list[str] = []

    async def complete(
        prompt_ids: list[int], *, max_tokens: int, stop_ids: Sequence[int], ban: Sequence[int], seed: int | None
    ) -> Segment:
        log.append("begin")
        ids: list[int] = []
        last = prompt_ids[-1]
        while len(ids) < max_tokens:
            last = next(i for i in model.preferences(last) if i not in ban)
            ids.append(last)
            await asyncio.sleep(0)
            if last in stop_ids:
                break
        log.append("end")
        return Segment(ids, "stop" if last in stop_ids else "length")

    return complete, log


@pytest.mark.parametrize("barrier", [False, True])
def test_a_round_begins_when_all_responses_have_come_to_it_and_segments_give_the_expected_ids(
    model: ScriptedModel, barrier: bool
) -> None:
    requests = make_requests(model, Workload("unequal", waits=3, lengths="unequal", concurrency=5))
    complete, log = follow_script(model)
    rounds = Rounds(len(requests))

    async def one(request: Request) -> list[int]:
        taken = rounds.taking_part(complete) if barrier else complete
        eos = [model.eos_token_id]
        response = await force_in_segments(taken, request.plan, request.prompt_ids, room=1000, eos_ids=eos)
        rounds.leave()
        return response.output_ids

    async def everything() -> list[list[int]]:
        return await asyncio.wait_for(asyncio.gather(*map(one, requests)), 10)

    assert asyncio.run(everything()) == [request.expected for request in requests]
    in_rounds = (["begin"] * 5 + ["end"] * 5) * (len(log) // 10)
    assert (log == in_rounds) is barrier


def test_wrong_ids_are_named_and_plain_decode_only_has_to_be_as_long(model: ScriptedModel) -> None:
    workload = Workload("base", waits=1, concurrency=1)
    (request,) = make_requests(model, workload)
    wrong = [*request.expected]
    wrong[3] += 1
    check_ids(PLAIN, workload, [request], [wrong])
    check_ids(IN_ENGINE, workload, [request], [request.expected])
    with pytest.raises(WrongIds, match=r"arm 'in_engine', request 0: .* the first other one is at 3"):
        check_ids(IN_ENGINE, workload, [request], [wrong])
    with pytest.raises(WrongIds, match="arm 'plain'"):
        check_ids(PLAIN, workload, [request], [wrong[1:]])
