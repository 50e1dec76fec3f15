"""The three libraries' examples run as they stand, and `generate`, `vllm.LLM` and the server give the same greedy ids.

For 100 random budgets on the miniature, token for token. Where ids part, the model must find the two equally good
(`forcing_cases`): three implementations of one model in float32 differ in the last digits.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import runpy
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from s1ray.generation import GenerationRequest, complete_all
from s1ray.generation.http import HTTPGenerator
from s1ray.miniature import BASE_MODEL_DIR
from s1ray.schemas import Completion
from s1ray.thinking import BudgetForcer, ThinkingFormat
from s1ray.thinking.format import eos_ids_of
from tests.support.forcing_cases import Case, Vocabulary, equally_good, miniature_prompts, parting, random_case

if TYPE_CHECKING:
    from s1ray.serving.local import ServedApp

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

CASES = 100
EXAMPLES = Path(__file__).parents[2] / "examples" / "budget_forcing"


@pytest.fixture(scope="module", autouse=True)
def _needs_vllm() -> None:
    pytest.importorskip("vllm", reason="needs vLLM")


@pytest.fixture(scope="module")
def with_vllm() -> dict[str, Any]:
    """What the example has made, its LLM included: the only engine of this file."""
    return runpy.run_path(str(EXAMPLES / "with_vllm.py"), run_name="__main__")


@pytest.fixture(scope="module")
def with_transformers() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / "with_transformers.py"), run_name="__main__")


def run_with_any_server(monkeypatch: pytest.MonkeyPatch, url: str, model: str) -> Completion:
    monkeypatch.setattr(sys, "argv", ["with_any_server.py", url, model])
    completion: Completion = runpy.run_path(str(EXAMPLES / "with_any_server.py"), run_name="__main__")["completion"]
    return completion


def test_the_three_examples_give_the_same_response(
    with_vllm: dict[str, Any],
    with_transformers: dict[str, Any],
    served: ServedApp,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected: Completion = with_transformers["completion"]
    assert expected.waits == 1
    for completion in (with_vllm["completion"], run_with_any_server(monkeypatch, f"{served.url}/v1", "s1")):
        assert completion.error is None
        assert completion.output_ids == expected.output_ids
        assert (completion.thinking, completion.answer) == (expected.thinking, expected.answer)
        assert completion.thinking_tokens == expected.thinking_tokens


def in_vllm(llm: Any, cases: Sequence[Case]) -> list[list[int]]:
    from s1ray.thinking.vllm import BudgetForcing

    forcings = [BudgetForcing(llm, case.budget, max_tokens=case.room) for case in cases]
    params = [forcing.sampling_params(temperature=0.0) for forcing in forcings]
    outputs = llm.generate([{"prompt_token_ids": case.prompt_ids} for case in cases], params)
    return [list(output.outputs[0].token_ids) for output in outputs]


def in_transformers(model: Any, tokenizer: Any, cases: Sequence[Case]) -> list[Completion]:
    import torch

    from s1ray.thinking.transformers import BudgetForcingLogitsProcessor

    completions = []
    for case in cases:
        forcing = BudgetForcingLogitsProcessor(tokenizer, case.budget, max_new_tokens=case.room)
        ids = torch.tensor([case.prompt_ids])
        settings = {"attention_mask": torch.ones_like(ids), "max_new_tokens": case.room, "do_sample": False}
        completions += forcing.completions(model.generate(ids, logits_processor=[forcing], **settings))
    return completions


def is_served(case: Case) -> bool:
    """Whether the server takes a budget: it refuses what the response's own limit leaves no room for."""
    reserve = case.budget.answer_reserve
    limit = BudgetForcer(case.plan, case.plan.start, room=case.room).limit
    return (reserve is None or reserve < case.room) and (limit is None or case.budget.min_tokens <= limit)


def at_the_server(url: str, cases: Sequence[Case]) -> list[list[int] | None]:
    """The ids; None for a response that has no room for an answer, which the server refuses."""
    requests = [
        GenerationRequest(id=str(i), prompt_ids=case.prompt_ids, budget=case.budget, max_tokens=case.room)
        for i, case in enumerate(cases)
    ]

    async def complete() -> dict[str, Completion]:
        async with HTTPGenerator(f"{url}/v1", "s1", extra_body={"return_token_ids": True}) as generator:
            return {row.id: row async for row in complete_all(generator, requests, concurrency=16)}

    rows = asyncio.run(complete())
    answered = [rows[str(i)] for i in range(len(cases))]
    assert all(row.error is None or "none for an answer" in row.error for row in answered)
    return [None if row.error else list(row.output_ids or ()) for row in answered]


def test_generate_vllm_and_the_server_give_the_same_greedy_ids(
    with_vllm: dict[str, Any], with_transformers: dict[str, Any], served: ServedApp
) -> None:
    import torch

    tokenizer, model = with_transformers["tokenizer"], with_transformers["model"]
    eos = eos_ids_of(str(BASE_MODEL_DIR))
    rng = random.Random(17)
    formats = [ThinkingFormat.preset("s1").resolve(tokenizer, eos)]
    words = Vocabulary(["Wait", "Hmm, so", "\nWait"], [("1",), ("so", " is"), ("\n\n", "Then", "2 +")])
    prompts = miniature_prompts(tokenizer, rng, 40)
    drawn = (random_case(rng, formats, words, prompts) for _ in itertools.count())
    cases = list(itertools.islice(filter(is_served, drawn), CASES))

    expected = in_transformers(model, tokenizer, cases)
    ties = refused = 0
    found: list[Sequence[list[int] | None]] = [in_vllm(with_vllm["llm"], cases), at_the_server(served.url, cases)]
    for others in found:
        for case, completion, ids in zip(cases, expected, others, strict=True):
            ours = completion.output_ids or []
            if ids is None:
                assert completion.answer_tokens == 0
                refused += 1
                continue
            if ids == ours:
                continue
            at, action = parting(case, ids, ours, (), eos)
            with torch.no_grad():
                logits = model(torch.tensor([[*case.prompt_ids, *ours[:at]]])).logits[0, -1]
            assert equally_good(action, ids[at], ours[at], dict(enumerate(logits.log_softmax(0).tolist()))), case
            ties += 1
    assert ties <= 3
    assert refused <= 5
    assert sum(completion.waits for completion in expected) > 20
    assert sum(completion.end_forced is not None for completion in expected) > 20


def test_the_first_request_with_logprobs_compiles_nothing(with_vllm: dict[str, Any]) -> None:
    """On a CPU, compiling would hold up every request of the engine."""
    from vllm import SamplingParams

    def seconds(logprobs: int | None) -> float:
        began = time.monotonic()
        params = SamplingParams(temperature=0.0, max_tokens=8, logprobs=logprobs)
        (output,) = with_vllm["llm"].generate(["17 + 25"], params, use_tqdm=False)
        assert (output.outputs[0].logprobs is not None) == (logprobs is not None)
        return time.monotonic() - began

    assert seconds(None) < 10
    assert seconds(3) < seconds(None) + 2
