"""The logits processor in Hugging Face's `generate`, on a random model, against the driver that forces from outside."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from s1ray.thinking import ThinkingBudget, ThinkingFormat, account, make_plan
from s1ray.thinking.segmented import Segment, SegmentedResponse, force_in_segments
from s1ray.thinking.transformers import BudgetForcingLogitsProcessor
from tests.support.random_model import write_random_model

OPENED, CLOSED = "<|im_start|>think\n", "<|im_start|>think\none\n<|im_start|>answer"
THINKS = ThinkingBudget(max_tokens=20, waits=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("random-model")
    write_random_model(made, 512)
    return made


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder, padding_side="left")


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    # In doubles, so that the shape of a batch decides nothing.
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()


def prompt(tokenizer: Any, rng: random.Random) -> str:
    words = "".join(rng.choice(["one", " two", " so", "\n", "7"]) for _ in range(rng.choice([3, 20, 60])))
    turn = rng.choice(["", "", OPENED, OPENED, CLOSED])
    return f"<|im_start|>user\n{words}<|im_end|>\n<|im_start|>assistant\n{turn}"


def random_budget(rng: random.Random) -> ThinkingBudget:
    maximum: Any = rng.choice([None, "auto", 0, 1, 5, 17, 40])
    return ThinkingBudget(
        max_tokens=maximum,
        min_tokens=0 if maximum in (0, 1, 5) else rng.choice([0, 0, 12]),
        waits=rng.choice([0, 1, 2, 5]) if maximum != 0 else 0,
        wait_text=rng.choice(["Wait", ["Hmm", "Wait, so"], "Alternatively", None]),
        end_text=rng.choice([None, None, "\nTime: so\n<|im_start|>answer\n"]),
        grace=0 if maximum in (0, 1, 5) else rng.choice([0, 8]),
        ban=rng.choice([(), (), ("two",), ("one two", "7")]),
        answer_reserve=rng.choice([None, 0, 20]),
        loops=rng.choice([0, 0, 3]),
    )


def forced_from_outside(
    model: Any, tokenizer: Any, budget: ThinkingBudget, prompt_ids: list[int], room: int
) -> SegmentedResponse:
    eos = [tokenizer.eos_token_id]
    plan = make_plan(ThinkingFormat.preset("s1").resolve(tokenizer, eos), budget)

    async def complete(
        prompt_ids: list[int], *, max_tokens: int, stop_ids: Sequence[int], ban: Sequence[int], seed: int | None
    ) -> Segment:
        sequences = model.generate(
            torch.tensor([prompt_ids]),
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=list(stop_ids),
            suppress_tokens=list(ban) or None,
            pad_token_id=0,
        )
        ids = sequences[0, len(prompt_ids) :].tolist()
        return Segment(ids, "stop" if ids[-1] in stop_ids else "length")

    return asyncio.run(force_in_segments(complete, plan, prompt_ids, room=room, eos_ids=eos))


@pytest.mark.parametrize("seed", range(10))
def test_a_padded_batch_gives_each_row_the_ids_that_it_gets_alone_from_outside(
    seed: int, model: Any, tokenizer: Any
) -> None:
    rng = random.Random(seed)
    budget, room = random_budget(rng), rng.choice([1, 10, 40, 80])
    texts = [prompt(tokenizer, rng) for _ in range(4)]
    inputs = tokenizer(texts, return_tensors="pt", padding=True)
    forcing = BudgetForcingLogitsProcessor(tokenizer, budget, thinking_format="s1", max_new_tokens=room)
    output = model.generate(**inputs, max_new_tokens=room, do_sample=False, logits_processor=[forcing])
    completions, counts = forcing.completions(output), forcing.accounting(output)
    for text, completion, counted in zip(texts, completions, counts, strict=True):
        expected = forced_from_outside(model, tokenizer, budget, tokenizer.encode(text), room)
        assert completion.output_ids == expected.output_ids
        assert (completion.finish_reason, completion.waits) == (expected.finish_reason, len(expected.swallowed))
        assert (counted.thinking_tokens, counted.waits) == (completion.thinking_tokens, completion.waits)
        assert completion.prompt_tokens == len(tokenizer.encode(text))


def test_every_sample_of_a_prompt_has_its_own_budget_and_count(model: Any, tokenizer: Any) -> None:
    forcing = BudgetForcingLogitsProcessor(tokenizer, THINKS, max_new_tokens=60, temperature=1.0)
    inputs = tokenizer(["<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n"], return_tensors="pt")
    torch.manual_seed(0)
    output = model.generate(
        **inputs, max_new_tokens=60, do_sample=True, num_return_sequences=8, top_k=0, logits_processor=[forcing]
    )
    completions = forcing.completions(output)
    assert len({tuple(completion.output_ids or ()) for completion in completions}) == 8
    plan = make_plan(ThinkingFormat.preset("s1").resolve(tokenizer), THINKS)
    ends = set()
    for completion, counted in zip(completions, forcing.accounting(output), strict=True):
        assert completion.output_ids is not None
        assert counted.thinking_tokens <= 20
        assert counted.answered
        known = account(plan, inputs["input_ids"][0].tolist(), completion.output_ids, room=60)
        assert (counted.thinking_tokens, counted.answer_tokens, counted.end_forced) == (
            known.thinking_tokens,
            known.answer_tokens,
            known.end_forced,
        )
        ends.add(counted.end_forced)
    assert ends == {None, "budget"}


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_the_distribution_is_that_of_sampling_and_replacing(temperature: float, tokenizer: Any) -> None:
    forcing = BudgetForcingLogitsProcessor(tokenizer, THINKS, max_new_tokens=60, temperature=temperature)
    ids = torch.tensor([tokenizer.encode(OPENED)])
    scores = torch.randn(1, len(tokenizer) + 3, generator=torch.Generator().manual_seed(5)) * 3
    given = scores.clone()
    after = torch.softmax(forcing(ids, scores)[0].double() / temperature, 0)
    assert torch.equal(scores, given)
    before = torch.softmax(scores[0, : len(tokenizer)].double() / temperature, 0)
    stops = [tokenizer.convert_tokens_to_ids(token) for token in ("<|im_start|>", "<|im_end|>")]
    expected = before.clone()
    expected[tokenizer.encode("Wait")[0]] += before[stops].sum()
    expected[stops] = 0
    torch.testing.assert_close(after[: len(tokenizer)], expected, rtol=1e-5, atol=1e-7)
    assert float(after[len(tokenizer) :].sum()) == 0


def test_every_eos_of_the_models_generation_config_leads_to_an_answer(
    folder: Path, model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    other = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    tokenizer.save_pretrained(tmp_path)
    GenerationConfig(eos_token_id=[tokenizer.eos_token_id, other]).save_pretrained(tmp_path)
    ids = torch.tensor([tokenizer.encode(OPENED)])
    scores = torch.zeros(1, len(tokenizer))
    scores[0, other] = 9.0
    budget = ThinkingBudget()
    read = BudgetForcingLogitsProcessor(AutoTokenizer.from_pretrained(tmp_path), budget)
    said = BudgetForcingLogitsProcessor(tokenizer, budget, eos_token_ids=other)
    for forcing in (read, said):
        assert int(forcing(ids, scores)[0].argmax()) == tokenizer.convert_tokens_to_ids("<|im_start|>")
    without = BudgetForcingLogitsProcessor(tokenizer, budget)
    assert int(without(ids, scores)[0].argmax()) == other


def test_rows_that_a_stopping_criterion_ends_are_not_counted_further(model: Any, tokenizer: Any) -> None:
    texts = [f"<|im_start|>user\n{word}<|im_end|>\n<|im_start|>assistant\n{OPENED}" for word in ("one", "two so")]
    inputs = tokenizer(texts, return_tensors="pt", padding=True)
    width = inputs["input_ids"].shape[1]

    def stop(input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object) -> torch.Tensor:
        return torch.tensor([input_ids.shape[1] >= width + 3, input_ids.shape[1] >= width + 9])

    forcing = BudgetForcingLogitsProcessor(tokenizer, ThinkingBudget(min_tokens=30), max_new_tokens=60)
    output = model.generate(
        **inputs, max_new_tokens=60, do_sample=False, logits_processor=[forcing], stopping_criteria=[stop]
    )
    assert [counted.thinking_tokens for counted in forcing.accounting(output)] == [3, 9]


def test_what_cannot_be_followed_is_refused(model: Any, tokenizer: Any) -> None:
    inputs = tokenizer(["<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n"], return_tensors="pt")
    settings = {**inputs, "max_new_tokens": 40}

    def forcing() -> BudgetForcingLogitsProcessor:
        return BudgetForcingLogitsProcessor(tokenizer, ThinkingBudget(min_tokens=30), max_new_tokens=40)

    with pytest.raises(ValueError, match="beam search"):
        model.generate(**settings, do_sample=False, num_beams=3, logits_processor=[forcing()])
    with pytest.raises(ValueError, match="beam search or assisted decoding"):
        model.generate(**settings, do_sample=False, assistant_model=model, logits_processor=[forcing()])
    with pytest.raises(ValueError, match="pass do_sample=False"):
        model.generate(**settings, do_sample=True, logits_processor=[forcing()])
    used = forcing()
    with pytest.raises(ValueError, match="no call of generate"):
        used.accounting(inputs["input_ids"])
    first = model.generate(**settings, do_sample=False, logits_processor=[used])
    with pytest.raises(ValueError, match="of its own"):
        model.generate(**settings, do_sample=False, logits_processor=[used])
    assert len(used.accounting(first)) == 1
    with pytest.raises(ValueError, match="give the model's own tokenizer"):
        forcing()(torch.tensor([[1]]), torch.zeros(1, 4))
