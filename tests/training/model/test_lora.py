"""LoRA: what is added to a model, and what merging gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from s1ray.config import ConfigError
from s1ray.training.config import LoraConfig
from s1ray.training.model.lora import add_updates, merge


def test_merged_updates_give_the_model_that_was_trained(model_folder: Path) -> None:
    config = LoraConfig(rank=3, alpha=6)
    trained = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    torch.manual_seed(0)
    add_updates(trained, config)
    updates = [parameter for name, parameter in trained.named_parameters() if ".lora_" in name]
    assert {parameter.requires_grad for parameter in updates} == {True}
    assert sum(parameter.requires_grad for parameter in trained.parameters()) == len(updates) == 2 * 7 * 2
    for parameter in updates:
        torch.nn.init.normal_(parameter, std=0.1)
    merged = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    before = merged(torch.arange(10).unsqueeze(0)).logits
    merged.load_state_dict(merge(dict(trained.state_dict()), config))
    found = merged(torch.arange(10).unsqueeze(0)).logits
    torch.testing.assert_close(found, trained(torch.arange(10).unsqueeze(0)).logits, rtol=1e-4, atol=1e-4)
    assert (found - before).abs().max() > 0.01


def test_a_layer_that_the_model_has_not_is_refused_by_name(model_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    with pytest.raises(ConfigError, match=r"no linear layer 'query'; it has .*q_proj"):
        add_updates(model, LoraConfig(target_modules=["query"]))
