"""A real vLLM engine with a model that is keen on every delimiter, header and end: nothing of it reaches an answer.

python -m tests.end_to_end.test_hostile_engine 20000    # the long run
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from s1ray.models import EngineConfig
from s1ray.thinking import ForcingPlan, ThinkingBudget, ThinkingFormat, TokenizedFormat, make_plan
from s1ray.thinking.accounting import account
from s1ray.thinking.plan import EXTRA_ARG
from tests.support.hostile import Case, faults
from tests.support.random_model import HOSTILE, write_random_model

if TYPE_CHECKING:
    from s1ray.generation.vllm import VLLMGenerator

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

CONTEXT = 512
AT_ONCE = 64

FORMATS = (
    ThinkingFormat.preset("s1"),
    ThinkingFormat(name="tags", start="<think>", end="</think>", headers=("<|im_start|>",)),
    ThinkingFormat(name="long end", start="<think>", end="</think> so the answer", final_answer=""),
)


def draw(rng: random.Random, formats: list[TokenizedFormat]) -> tuple[TokenizedFormat, ForcingPlan, list[int], int]:
    tokenized = rng.choice(formats)
    fmt = tokenized.format
    maximum: Any = rng.choice([None, 0, 1, 3, 10, 30])
    budget = ThinkingBudget(
        max_tokens=maximum,
        min_tokens=rng.choice([0, 0, min(5, 30 if maximum is None else maximum)]),
        waits=0 if maximum == 0 else rng.choice([0, 0, 2]),
        wait_text=rng.choice(["Wait", None]),
        grace=0 if maximum is None else rng.choice([0, min(3, maximum)]),
        answer_reserve=rng.choice([None, 0, 4]),
        answer_max_tokens=rng.choice([None, 1, 2, 8, 20]),
        reopen=rng.choice(["forbid", "forbid", "allow"]),
    )
    begin = rng.choice(["", f"{fmt.start}\n", f"{fmt.start}one two"])
    prompt = list(
        tokenized.encode(f"<|im_start|>user\none{rng.randrange(10)}<|im_end|>\n<|im_start|>assistant\n{begin}")
    )
    room = rng.choice([rng.randint(1, 12), rng.randint(12, 90), 90])
    return tokenized, make_plan(tokenized, budget), prompt, room


def texts(tokenized: TokenizedFormat, prompt: list[int], pieces: list[str]) -> tuple[str, str]:
    """The answer as a stream gives it, and as a whole response does."""
    from s1ray.thinking.vllm.reasoning_parser import ThinkingReasoningParser

    parser_type = type("Parser", (ThinkingReasoningParser,), {"thinking_format": tokenized.format})
    streaming = parser_type(tokenized.tokenizer)
    streaming.adjust_initial_state_from_prompt(prompt)
    streamed = ""
    for piece in pieces:
        if streaming.has_engine_confirmed_reasoning_end():
            streamed += piece
        elif (delta := streaming.extract_reasoning_streaming("", "", piece, [], [], [])) is not None:
            streamed += delta.content or ""
    held = streaming.finish_streaming()
    streamed += (held.content or "") if held is not None else ""
    whole_parser = parser_type(tokenized.tokenizer)
    whole_parser.is_reasoning_end(prompt)
    _, whole = whole_parser.extract_reasoning("".join(pieces), None)
    return streamed, whole or ""


async def one(
    generator: VLLMGenerator, name: str, tokenized: TokenizedFormat, plan: ForcingPlan, prompt: list[int], room: int
) -> list[str]:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    room = min(room, CONTEXT - len(prompt))
    params = SamplingParams(
        temperature=1.0,
        seed=int(name),
        max_tokens=room,
        skip_special_tokens=False,
        output_kind=RequestOutputKind.DELTA,
        extra_args={EXTRA_ARG: plan.to_json()},
    )
    output: list[int] = []
    pieces: list[str] = []
    async for result in generator._engine.generate({"prompt_token_ids": prompt}, params, name):
        output += result.outputs[0].token_ids
        pieces.append(result.outputs[0].text)
    counted = account(plan, prompt, output, room=room)
    case = Case(plan, prompt, room, output, counted, tokenized.tokenizer.eos_token_id)
    found = faults(case)
    if not plan.reopen:
        fmt = tokenized.format
        streamed, whole = texts(tokenized, prompt, pieces)
        if streamed != whole:
            found.append("a stream gives another answer than the whole response")
        markers = (fmt.start, fmt.end, *fmt.end_triggers[:1], *fmt.headers)
        found += [f"{text!r} in the content" for text in markers if text in whole]
        answer = tokenized.decode([i for part in counted.answer_of(output) for i in part if i != case.eos])
        # A character that its last bytes are missing of is not shown.
        if answer.replace("\ufffd", "").strip() and not whole.strip():
            found.append(f"empty content for {answer!r}")
    return [f"{fault} ({tokenized.format.name})" for fault in found]


def search(folder: Path, count: int, seed: int) -> Counter[str]:
    from transformers import AutoTokenizer

    from s1ray.generation.vllm import VLLMGenerator

    write_random_model(folder, CONTEXT, keen=HOSTILE)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    formats = [fmt.resolve(tokenizer) for fmt in FORMATS]
    config = EngineConfig(
        model=str(folder), device="cpu", dtype="float32", max_model_len=CONTEXT, max_num_seqs=AT_ONCE, kv_cache_gib=0.25
    )
    rng = random.Random(seed)

    async def run() -> Counter[str]:
        generator = VLLMGenerator(config)
        found: Counter[str] = Counter()
        names = iter(range(count))

        async def work() -> None:
            for name in names:
                found.update(await one(generator, str(name), *draw(rng, formats)))
                if (name + 1) % 1000 == 0:
                    print(f"{name + 1:,} responses: {dict(found) or 'no fault'}", flush=True)

        try:
            await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        finally:
            await generator.close()
        return found

    return asyncio.run(run())


def test_nothing_gets_thinking_into_an_answer_streamed_or_whole(tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="needs vLLM")
    assert not search(tmp_path, 600, seed=1)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(dict(search(Path(folder), int(sys.argv[1]), seed=2)) or "no fault")
