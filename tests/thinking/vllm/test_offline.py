"""What a caller of `vllm.LLM` gets, without an engine; with one in tests/end_to_end/test_forcing_libraries.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from s1ray.miniature import BASE_MODEL_DIR
from s1ray.thinking import ThinkingBudget
from s1ray.thinking.plan import EXTRA_ARG, ForcingPlan
from s1ray.thinking.vllm import PROCESSOR, BudgetForcing


def llm(*processors: str) -> Any:
    model = SimpleNamespace(logits_processors=list(processors) or None, model=str(BASE_MODEL_DIR), max_model_len=100)
    engine = SimpleNamespace(vllm_config=SimpleNamespace(model_config=model))
    return SimpleNamespace(llm_engine=engine, get_tokenizer=lambda: AutoTokenizer.from_pretrained(BASE_MODEL_DIR))


def test_an_llm_without_the_processor_is_refused() -> None:
    with pytest.raises(ValueError, match="forces no budgets"):
        BudgetForcing(llm(), ThinkingBudget())


def test_every_sample_is_counted_within_its_room() -> None:
    forcing = BudgetForcing(llm(PROCESSOR), ThinkingBudget(waits=1), max_tokens=40)
    params = forcing.sampling_params(temperature=0.5, n=2)
    assert (params.max_tokens, params.temperature, params.n) == (40, 0.5, 2)
    plan = ForcingPlan.from_json(params.extra_args[EXTRA_ARG])
    assert plan.waits == 1
    ids = [*plan.start, 20, 21, *plan.end, 22]
    samples = [SimpleNamespace(index=i, token_ids=ids, finish_reason="length") for i in range(2)]
    output: Any = SimpleNamespace(request_id="7", prompt_token_ids=[20] * 5, outputs=samples)
    completions = forcing.completions([output])
    assert [completion.id for completion in completions] == ["7-0", "7-1"]
    assert {(c.thinking_tokens, c.answer_tokens, c.prompt_tokens) for c in completions} == {(2, 1, 5)}
