"""Budget forcing in a real vLLM engine: a tiny model of random weights, random budgets, every token checked.

The engine is made uncomfortable on purpose: a KV cache that forces preemptions, prompts that are prefilled in chunks,
an embedding with more rows than the tokenizer has tokens. The weights are random but for one direction of the residual
stream, which makes the model keen on stopping and on saying "Wait".
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from s1ray.generation import GenerationRequest, complete_all
from s1ray.models import EngineConfig
from s1ray.schemas import Completion
from s1ray.thinking import ThinkingBudget, ThinkingFormat, TokenizedFormat, make_plan
from s1ray.thinking.completion import completion_from_ids
from tests.support.random_model import write_random_model

if TYPE_CHECKING:
    from s1ray.generation.vllm import VLLMGenerator

pytestmark = pytest.mark.end_to_end

CONTEXT = 512


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("vllm", reason="needs vLLM")
    folder = tmp_path_factory.mktemp("random-model")
    write_random_model(folder, CONTEXT)
    return str(folder)


@pytest.fixture(scope="module")
def tokenized(model_folder: str) -> TokenizedFormat:
    from transformers import AutoTokenizer

    return ThinkingFormat.preset("s1").resolve(AutoTokenizer.from_pretrained(model_folder))


def random_requests(tokenized: TokenizedFormat, number: int) -> list[GenerationRequest]:
    rng = random.Random(7)
    requests = []
    for i in range(number):
        maximum: Any = rng.choice([None, "auto", 0, 1, 2, 5, 17, 40, 90])
        capped = isinstance(maximum, int)
        waits = rng.choice([0, 1, 2, 5]) if maximum != 0 else 0
        budget = ThinkingBudget(
            max_tokens=maximum,
            min_tokens=rng.choice([0, 0, 30]) if not capped or maximum >= 30 else 0,
            waits=waits,
            wait_text=rng.choice(["Wait", ["Hmm", "Wait, so"], "Alternatively", None]),
            end_text=rng.choice([None, None, "\nTime: so\n<|im_start|>answer\n"]),
            grace=rng.choice([0, 0, 8]) if not capped or maximum >= 8 else 0,
            ban=rng.choice([(), (), ("two",), ("one two", "7")]),
            answer_reserve=rng.choice([None, 0, 20]),
            loops=rng.choice([0, 0, 3]),
        )
        words = [rng.choice(["one", " two", " so", "\n", "7"]) for _ in range(rng.choice([3, 20, 120]))]
        opened = "<|im_start|>think\n" if rng.random() < 0.4 else ""
        prompt = f"<|im_start|>user\n{''.join(words)}<|im_end|>\n<|im_start|>assistant\n{opened}"
        requests.append(
            GenerationRequest(
                id=str(i),
                prompt_ids=tokenized.encode(prompt),
                budget=budget if i % 9 else None,
                temperature=rng.choice([0.0, 0.7, 1.0]),
                top_p=rng.choice([1.0, 1.0, 0.9]),
                max_tokens=rng.choice([None, 60, 150]) if not capped else maximum + rng.choice([20, 60]),
            )
        )
    return requests


async def siblings(
    generator: VLLMGenerator, request: GenerationRequest, tokenized: TokenizedFormat
) -> list[Completion]:
    """Four samples of one request, in one."""
    assert request.budget is not None
    assert request.prompt_ids is not None
    plan = make_plan(tokenized, request.budget)
    room = min(CONTEXT - len(request.prompt_ids), request.max_tokens or CONTEXT)
    params = generator._sampling_params(request, plan.to_json(), room)
    params.n = 4
    prompt = {"prompt_token_ids": list(request.prompt_ids)}
    async for result in generator._engine.generate(prompt, params, f"siblings-{request.id}"):
        outputs = result.outputs
    return [
        completion_from_ids(
            request.id, tokenized, plan, request.prompt_ids, list(output.token_ids), output.finish_reason, room=room
        )
        for output in outputs
    ]


def run(
    config: EngineConfig, requests: list[GenerationRequest], tokenized: TokenizedFormat
) -> tuple[dict[str, Completion], dict[str, list[Completion]]]:
    """64 requests at a time; as many more that are given up in the middle; and some with four samples."""
    from s1ray.generation.vllm import VLLMGenerator

    async def generate() -> tuple[dict[str, Completion], dict[str, list[Completion]]]:
        generator = VLLMGenerator(config)
        try:
            doomed = [
                asyncio.create_task(generator.complete(replace(request, id=f"doomed-{request.id}", max_tokens=None)))
                for request in requests[:64]
            ]
            rows = {}
            async for row in complete_all(generator, requests, concurrency=64):
                rows[row.id] = row
                if len(rows) % 2 and doomed:
                    doomed.pop().cancel()
            drawn = [request for request in requests if request.budget is not None and request.temperature][:6]
            several = await asyncio.gather(*[siblings(generator, request, tokenized) for request in drawn])
            assert not generator._engine.output_processor.has_unfinished_requests()
            return rows, {request.id: group for request, group in zip(drawn, several, strict=True)}
        finally:
            await generator.close()

    return asyncio.run(generate())


def check(row: Completion, request: GenerationRequest, tokenized: TokenizedFormat) -> None:
    """Every token of a response against its budget, read off the ids without the forcer."""
    assert row.error is None
    assert request.prompt_ids is not None
    output, budget = list(row.output_ids or ()), request.budget
    assert max(output) < tokenized.vocab_size or budget is None
    if budget is None:
        return
    plan = make_plan(tokenized, budget)
    prompt = list(request.prompt_ids)
    opened = prompt[-1] in tokenized.newline_ids and prompt[-3:-1] == list(plan.start)
    begin = 0 if opened else 2
    assert output[:begin] == list(plan.start)[:begin]
    stop = next((i for i in range(begin, len(output)) if output[i] in tokenized.end_triggers), len(output))
    # What may be thought: the budget, or what the room leaves beside the forced texts and the answer.
    room = min(CONTEXT - len(prompt), request.max_tokens or CONTEXT)
    reserve = max(1, room // 8 if budget.answer_reserve is None else budget.answer_reserve)
    left = max(0, room - begin - len(plan.newline) - len(plan.cut) - reserve)
    maximum = min(left, budget.max_tokens) if isinstance(budget.max_tokens, int) else left
    if row.end_forced is not None:
        assert row.end_forced == "loop" or row.end_forced == ("budget" if maximum == budget.max_tokens else "context")
        cut_at = begin + row.thinking_tokens
        last = output[cut_at - 1] if cut_at else prompt[-1]
        if row.end_forced != "loop" and row.thinking_tokens < maximum:
            assert last in plan.newline_ids
            assert row.thinking_tokens >= maximum - budget.grace
        forced = ([] if last in plan.newline_ids else list(plan.newline)) + list(plan.cut)
        assert output[cut_at:][: len(forced)] == forced[: len(output) - cut_at]
        answer = cut_at + len(forced)
    else:
        assert row.thinking_tokens == stop - begin
        assert row.thinking_tokens >= budget.min_tokens or row.finish_reason == "length"
        assert output[stop : stop + 2] == list(plan.end)[: len(output) - stop]
        answer = stop + 2
    for banned in plan.ban:
        thought = tuple(output[begin : begin + row.thinking_tokens])
        assert all(thought[i : i + len(banned)] != banned for i in range(len(thought)))
    assert row.thinking_tokens <= maximum
    # Whatever the model does, there is an answer.
    assert len(output) > answer or room - begin < len(plan.newline) + len(plan.cut) + 1
    if len(output) > answer:
        assert output[answer] not in tokenized.end_triggers
    if row.finish_reason == "stop":
        assert len(output) > answer
        assert output[-1] == tokenized.tokenizer.eos_token_id
    # Waits: asked ones are written while the model keeps stopping; one token of thought after each.
    if budget.wait_texts and budget.min_tokens == 0:
        assert row.waits <= budget.waits
    ended_itself = row.end_forced is None and stop < len(output)
    longest = max((len(ids) for ids in plan.wait_texts), default=0)
    if ended_itself and row.thinking_tokens < maximum - longest:
        assert row.waits >= budget.waits


def preemptions() -> float:
    from prometheus_client import REGISTRY

    return sum(s.value for m in REGISTRY.collect() for s in m.samples if s.name == "vllm:num_preemptions_total")


@pytest.mark.parametrize("number", [50, pytest.param(150, marks=pytest.mark.slow)])
def test_every_response_of_a_real_engine_obeys_its_own_budget(
    number: int, model_folder: str, tokenized: TokenizedFormat
) -> None:
    requests = random_requests(tokenized, number)
    config = EngineConfig(
        model=model_folder,
        device="cpu",
        dtype="float32",
        max_model_len=CONTEXT,
        max_num_seqs=24,
        engine_kwargs={
            "num_gpu_blocks_override": 56,
            "block_size": 32,
            "enable_chunked_prefill": True,
            "max_num_batched_tokens": 64,
            "disable_log_stats": False,
        },
    )
    rows, groups = run(config, requests, tokenized)
    assert len(rows) == len(requests)
    for request in requests:
        row = rows[request.id]
        check(row, request, tokenized)
        assert row.prompt_tokens == len(request.prompt_ids or ()) >= row.cached_tokens >= 0
        assert row.completion_tokens == len(row.output_ids or ())
        for row in groups.get(request.id, ()):
            check(row, request, tokenized)
    assert any(len({tuple(row.output_ids or ()) for row in group}) == 4 for group in groups.values())
    assert preemptions() > 0, "the cache was meant to be too small"
    budgeted = [rows[r.id] for r in requests if r.budget is not None]
    assert sum(row.end_forced == "budget" for row in budgeted) > number // 8
    assert sum(row.end_forced == "context" for row in budgeted) > number // 30
    assert sum(row.waits for row in budgeted) > number // 8
    assert sum(row.end_forced is None and row.finish_reason == "stop" for row in budgeted) > number // 8
    unforced = [rows[r.id] for r in requests if r.budget is None]
    assert any(max(row.output_ids or ()) >= tokenized.vocab_size for row in unforced), "the mask would be untested"
