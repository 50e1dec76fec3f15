"""Two ways of forcing, one engine: the processor inside and the segmented driver outside give the same token ids.

At temperature 0, for random budgets and formats, on the miniature (a real model, whose ids depend on every weight) and
on the scripted model (whose ids are the same whatever the batch). Both ways run at once, in mixed batches.

Floating-point sums depend on the shape of a batch, so a real model may choose differently between two ids that it finds
equally good in all digits but the last. Where ids part, the test asks the engine how good it finds the two: only such a
tie is no fault.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from s1ray.generation import GenerationRequest, complete_all
from s1ray.generation.segmented import SegmentedGenerator
from s1ray.miniature import BASE_MODEL_DIR
from s1ray.models import EngineConfig
from s1ray.thinking import ThinkingFormat
from s1ray.thinking.format import eos_ids_of
from s1ray.thinking.plan import EXTRA_ARG, PROCESSOR
from s1ray.thinking.replaying import replay
from s1ray.thinking.segmented import SegmentedResponse, force_in_segments
from tests.support.forcing_cases import Case, Vocabulary, equally_good, miniature_prompts, parting, random_case
from tests.support.stock_vllm import stock_server

pytestmark = pytest.mark.end_to_end

COMBINATIONS = 256


@dataclass(frozen=True)
class Outcome:
    """What became of the cases."""

    inside: list[list[int]]
    outside: list[SegmentedResponse]
    ties: list[int]
    """Cases whose ids part at a tie."""


def run(folder: str, cases: Sequence[Case]) -> Outcome:
    """Every case both ways in one engine, 64 requests at a time; fails where ids part for another reason than a tie."""
    from vllm import SamplingParams
    from vllm.inputs.engine import tokens_input
    from vllm.sampling_params import RequestOutputKind

    from s1ray.generation.vllm import EngineSegments, VLLMGenerator

    eos = eos_ids_of(folder)

    async def generate() -> Outcome:
        config = EngineConfig(model=folder, device="cpu", dtype="float32", max_model_len=1024, max_num_seqs=64)
        generator = VLLMGenerator(config)
        engine, free = generator._engine, asyncio.Semaphore(64)

        async def ask(name: str, prompt: list[int], **settings: Any) -> Any:
            params = SamplingParams(
                temperature=0.0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY, **settings
            )
            outputs = [output async for output in engine.generate(tokens_input(prompt), params, name)]
            return outputs[-1].outputs[0]

        async def inside(number: int, case: Case) -> list[int]:
            async with free:
                extra = {EXTRA_ARG: case.plan.to_json()}
                output = await ask(f"inside-{number}", case.prompt_ids, max_tokens=case.room, extra_args=extra)
                return list(output.token_ids)

        async def outside(case: Case) -> SegmentedResponse:
            async with free:
                complete = EngineSegments(engine)
                return await force_in_segments(complete, case.plan, case.prompt_ids, room=case.room, eos_ids=eos)

        async def is_tie(case: Case, one: list[int], response: SegmentedResponse) -> bool:
            other = response.output_ids
            at, action = parting(case, one, other, response.swallowed, eos)
            output = await ask(f"tie-{id(case)}", [*case.prompt_ids, *other[:at]], max_tokens=1, logprobs=20)
            known = {token: entry.logprob for token, entry in output.logprobs[0].items()}
            return equally_good(action, one[at], other[at], known)

        try:
            within = asyncio.gather(*[inside(number, case) for number, case in enumerate(cases)])
            without = asyncio.gather(*[outside(case) for case in cases])
            one, other = await within, await without
            parted = [i for i in range(len(cases)) if one[i] != other[i].output_ids]
            for i in parted:
                assert await is_tie(cases[i], one[i], other[i])
            return Outcome(one, other, parted)
        finally:
            await generator.close()

    return asyncio.run(generate())


def events(cases: Sequence[Case], outcome: Outcome, eos: Sequence[int]) -> Counter[str]:
    """What the forcer had to do in the cases."""
    met: Counter[str] = Counter()
    for case, response in zip(cases, outcome.outside, strict=True):
        counted = replay(
            case.plan,
            case.prompt_ids,
            response.output_ids,
            swallowed=response.swallowed,
            room=case.room,
            stop_ids=eos,
        ).accounting()
        met[case.format] += 1
        met[f"cut by {counted.end_forced}"] += 1
        met["waits"] += bool(counted.waits and case.plan.wait_texts)
        met["suppressed stops"] += bool(counted.waits and not case.plan.wait_texts and case.plan.schedule is None)
        met["cut in the grace window"] += bool(
            counted.end_forced in ("budget", "context") and counted.thinking_tokens < (counted.limit or 0)
        )
        met["replaced ids"] += response.requests > 2
        met[response.finish_reason] += 1
    print(met, "ties:", len(outcome.ties))
    return met


def custom_formats(delimiter: str, other: str) -> list[ThinkingFormat]:
    """Formats that no preset has: a delimiter of one token, and one of several."""
    return [
        ThinkingFormat(name="one token", start=f"{other}solve", end=delimiter, end_triggers=(other,), final_answer=""),
        ThinkingFormat(name="several tokens", start=delimiter, end=f"{other}result:", final_answer="So: "),
    ]


@pytest.fixture(scope="module", autouse=True)
def _needs_vllm() -> None:
    pytest.importorskip("vllm", reason="needs vLLM")


@pytest.mark.slow
def test_inside_and_outside_give_the_same_ids_on_the_miniature() -> None:
    from transformers import AutoTokenizer

    folder = str(BASE_MODEL_DIR)
    tokenizer, eos = AutoTokenizer.from_pretrained(folder), eos_ids_of(str(BASE_MODEL_DIR))
    formats = [ThinkingFormat.preset("s1"), *custom_formats("<|fim_pad|>", "<|im_start|>")]
    rng = random.Random(3)
    prompts = miniature_prompts(tokenizer, rng, 60)
    words = Vocabulary(["Wait", "Hmm, so", "\nWait"], [("1",), ("so", " is"), ("\n\n", "Then", "2 +")])
    cases = [
        random_case(rng, [f.resolve(tokenizer, eos) for f in formats], words, prompts, schedules=0.2)
        for _ in range(COMBINATIONS)
    ]
    outcome = run(folder, cases)
    met = events(cases, outcome, eos)
    assert min(met.values()) >= 5, met
    assert len(outcome.ties) <= 3


@pytest.mark.slow
def test_inside_and_outside_give_the_same_ids_on_the_scripted_model(tmp_path: Path) -> None:
    from benchmarks.budget_forcing.scripted_model import write_scripted_model

    model = write_scripted_model(tmp_path, chain=24, answer=8, layers=2, context=1024)
    eos = eos_ids_of(model.folder)
    formats = [
        ThinkingFormat.preset("s1"),
        ThinkingFormat.preset("qwen3"),
        *custom_formats("<tool_call>", "<|im_start|>"),
    ]
    rng = random.Random(5)
    chain = [model.tokenizer.decode([i]) for i in model.chain]
    prompts = [model.prompt(length=rng.randint(20, 90), opened=False, number=i) for i in range(20)]
    turns = ["Again", "Stop", "Actually"]
    prompts += [model.prompt(entry, number=i) for i, entry in enumerate([*model.entries, *turns * 4])]
    words = Vocabulary(
        [*model.entries, *turns],
        [(chain[5].strip(),), (chain[3] + chain[4], chain[18]), ("".join(chain[12:15]),)],
    )
    tokenized = [f.resolve(model.tokenizer, eos) for f in formats]
    cases = [random_case(rng, tokenized, words, prompts, schedules=0.2) for _ in range(COMBINATIONS)]
    outcome = run(model.folder, cases)
    met = events(cases, outcome, eos)
    assert min(met.values()) >= 5, met
    assert outcome.ties == []


@pytest.fixture
def vllm_serve(tmp_path: Path) -> Iterator[str]:
    """The address of a stock vLLM server of the miniature, with the processor in it for comparison."""
    with stock_server(tmp_path / "log", "--logits-processors", PROCESSOR) as url:
        yield url


@pytest.mark.slow
def test_a_stock_server_gives_the_same_ids_from_outside_as_with_the_processor_inside(vllm_serve: str) -> None:
    from transformers import AutoTokenizer

    folder = str(BASE_MODEL_DIR)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenized = ThinkingFormat.preset("s1").resolve(tokenizer, eos_ids_of(folder))
    rng = random.Random(11)
    prompts = miniature_prompts(tokenizer, rng, 20)
    words = Vocabulary(["Wait", "Hmm, so"], [("1",), ("so", " is")])
    cases = [random_case(rng, [tokenized], words, prompts) for _ in range(40)]

    async def inside(client: httpx.AsyncClient, case: Case) -> list[int]:
        body = {
            "model": "miniature",
            "prompt": case.prompt_ids,
            "max_tokens": case.room,
            "temperature": 0.0,
            "return_token_ids": True,
            "vllm_xargs": {EXTRA_ARG: case.plan.to_json()},
        }
        response = await client.post("/completions", json=body)
        ids: list[int] = response.raise_for_status().json()["choices"][0]["token_ids"]
        return ids

    async def both() -> tuple[list[list[int]], dict[str, Any]]:
        async with httpx.AsyncClient(base_url=vllm_serve, timeout=120) as client:
            expected = await asyncio.gather(*[inside(client, case) for case in cases])
        requests = [
            GenerationRequest(id=str(i), prompt_ids=case.prompt_ids, budget=case.budget, max_tokens=case.room)
            for i, case in enumerate(cases)
        ]
        async with SegmentedGenerator(vllm_serve, "miniature", weights=folder) as generator:
            return expected, {row.id: row async for row in complete_all(generator, requests, concurrency=16)}

    expected, rows = asyncio.run(both())
    assert [row.error for row in rows.values()] == [None] * len(cases)
    assert [rows[str(i)].output_ids for i in range(len(cases))] == expected
    assert sum(row.waits for row in rows.values()) > 3
