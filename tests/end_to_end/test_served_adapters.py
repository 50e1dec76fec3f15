"""LoRA adapters of a served model, from a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from served import ENGINE

from s1ray.config import BASE_MODEL_DIR, validate_config
from s1ray.serving.config import ServingConfig
from s1ray.serving.local import serve_locally

pytestmark = pytest.mark.end_to_end

TOKENS = 24
PROMPTS = ["What is 12 + 30?", "Compute 7 - 2.", "Sort 3, 1, 2."]


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder with one adapter, and the miniature with it merged in."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(BASE_MODEL_DIR, dtype=torch.float32)
    config = peft.LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"])
    model = peft.get_peft_model(base, config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    folder = tmp_path_factory.mktemp("adapters")
    model.save_pretrained(folder / "odd")
    return folder, model.merge_and_unload()


@pytest.fixture(scope="module")
def adapter_client(ray_session: None, adapted: tuple[Path, Any]) -> Iterator[openai.OpenAI]:
    model = {"name": "s1-lora", "adapters": {"folder": str(adapted[0]), "max_rank": 8}, "start_attempts": 1, **ENGINE}
    config = validate_config(ServingConfig, {"models": [model]}, "test")
    with (
        serve_locally(config, start_timeout_s=600) as app,
        openai.OpenAI(base_url=f"{app.url}/v1", api_key="unused", max_retries=0, timeout=120) as client,
    ):
        yield client


def greedy(client: openai.OpenAI, model: str, prompt_ids: list[int]) -> list[int]:
    response = client.completions.create(
        model=model,
        prompt=prompt_ids,
        max_tokens=TOKENS,
        temperature=0.0,
        extra_body={"thinking": False, "return_token_ids": True, "ignore_eos": True},
    )
    choice: Any = response.choices[0]
    return choice.token_ids


def test_an_adapter_gives_what_the_merged_model_gives(
    adapter_client: openai.OpenAI, client: openai.OpenAI, adapted: tuple[Path, Any], tokenizer: Any
) -> None:
    import torch

    for text in PROMPTS:
        prompt_ids = tokenizer.encode(text)
        found = greedy(adapter_client, "s1-lora:odd", prompt_ids)
        with torch.no_grad():
            merged = adapted[1](torch.tensor([[*prompt_ids, *found]])).logits[0, len(prompt_ids) - 1 : -1]
        best = merged.max(1).values
        # Merged and unmerged weights round apart: another id is right only where both are as good.
        chosen = merged[torch.arange(TOKENS), torch.tensor(found)]
        assert (best - chosen).max() < 1e-3
        alone = greedy(adapter_client, "s1-lora", prompt_ids)
        assert alone != found
        assert alone == greedy(client, "s1", prompt_ids)


def test_adapters_keep_budgets_and_are_listed(adapter_client: openai.OpenAI) -> None:
    assert {model.id for model in adapter_client.models.list()} == {"s1-lora", "s1-lora:odd"}
    response = adapter_client.chat.completions.create(
        model="s1-lora:odd",
        messages=[{"role": "user", "content": PROMPTS[0]}],
        max_tokens=60,
        extra_body={"thinking": {"min_tokens": 12, "max_tokens": 12}},
    )
    choice: Any = response.choices[0]
    assert choice.thinking["thinking_tokens"] == 12


@pytest.mark.parametrize("name", ["other", "../odd", "odd:odd"])
def test_an_adapter_that_is_not_there_is_a_404(adapter_client: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError, match="adapters of this model: odd"):
        adapter_client.completions.create(model=f"s1-lora:{name}", prompt="Hello", max_tokens=2)


def test_a_model_without_adapters_says_so(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="has no adapters"):
        client.completions.create(model="s1:odd", prompt="Hello", max_tokens=2)
