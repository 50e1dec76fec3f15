"""Models that would not be trained as they are served are refused before anything is started."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from s1ray.config import ConfigError
from s1ray.training.model.checks import check_heads, check_network
from s1ray.training.planning.requirements import check_requirements
from tests.support.training_runs import training_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}


def network(family: str, **fields: object) -> PreTrainedModel:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SMALL, **fields))


@pytest.mark.parametrize(
    ("family", "fields", "problem"),
    [
        ("qwen3_next", {"layer_types": ["linear_attention", "full_attention"]}, "linear_attention, which would run on"),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}, "conv, which would run on"),
        ("rwkv", {"attention_hidden_size": 32}, "a state of their own, which would run on"),
        ("llama4_text", {"num_local_experts": 2, "attention_chunk_size": 8}, "chunk"),
        ("gpt_oss", {"num_local_experts": 2}, "softcapping or sinks"),
        ("gemma2", {"final_logit_softcapping": None}, "softcapping or sinks"),
        ("gemma2", {"attn_logit_softcapping": None}, r"reshape their logits \(final_logit_softcapping\)"),
        ("cohere", {}, r"reshape their logits \(logit_scale\)"),
        ("phi", {}, "linear output layer without bias"),
    ],
)
def test_a_model_that_is_served_otherwise_is_refused(family: str, fields: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=f"model org/m .*{problem}"):
        check_network(network(family, **fields), "org/m")


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama", "mistral", "gemma3_text", "qwen3_moe", "olmo2", "phi3"])
def test_families_of_plain_attention_can_be_trained(family: str) -> None:
    check_network(network(family, **({"pad_token_id": 0} if family == "phi3" else {})), "m")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"lora": {"target_modules": ["q_porj"]}}, "lora.target_modules: .* no linear layer 'q_porj'; it has .*q_proj"),
        ({"num_workers": 3, "sequence_parallel": 3}, "sequence_parallel 3 does not divide its 4 attention heads"),
        ({"accelerator_type": "H1000"}, "accelerator_type: Ray knows no accelerator 'H1000'; did you mean .*H100"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_anything_starts(fields: dict[str, object], problem: str) -> None:
    config = training_config(**({"model": "miniature-base"} | fields))
    with pytest.raises(ConfigError, match=problem):
        check_requirements(config)


@pytest.mark.parametrize(
    ("heads", "shared", "size", "fits"),
    [(40, 8, 8, True), (40, 8, 16, False), (32, 8, 16, True), (28, 4, 8, False), (4, 2, 4, True), (6, 4, 3, False)],
)
def test_heads_must_divide_among_the_workers_that_share_a_row(heads: int, shared: int, size: int, fits: bool) -> None:
    config = AutoConfig.for_model("qwen2", num_attention_heads=heads, num_key_value_heads=shared)
    if fits:
        check_heads(config, size, "m")
    else:
        with pytest.raises(ConfigError, match=f"model m: sequence_parallel {size} does not divide its {heads}"):
            check_heads(config, size, "m")


def test_lora_without_peft_is_refused_before_the_run_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    config = training_config(model="miniature-base", lora={})
    check_requirements(config)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install peft"):
        check_requirements(config)
