"""What the controller alone costs a step: our processor, and vLLM's own thinking budget, without a model.

Batches of requests that have thought for a while already, on logits of Qwen2.5's width. A step is what the engine's
worker calls between two forward passes. What is measured is processor time, on one thread, so that other processes do
not count.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from benchmarks.budget_forcing.statistics import Spread, spread
from s1ray.thinking.plan import EXTRA_ARG, ForcingPlan

HISTORIES = (1_000, 8_000, 32_000)
BATCHES = (1, 64, 256)
CONTEXT = 262_144
VOCABULARY, WIDTH = 151_665, 152_064
"""Ids of Qwen2.5's tokenizer, and the rows that its larger models have for them."""

ENDOFTEXT, TURN, TURN_END = 151_643, 151_644, 151_645
THINK, ANSWER, NEWLINE, WAIT, HMM = 26_865, 9_217, 198, 14_190, 80_022
FINAL_ANSWER = (NEWLINE, 19_357, 21_806, 25)
ORDINARY = range(1_000, 9_000)
"""Ids that nothing is done about; 198 and every 32nd of them end a line."""

PLAN: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "start": (TURN, THINK),
    "end": (TURN, ANSWER),
    "end_triggers": (ENDOFTEXT, TURN, TURN_END),
    "newline": (NEWLINE,),
    "newline_ids": (NEWLINE, *ORDINARY[::32]),
    "cut": (TURN, ANSWER, *FINAL_ANSWER),
    "cut_answer": 2,
}
SCENARIOS: Mapping[str, Mapping[str, Any]] = {
    "maximum": {"max_tokens": 100_000},
    "waits left": {"waits": 4, "wait_texts": ((WAIT,),)},
    "every knob": {
        "max_tokens": 100_000,
        "min_tokens": 90_000,
        "waits": 4,
        "wait_texts": ((WAIT,), (HMM,)),
        "grace": 64,
        "ban": ((500,), (501, 502)),
        "loops": 4,
    },
    "a wait each step": {"waits": 10_000, "wait_texts": ((WAIT,),)},
    "waits without a text": {"waits": 4},
}
"""What the requests of a batch ask for. Where there is "a wait each step", one request's stop is swallowed in each, so
that actions change; in the others, everybody just thinks. Without a text, a suppressed stop leaves no token behind, and
whether there was one has to be read off the whole row of logits."""
WHOLE_ROWS = "waits without a text"

NATIVE = "vLLM's own maximum"


@dataclass(frozen=True)
class Cost:
    """Of one step."""

    scenario: str
    history: int
    """Thinking tokens of each request so far."""
    batch: int
    microseconds: Spread


Step = Callable[[], None]


class Batch:
    """Requests in the middle of their thinking.

    Attributes:
        outputs: what vLLM calls the live lists: they grow by one id a step.
    """

    def __init__(self, size: int, history: int, scenario: str) -> None:
        import torch

        wait_each_step = scenario == "a wait each step"

        rng = random.Random(size * history)
        self._rng, self._wait_each_step, self._step = rng, wait_each_step, 0
        # Keen on stopping, but not where a suppressed stop would count and the waits be used up.
        self._keen = scenario != WHOLE_ROWS
        self.prompt_ids = [*rng.choices(ORDINARY, k=64), TURN, THINK]
        self.outputs = [rng.choices(ORDINARY, k=history) for _ in range(size)]
        self.logits = torch.randn(size, WIDTH, generator=torch.Generator().manual_seed(0))

    def next_tokens(self) -> None:
        """Sample: one ordinary id for each, or the wait that a swallowed stop becomes."""
        for output in self.outputs:
            output.append(self._rng.choice(ORDINARY))
        if self._wait_each_step:
            self.outputs[self._step % len(self.outputs)][-1] = WAIT
        self._step += 1

    def next_logits(self) -> None:
        """Undo what the controller did to the columns it touches."""
        columns = [ENDOFTEXT, TURN, TURN_END, WAIT, HMM, 500, 502]
        self.logits[:, columns] = 0.0
        self.logits[:, TURN] = 20.0 if self._keen else -20.0
        self.logits[:, VOCABULARY:] = -1.0


def ours(batch: Batch, knobs: Mapping[str, Any]) -> Step:
    """A step of `BudgetForcingProcessor`, all requests of the batch in it."""
    import torch
    from vllm import SamplingParams
    from vllm.v1.sample.logits_processor import BatchUpdate

    from s1ray.thinking.vllm.processor import BudgetForcingProcessor

    model = SimpleNamespace(get_vocab_size=lambda: WIDTH, max_model_len=CONTEXT)
    config: Any = SimpleNamespace(model_config=model)
    processor = BudgetForcingProcessor(config, torch.device("cpu"), False)
    plan = ForcingPlan(**PLAN, **knobs).to_json()
    added = [
        (i, SamplingParams(max_tokens=None, extra_args={EXTRA_ARG: plan}), batch.prompt_ids, output)
        for i, output in enumerate(batch.outputs)
    ]
    processor.update_state(BatchUpdate(batch_size=len(added), removed=[], added=added, moved=[]))

    def step() -> None:
        processor.update_state(None)
        processor.apply(batch.logits)

    return step


def native(batch: Batch) -> Step:
    """A step of vLLM's thinking budget, a maximum that is not reached."""
    import torch
    from vllm import SamplingParams
    from vllm.v1.sample.logits_processor import BatchUpdate
    from vllm.v1.sample.thinking_budget_state import ThinkingBudgetStateHolder

    ids: Any = SimpleNamespace(reasoning_start_token_ids=[TURN, THINK], reasoning_end_token_ids=[TURN, ANSWER])
    holder = ThinkingBudgetStateHolder(ids, len(batch.outputs), 0, torch.device("cpu"), False)
    added = [
        (i, SamplingParams(thinking_token_budget=100_000), batch.prompt_ids, output)
        for i, output in enumerate(batch.outputs)
    ]
    holder.sync_batch(BatchUpdate(batch_size=len(added), removed=[], added=added, moved=[]))

    def step() -> None:
        holder.update_state(batch.outputs, None)
        holder.apply_to_logits(batch.logits, False, None)

    return step


def measure(batch: Batch, step: Step, *, seconds: float, most: int = 200) -> Spread:
    """Microseconds of processor time a step: at least 3, and as many as fit into the time."""
    for _ in range(2):  # The first one catches up with the history.
        batch.next_logits()
        step()
        batch.next_tokens()
    taken: list[float] = []
    while len(taken) < 3 or (len(taken) < most and sum(taken) < seconds):
        batch.next_logits()
        begin = time.thread_time()
        step()
        taken.append(time.thread_time() - begin)
        batch.next_tokens()
    return spread([value * 1e6 for value in taken])


def measure_all(
    *, seconds: float, histories: Sequence[int] = HISTORIES, batches: Sequence[int] = BATCHES
) -> list[Cost]:
    """Every scenario at every history and batch, `seconds` for each."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    costs = []
    for size in batches:
        for history in histories:
            for name, knobs in SCENARIOS.items():
                batch = Batch(size, history, name)
                costs.append(Cost(name, history, size, measure(batch, ours(batch, knobs), seconds=seconds)))
            batch = Batch(size, history, NATIVE)
            costs.append(Cost(NATIVE, history, size, measure(batch, native(batch), seconds=seconds)))
    torch.set_num_threads(threads)
    return costs
