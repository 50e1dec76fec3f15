"""LoRA adapters of a served model, from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest

pytestmark = [pytest.mark.end_to_end, pytest.mark.second_model]

TOKENS = 24
PROMPTS = ["What is 12 + 30?", "Compute 7 - 2.", "Sort 3, 1, 2."]


def greedy(client: openai.OpenAI, model: str, prompt_ids: list[int]) -> list[int]:
    response = client.completions.create(
        model=model,
        prompt=prompt_ids,
        max_tokens=TOKENS,
        temperature=0.0,
        extra_body={"thinking": False, "return_token_ids": True, "ignore_eos": True},
    )
    choice: Any = response.choices[0]
    token_ids: list[int] = choice.token_ids
    return token_ids


def test_an_adapter_gives_what_the_merged_model_gives(
    client: openai.OpenAI, adapted: tuple[Path, Any], tokenizer: Any
) -> None:
    import torch

    for text in PROMPTS:
        prompt_ids = tokenizer.encode(text)
        found = greedy(client, "ponder:odd", prompt_ids)
        with torch.no_grad():
            merged = adapted[1](torch.tensor([[*prompt_ids, *found]])).logits[0, len(prompt_ids) - 1 : -1]
        best = merged.max(1).values
        # Merged and unmerged weights round apart: another id is right only where both are as good.
        chosen = merged[torch.arange(TOKENS), torch.tensor(found)]
        assert (best - chosen).max() < 1e-3
        alone = greedy(client, "ponder", prompt_ids)
        assert alone != found
        assert alone == greedy(client, "s1", prompt_ids)


def test_adapters_keep_budgets_and_are_listed(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {"s1", "ponder", "ponder:odd"}
    response = client.chat.completions.create(
        model="ponder:odd",
        messages=[{"role": "user", "content": PROMPTS[0]}],
        max_tokens=60,
        extra_body={"thinking": {"min_tokens": 12, "max_tokens": 12}},
    )
    choice: Any = response.choices[0]
    assert choice.thinking["thinking_tokens"] == 12


@pytest.mark.parametrize("name", ["other", "../odd", "odd:odd"])
def test_an_adapter_that_is_not_there_is_a_404(client: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError, match="adapters of this model: odd"):
        client.completions.create(model=f"ponder:{name}", prompt="Hello", max_tokens=2)


def test_a_model_without_adapters_says_so(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="has no adapters"):
        client.completions.create(model="s1:odd", prompt="Hello", max_tokens=2)
