"""The device forcer in a small Model Runner V2, row by row against the host's `BudgetForcer` and `LogitEdits`."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from toy import ANSWER, COMMA, EOS, FINAL, HMM, NEWLINE, THINK, TURN, VOCAB, WAIT, X, Y, toy_plan

from s1ray.thinking.forcer import BudgetForcer
from s1ray.thinking.plan import EXTRA_ARG, ForcingPlan

torch = pytest.importorskip("torch")
pytest.importorskip("vllm", reason="the processor runs inside vLLM")

from vllm import SamplingParams  # noqa: E402

from s1ray.thinking.device_forcer import DONE, _signed  # noqa: E402
from s1ray.thinking.logit_edits import LogitEdits, RowEdit  # noqa: E402
from s1ray.thinking.processor import BudgetForcingProcessor  # noqa: E402

WIDTH = VOCAB + 4
"""Rows of the embedding: four more than the tokenizer knows."""
CONTEXT = 300
CONFIG = SimpleNamespace(model_config=SimpleNamespace(get_vocab_size=lambda: WIDTH, max_model_len=CONTEXT))
PHASES = ["start", "think", "wait", "end", "answer", "answer"]


def slot_tensors(slots: int) -> SimpleNamespace:
    """What vLLM calls `LogitsProcRequestState`."""
    return SimpleNamespace(
        device=torch.device("cpu"),
        max_num_reqs=slots,
        vocab_size=WIDTH,
        all_token_ids=SimpleNamespace(gpu=torch.zeros((slots, CONTEXT), dtype=torch.int32)),
        prompt_len=SimpleNamespace(np=np.zeros(slots, dtype=np.int32)),
        prefill_len=SimpleNamespace(np=np.zeros(slots, dtype=np.int32)),
    )


def model_logits(key: int, position: int) -> torch.Tensor:
    """What the model of request `key` says at a position: random, often keen to stop or to wait, or circling."""
    generator = torch.Generator().manual_seed(key * 100_003 + position)
    logits = torch.randn(WIDTH, generator=generator)
    if key % 3 == 2:
        period = 1 + key % 11
        logits[[12, 13, 14, NEWLINE][(position % period) % 4 if position % 50 > 2 else position % 4]] += 9
    logits[[EOS, TURN, WAIT, HMM, NEWLINE, WIDTH - 1]] += torch.randint(0, 2, (6,), generator=generator) * 2.5
    return logits


@dataclass(eq=False)
class Request:
    """A request in the small engine, with its reference."""

    key: int
    params: SamplingParams
    prompt: list[int]
    forcer: BudgetForcer | None
    output: list[int] = field(default_factory=list)
    computed: int = 0
    slot: int = -1
    share: float | None = None
    shares: list[float] = field(default_factory=list)

    @property
    def temperature(self) -> float:
        return self.params.temperature


def request(key: int, plan: ForcingPlan | None, prompt: list[int], **sampling) -> Request:
    sampling = {"temperature": 0.0, "max_tokens": 80, "seed": key} | sampling
    extra = {EXTRA_ARG: plan.to_json()} if plan is not None else None
    params = SamplingParams(extra_args=extra, **sampling)
    room = min(params.max_tokens, CONTEXT - len(prompt))
    stops = [i for i in params.all_stop_token_ids if i < WIDTH]
    forcer = None if plan is None else BudgetForcer(plan, prompt, room=room, stop_ids=stops, seed=params.seed or 0)
    return Request(key, params, prompt, forcer)


class Runner:
    """Slots, chunked prefill and shuffled rows, as Model Runner V2 has them."""

    def __init__(self, slots: int, seed: int) -> None:
        self.state = slot_tensors(slots)
        self.processor = BudgetForcingProcessor(CONFIG, self.state)
        self.free = list(range(slots))
        self.rng = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def leave(self, request: Request) -> None:
        self.free.append(request.slot)
        request.slot = -1

    def enter(self, entering: list[Request]) -> None:
        """Admit requests as the runner does: all processors first, then the tokens, then the staged writes."""
        for made in entering:
            made.slot = self.free.pop(self.rng.randrange(len(self.free)))
            made.computed = 0
            self.state.prompt_len.np[made.slot] = len(made.prompt)
            self.state.prefill_len.np[made.slot] = len(made.prompt) + len(made.output)
            # Over a process border, parameters come as new objects.
            forced = self.processor.add_request(made.slot, copy.deepcopy(made.params))
            assert forced == (made.forcer is not None)
        for made in entering:
            ids = torch.tensor(made.prompt + made.output, dtype=torch.int32)
            self.state.all_token_ids.gpu[made.slot, : len(ids)] = ids

    def step(self, running: list[Request], chunked: float = 0.3) -> None:
        """One forward pass; checks every row of a forced request against its reference."""
        self.processor.apply_staged_writes()
        rows = list(running)
        self.rng.shuffle(rows)
        positions = []
        for made in rows:
            total = len(made.prompt) + len(made.output)
            if made.computed < int(self.state.prefill_len.np[made.slot]) - 1 and self.rng.random() < chunked:
                made.computed += self.rng.randint(1, total - made.computed - 1)
            else:
                made.computed = total
            positions.append(made.computed - 1)
        live = [made.computed == len(made.prompt) + len(made.output) for made in rows]
        raw = torch.stack([model_logits(made.key, len(made.output)) for made in rows])
        edited = self.apply(raw.clone(), rows, positions)
        for row, made in enumerate(rows):
            if made.forcer is None or not live[row]:
                assert torch.equal(edited[row], raw[row]), "rows that are not sampled from are left alone"
            else:
                self.check(made, raw[row], edited[row])
            if live[row]:
                token = self.sample(edited[row], made.temperature)
                self.state.all_token_ids.gpu[made.slot, positions[row] + 1] = token
                made.output.append(token)

    def apply(self, logits: torch.Tensor, rows: list[Request], positions: list[int]) -> torch.Tensor:
        slots = np.array([made.slot for made in rows], dtype=np.int32)
        mapping, pos = torch.from_numpy(slots), torch.tensor(positions)
        context = SimpleNamespace(
            expanded_idx_mapping=mapping,
            idx_mapping=mapping,
            idx_mapping_np=slots,
            expanded_local_pos=torch.zeros_like(mapping),
            input_ids=self.state.all_token_ids.gpu[mapping.long(), pos],
            pos=pos,
            seq_lens_upper_bound_np=np.array(positions) + 1,
        )
        return self.processor.apply(logits, context)

    def sample(self, row: torch.Tensor, temperature: float) -> int:
        if temperature == 0:
            return int(row.argmax())
        return int(torch.multinomial(torch.softmax(row / temperature, 0), 1, generator=self.generator))

    def check(self, made: Request, raw: torch.Tensor, edited: torch.Tensor) -> None:
        forcer = made.forcer
        if len(made.output) > forcer.position:
            forcer.observe(made.output[-1], made.share)
        expected = raw.clone().unsqueeze(0)
        edit = RowEdit(0, forcer.action, made.temperature, forcer.plan.vocab_size)
        edits = LogitEdits([edit], WIDTH, lambda values, dtype: torch.tensor(values, dtype=dtype))
        shares = edits.apply(expected)
        made.share = shares[0] if edits.watched else None
        if made.share is not None:
            made.shares.append(made.share)
        torch.testing.assert_close(edited, expected[0], rtol=1e-5, atol=1e-5)
        ours = self.processor._forcer.state_of(made.slot)
        assert PHASES[ours["phase"]] == forcer.phase.value
        assert (ours["phase"] == DONE) == forcer.done
        assert (ours["count"], ours["limit"]) == (forcer.thinking_tokens, min(forcer.limit, 1 << 40))
        assert ours["swallowed"] == len(forcer.swallowed)
        assert ours["hash"] == _signed(forcer._hash)


SHAPES = [
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
]
BANS = [(), (), ((X,), (Y, FINAL)), ((NEWLINE, NEWLINE), (12, 13, 14), (13,)), ((12, WAIT), (Y,), (14, Y), (X, 14))]
PROMPTS = [
    [X, Y],
    [TURN, THINK],
    [THINK],
    [TURN, THINK, X, NEWLINE],
    [X, TURN, Y, NEWLINE],
    [TURN, THINK, X, TURN, ANSWER],
]


def random_plan(rng: random.Random) -> ForcingPlan:
    maximum = rng.choice([None, None, 0, 1, 3, 8, 20, 60])
    shape = rng.choice(SHAPES)
    texts = [(), ((WAIT,),), ((WAIT, COMMA), (HMM,)), ((HMM, X, X, Y), (WAIT,), (WAIT, FINAL))]
    while True:
        try:
            return toy_plan(
                max_tokens=maximum,
                min_tokens=rng.choice([0, rng.randint(0, 20 if maximum is None else maximum)]),
                waits=rng.choice([0, 1, 2, 3, 10]),
                wait_texts=rng.choice(texts),
                grace=rng.choice([0, 0, 4, 200]),
                ban=rng.choice(BANS),
                loops=rng.choice([0, 2, 3]),
                answer_reserve=rng.choice([None, 0, 10, 1000]),
                **shape,
            )
        except ValueError:  # this ban or trigger is part of this wait text
            continue


def random_requests(rng: random.Random, count: int, temperatures: list[float]) -> list[Request]:
    made = []
    for _ in range(count):
        plan = random_plan(rng) if rng.random() < 0.9 else None
        prompt = rng.choice(PROMPTS) + ([] if rng.random() < 0.7 else [X] * rng.randint(1, 5))
        sampling = {"temperature": rng.choice(temperatures), "max_tokens": rng.choice([12, 40, 90, 400])}
        if rng.random() < 0.4:
            sampling["stop_token_ids"] = rng.choice([[Y], [15, 14], [WAIT, WIDTH + 7]])
        made.append(request(rng.randrange(10_000), plan, prompt, **sampling))
    return made


def run(seed: int, temperatures: list[float], count: int = 14) -> list[Request]:
    rng = random.Random(seed)
    runner, waiting, running = Runner(6, seed), random_requests(rng, count, temperatures), []
    everybody, lengths = list(waiting), [rng.randint(5, 90) for _ in waiting]
    preemptions = 0
    while waiting or running:
        for made in list(running):
            if len(made.output) >= lengths[everybody.index(made)]:
                runner.leave(made)
                running.remove(made)
        for made in list(running):
            if rng.random() < 0.03:
                preemptions += 1
                runner.leave(made)
                running.remove(made)
                waiting.insert(rng.randint(0, 2), made)
                if made.output and made.forcer and len(made.output) > made.forcer.position and rng.random() < 0.3:
                    made.output.pop()  # sampled, but thrown away under asynchronous scheduling
        entering = [waiting.pop(0) for _ in range(min(len(waiting), len(runner.free))) if rng.random() < 0.7]
        runner.enter(entering)
        running += entering
        if running:
            runner.step(running)
    assert preemptions > 3
    return everybody


@pytest.mark.parametrize("seed", range(12))
def test_greedy_batches_follow_the_host_token_for_token(seed):
    requests = run(seed, [0.0])
    assert all(r.forcer is None or r.forcer.position >= len(r.output) - 1 for r in requests)


def test_sampled_batches_follow_the_host_and_attribute_waits_alike():
    requests = [made for seed in range(100, 106) for made in run(seed, [0.7, 1.0, 1.7])]
    drawn = [share for made in requests for share in made.shares if 0.01 < share < 0.99]
    assert len(drawn) > 100, "attribution has something to draw"
