"""Early exit over an engine without a model: what is streamed, asked, aborted and counted."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind

from s1ray.serving.replica.accounting import RequestRecord
from s1ray.serving.replica.early_exit import EarlyExiting
from s1ray.thinking import BudgetForcer, ForcingPlan, ThinkingBudget, make_plan
from s1ray.thinking.early_exit import EarlyExit
from s1ray.thinking.plan import EXTRA_ARG
from tests.thinking.test_format import S1, ByteLevel

FORMAT = S1.resolve(ByteLevel("<|im_start|>", "<|im_end|>"))
PROMPT = list(FORMAT.encode("What is 6 times 7?\n"))
THOUGHT = "6 times 7 is 40\nWait, it is 42\nSo 42\nWait, once more. 42\nWait, and once more. 42\nSo it is 42\n" * 3
SCRIPT = FORMAT.encode(THOUGHT)
CONTEXT = 600
SURE, UNSURE = math.log(0.99), math.log(0.6)


class Engine:
    """Greedy generation of a model that thinks THOUGHT and is sure of its answer once it has thought "So 42"."""

    def __init__(self, *, together: int = 1) -> None:
        self.generated: dict[str, int] = {}
        self.prompts: dict[str, list[int]] = {}
        self.params: dict[str, SamplingParams] = {}
        self.running: set[str] = set()
        self._aborted: set[str] = set()
        self._together = together

    async def abort(self, request_id: str) -> None:
        self._aborted.add(request_id)

    async def generate(
        self, prompt: Any, params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput]:
        ids = list(prompt["prompt_token_ids"])
        self.prompts[request_id], self.params[request_id] = ids, params
        plan_json = (params.extra_args or {}).get(EXTRA_ARG)
        forcer = None
        if plan_json is not None:
            room = params.max_tokens
            forcer = BudgetForcer(ForcingPlan.from_json(plan_json), ids, room=room)
        self.running.add(request_id)
        output: list[int] = []
        try:
            while True:
                await asyncio.sleep(0.001)
                new: list[int] = []
                reason: str | None = None
                while len(new) < self._together and reason is None:
                    new.append(self._next([*ids, *output, *new], forcer))
                    if new[-1] == FORMAT.eos:
                        reason = "stop"
                    elif len(output) + len(new) == params.max_tokens:
                        reason = "length"
                output += new
                self.generated[request_id] = len(output)
                if request_id in self._aborted:
                    reason = reason or "abort"
                logprobs: Any = None
                if params.logprobs is not None:
                    sure = "So 42" in FORMAT.decode(ids)
                    logprobs = [{i: SimpleNamespace(logprob=SURE if sure else UNSURE)} for i in new]
                completion = CompletionOutput(0, FORMAT.decode(new), new, None, logprobs, finish_reason=reason)
                yield RequestOutput(request_id, None, ids, None, [completion], reason is not None)
                if reason is not None:
                    return
        finally:
            self.running.discard(request_id)

    def _next(self, ids: list[int], forcer: BudgetForcer | None) -> int:
        token_id = self._wanted(ids)
        if forcer is not None:
            action = forcer.action
            if action is not None and action.force is not None:
                token_id = action.force
            elif action is not None and token_id in action.ban and action.move_to is not None:
                token_id = action.move_to
            forcer.observe(token_id)
        return token_id

    def _wanted(self, ids: list[int]) -> int:
        _, ended, answer = FORMAT.decode(ids).rpartition(S1.end)
        if ended:
            wanted = "\nFinal Answer: 42"
            rest = wanted[len(answer) :]
            assert FORMAT.eos is not None
            return FORMAT.encode(rest)[0] if rest else FORMAT.eos
        begin = len(ids) - next((n for n in range(len(ids)) if ids[n : n + 2] == list(FORMAT.start)), len(ids)) - 2
        return SCRIPT[begin] if begin < len(SCRIPT) else FORMAT.end[0]


def exiting(budget: ThinkingBudget, **settings: Any) -> tuple[EarlyExiting, ForcingPlan]:
    plan = make_plan(FORMAT, budget)
    return EarlyExiting(EarlyExit(**settings), FORMAT, plan, CONTEXT, ()), plan


def parameters(plan: ForcingPlan, **changes: Any) -> SamplingParams:
    fields: dict[str, Any] = {"max_tokens": 400, "output_kind": RequestOutputKind.DELTA, "skip_special_tokens": False}
    return SamplingParams(**(fields | changes), extra_args={EXTRA_ARG: plan.to_json()})


async def outputs_of(engine: Any, strategy: EarlyExiting, params: SamplingParams, name: str) -> list[RequestOutput]:
    prompt = {"type": "token", "prompt_token_ids": PROMPT}
    return [output async for output in strategy.generate(engine, engine.generate, prompt, params, name, priority=3)]


def ids_of(outputs: Sequence[RequestOutput]) -> list[int]:
    return [token_id for output in outputs for token_id in output.outputs[0].token_ids]


def run(budget: ThinkingBudget | None = None, *, together: int = 1, **settings: Any) -> SimpleNamespace:
    """One response, and what was counted of it where the server counts."""
    engine = Engine(together=together)
    budget = budget or ThinkingBudget()
    strategy, plan = exiting(budget, **settings)
    outputs = asyncio.run(outputs_of(engine, strategy, parameters(plan), "chat"))
    record = RequestRecord(plan=plan, budget=budget, max_tokens=400, context=CONTEXT, early_exit=strategy)
    choice = record.choice(0, PROMPT)
    for output in outputs:
        choice.extend(output.outputs[0].token_ids)
    return SimpleNamespace(
        engine=engine,
        account=strategy.account(),
        outputs=outputs,
        ids=ids_of(outputs),
        counted=choice.forcer.accounting(),
        strategy=strategy,
        plan=plan,
    )


@pytest.mark.parametrize("together", [1, 3])
def test_a_confident_trial_answer_ends_the_thinking_where_the_stream_stands(together: int) -> None:
    response = run(together=together)
    account, counted, ids = response.account, response.counted, response.ids
    text = FORMAT.decode(ids)
    thinking, _, answer = text.partition(S1.end)
    assert THOUGHT.startswith(thinking.removeprefix(S1.start).rstrip("\n").lstrip("\n"))
    assert "So 42\nWait" in thinking
    assert thinking.count("Wait") < THOUGHT.count("Wait")
    assert answer == "\nFinal Answer: 42<|im_end|>"
    assert counted.end_forced == "early_exit"
    assert counted.thinking_tokens == account["exited_at"] == account["thinking_tokens"]
    assert "".join(output.outputs[0].text for output in response.outputs) == text
    assert [output.finished for output in response.outputs].count(True) == 1
    assert all(output.prompt_token_ids == PROMPT for output in response.outputs)
    # What was written for the model is all that the engine has not generated.
    written = len(response.plan.newline) * (ids[counted.thinking_spans[0][1]] in FORMAT.newline) + len(
        response.plan.cut
    )
    assert account["completion_tokens"] == sum(response.engine.generated.values()) + written
    assert account["calls"] == len(response.engine.prompts) == 2 + len(account["probes"])
    assert account["prompt_tokens"] == sum(map(len, response.engine.prompts.values()))
    assert account["answer_tokens"] == counted.answer_tokens + account["probe_tokens"]
    last = account["probes"][-1]
    assert last["answer"] == "42"
    assert last["confidence"] == pytest.approx(0.99)
    assert all(probe["confidence"] < 0.95 for probe in account["probes"][:-1])
    assert not response.engine.running


def test_probes_follow_what_stood_before_the_word_and_the_answer_what_was_streamed() -> None:
    response = run()
    prompts = response.engine.prompts
    probe = next(ids for name, ids in prompts.items() if "-probe-" in name)
    assert FORMAT.decode(probe[len(PROMPT) :]) == (
        f"{S1.start}6 times 7 is 40\n{S1.end}\nFinal Answer:".replace(S1.start, S1.start)
    )
    answer = next(ids for name, ids in prompts.items() if name.endswith("-answer"))
    assert answer == [*PROMPT, *response.ids][: len(answer)]
    assert FORMAT.decode(answer).endswith(f"{S1.end}\nFinal Answer:")
    for name, params in response.engine.params.items():
        assert "s1ray_strategy" not in (params.extra_args or {}), name


def test_a_thinking_that_convinces_nobody_ends_by_itself_and_as_without_probes() -> None:
    response = run(threshold=0.995)
    plan = response.plan
    engine = Engine()
    prompt = {"prompt_token_ids": PROMPT}

    async def plain() -> list[RequestOutput]:
        return [output async for output in engine.generate(prompt, parameters(plan), "plain")]

    assert response.ids == ids_of(asyncio.run(plain()))
    assert response.counted.end_forced is None
    account = response.account
    assert account["exited_at"] is None
    assert account["calls"] == 1 + len(account["probes"]) > 3
    assert account["completion_tokens"] == sum(response.engine.generated.values())


def test_points_that_pass_while_a_probe_runs_take_none_of_the_probes() -> None:
    probes = run(every=1, threshold=0.999, max_probes=3).account["probes"]
    assert len(probes) == 3
    assert probes[1]["at"] > probes[0]["at"] + 1, "some were passed"


def test_equal_answers_in_a_row_end_it() -> None:
    response = run(kind="stability", every=10, stable=3)
    assert response.counted.end_forced == "early_exit"
    assert [probe["answer"] for probe in response.account["probes"]] == ["42"] * 3


def test_a_maximum_that_comes_first_ends_the_probes() -> None:
    response = run(ThinkingBudget(max_tokens=12), every=4, threshold=0.9)
    assert response.counted.end_forced == "budget"
    assert response.counted.thinking_tokens == 12
    assert response.account["exited_at"] is None
    assert not response.engine.running
    assert response.account["completion_tokens"] == sum(response.engine.generated.values())


def test_the_minimum_is_kept() -> None:
    least = 80
    response = run(ThinkingBudget(min_tokens=least), every=5)
    assert all(probe["at"] >= least for probe in response.account["probes"])
    assert response.account["exited_at"] >= least


def test_the_answer_has_what_is_left_of_its_maximum() -> None:
    response = run(ThinkingBudget(answer_max_tokens=len(FORMAT.encode("\nFinal Answer:")) + 1))
    assert response.counted.end_forced == "early_exit"
    assert response.counted.answer_tokens == len(FORMAT.encode("\nFinal Answer:")) + 1
    assert response.counted.answer_cut


def test_a_whole_response_is_the_stream_in_one_piece() -> None:
    strategy, plan = exiting(ThinkingBudget())
    params = parameters(plan, output_kind=RequestOutputKind.FINAL_ONLY)
    (output,) = asyncio.run(outputs_of(Engine(), strategy, params, "chat"))
    assert output.finished
    assert output.outputs[0].finish_reason == "stop"
    assert list(output.outputs[0].token_ids) == run().ids
    assert output.outputs[0].text == FORMAT.decode(list(output.outputs[0].token_ids))


def test_a_client_that_leaves_leaves_nothing_running() -> None:
    async def leave(after: int) -> set[str]:
        engine = Engine()
        strategy, plan = exiting(ThinkingBudget(), every=3)
        prompt = {"type": "token", "prompt_token_ids": PROMPT}
        outputs = strategy.generate(engine, engine.generate, prompt, parameters(plan), "chat")
        for _ in range(after):
            await anext(outputs)
        await outputs.aclose()
        return engine.running

    for after in (1, 8, 30, 36):
        assert asyncio.run(leave(after)) == set()


def test_a_probe_that_fails_fails_the_response() -> None:
    class Broken(Engine):
        async def generate(self, prompt: Any, params: Any, request_id: str, **options: Any) -> Any:
            if "-probe-" in request_id:
                raise RuntimeError("no probe today")
            async for output in super().generate(prompt, params, request_id, **options):
                yield output

    strategy, plan = exiting(ThinkingBudget(), every=3)
    with pytest.raises(RuntimeError, match="no probe today"):
        asyncio.run(outputs_of(Broken(), strategy, parameters(plan), "chat"))


def test_many_at_once_are_counted_apart() -> None:
    async def all_of_them() -> tuple[Engine, list[EarlyExiting], list[list[int]]]:
        engine, made = Engine(), [exiting(ThinkingBudget()) for _ in range(24)]
        jobs = [outputs_of(engine, strategy, parameters(plan), "same-id") for strategy, plan in made]
        return engine, [strategy for strategy, _ in made], [ids_of(o) for o in await asyncio.gather(*jobs)]

    engine, strategies, ids = asyncio.run(all_of_them())
    assert all(FORMAT.decode(one).endswith(f"{S1.end}\nFinal Answer: 42<|im_end|>") for one in ids)
    assert all(strategy.account()["exited_at"] is not None for strategy in strategies)
    assert sum(int(str(s.account()["calls"])) for s in strategies) == len(engine.prompts)
    assert not engine.running


def test_more_than_text_is_refused() -> None:
    strategy, plan = exiting(ThinkingBudget())

    async def ask() -> None:
        engine = Engine()
        prompt = {"type": "multimodal", "prompt_token_ids": PROMPT}
        async for _ in strategy.generate(engine, engine.generate, prompt, parameters(plan), "x"):
            pass

    with pytest.raises(VLLMValidationError, match="early_exit: takes text only"):
        asyncio.run(ask())
