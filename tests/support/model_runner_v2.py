"""A small Model Runner V2: every row of a forced request is checked against the host's forcer and `LogitEdits`."""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from vllm import SamplingParams

from s1ray.thinking.answer import MAX_BLANKS
from s1ray.thinking.forcer import BudgetForcer, Phase
from s1ray.thinking.logit_edits import LogitEdits, RowEdit
from s1ray.thinking.plan import ForcingPlan
from s1ray.thinking.vllm.v2.processor import BudgetForcingProcessor
from s1ray.thinking.vllm.v2.state import signed
from tests.support.toy import EOS, THINK, TURN
from tests.support.toy_engine import CONFIG, CONTEXT, WIDTH, model_logits, params


def slot_tensors(slots: int) -> Any:
    """What vLLM calls `LogitsProcRequestState`."""
    return SimpleNamespace(
        device=torch.device("cpu"),
        max_num_reqs=slots,
        vocab_size=WIDTH,
        all_token_ids=SimpleNamespace(gpu=torch.zeros((slots, CONTEXT), dtype=torch.int32)),
        prompt_len=SimpleNamespace(np=np.zeros(slots, dtype=np.int32)),
        prefill_len=SimpleNamespace(np=np.zeros(slots, dtype=np.int32)),
    )


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
        return float(self.params.temperature)

    def logits(self) -> torch.Tensor:
        """What the model says next. It is keen on white space, on ending and on every text that its plan bans."""
        logits = model_logits(self.key, len(self.output))
        if self.forcer is None:
            return logits
        plan, rng = self.forcer.plan, random.Random(f"{self.key} {len(self.output)}")
        blanks = random.Random(f"{self.key} {len(self.output) // 8}").random() < 0.4
        logits[list(plan.blank_ids)] += 7.0 * blanks
        logits[list(plan.end_triggers)] += 6.0 * (rng.random() < 0.3)
        for text in (plan.start, plan.end, *plan.answer_ban, *plan.end_spellings, *plan.ban):
            begun = [n for n in range(1, len(text)) if tuple(self.output[-n:]) == text[:n]]
            if begun and rng.random() < 0.7:
                logits[text[begun[-1]]] += 5.0
            elif rng.random() < 0.15:
                logits[text[0]] += 4.0
        return logits


def request(key: int, plan: ForcingPlan | None, prompt: list[int], **sampling: Any) -> Request:
    sampling = {"temperature": 0.0, "max_tokens": 80, "seed": key} | sampling
    made = params(plan, **sampling)
    room = min(made.max_tokens, CONTEXT - len(prompt))
    stops = [i for i in made.all_stop_token_ids if i < WIDTH]
    forcer = None if plan is None else BudgetForcer(plan, prompt, room=room, stop_ids=stops, seed=made.seed or 0)
    return Request(key, made, prompt, forcer)


class Runner:
    """Slots, chunked prefill and shuffled rows, as Model Runner V2 has them."""

    def __init__(self, slots: int, seed: int) -> None:
        self.state = slot_tensors(slots)
        self.processor = BudgetForcingProcessor(CONFIG, self.state)
        self.free = list(range(slots))
        self.rng = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.met: Counter[str] = Counter()
        """Tokens at which the rules for the end and for the answer had something to do."""

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
        raw = torch.stack([made.logits() for made in rows])
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
        """A row's logits and state against its reference."""
        forcer = made.forcer
        assert forcer is not None
        if len(made.output) > forcer.position:
            forcer.observe(made.output[-1], made.share)
        expected = raw.clone().unsqueeze(0)
        edit = RowEdit(0, forcer.action, made.temperature, forcer.plan.vocab_size)
        edits = LogitEdits([edit], WIDTH, lambda values, dtype: torch.tensor(values, dtype=dtype))
        shares = edits.apply(expected)
        made.share = shares[0] if shares is not None else None
        if made.share is not None:
            made.shares.append(made.share)
        torch.testing.assert_close(edited, expected[0], rtol=1e-5, atol=1e-5)
        ours, rules = self.processor._forcer.state_of(made.slot), forcer._answer
        assert list(Phase)[ours["phase"]] is forcer.phase
        assert forcer.limit is not None
        assert (ours["count"], ours["limit"]) == (forcer.thinking_tokens, min(forcer.limit, 1 << 40))
        assert ours["swallowed"] == len(forcer.swallowed)
        assert ours["hash"] == signed(forcer._hash)
        assert ours["worded"] == (not rules._wordless)
        if forcer.plan.answer_max_tokens is not None:
            assert ours["answer_tokens"] == forcer.answer_tokens
        self.met.update(name for name, met in _met(made, raw).items() if met)


def _met(made: Request, raw: torch.Tensor) -> dict[str, bool]:
    """Which rules govern a request's next token, against what the model wanted (`raw`)."""
    forcer = made.forcer
    assert forcer is not None
    plan, rules, room = forcer.plan, forcer._answer, forcer._room
    assert room is not None
    wanted, answers = int(raw[: plan.vocab_size].argmax()), forcer.phase is Phase.ANSWER
    last_of_room, most = forcer.position == room - 1, plan.answer_max_tokens
    last_of_answer = most is not None and forcer.answer_tokens == most - 1
    blank = answers and rules._wordless and wanted in plan.blank_ids and rules._blanks < MAX_BLANKS
    cut = forcer.phase is Phase.END and forcer.end_forced is not None and forcer._forced_at == 0
    unthought = answers and not forcer._thinking_spans
    return {
        "a banned id in the answer": answers and (wanted,) in plan.answer_ban,
        "a banned text in the answer": answers and wanted in rules._bans._now,
        "an answer that ends before its first word": answers and rules._wordless and wanted == EOS,
        "white space at the end of the room": blank and last_of_room and not last_of_answer,
        "white space at the maximum": blank and last_of_answer and not last_of_room,
        "white space allowed": blank and not last_of_answer and not last_of_room,
        "closed": forcer.phase is Phase.CLOSE,
        "cut with the answer's beginning": cut and len(forcer._cut_ids) == len(plan.cut) > plan.cut_answer,
        "cut without it": cut and len(forcer._cut_ids) < len(plan.cut) and forcer._newline == plan.newline != (),
        "bare end": cut and forcer._newline != plan.newline,
        "no thinking for want of room": unthought and room <= len(plan.start) + len(forcer._cut_ids),
        "no thinking in a begun answer": unthought and plan.begun_answer,
    }


def one(
    plan: ForcingPlan, prompt: Sequence[int] = (TURN, THINK), slots: int = 2, **sampling: Any
) -> tuple[Runner, Request]:
    """A runner with one request in it."""
    runner, made = Runner(slots, 0), request(5, plan, list(prompt), **sampling)
    runner.enter([made])
    runner.processor.apply_staged_writes()
    return runner, made


def feed(runner: Runner, made: Request, logits: torch.Tensor, token: int | None = None) -> torch.Tensor:
    """One step of one request with these logits ([1, WIDTH]); then `token` is what was sampled."""
    total = len(made.prompt) + len(made.output)
    edited = runner.apply(logits, [made], [total - 1])
    if token is not None:
        runner.state.all_token_ids.gpu[made.slot, total] = token
        made.output.append(token)
    return edited
