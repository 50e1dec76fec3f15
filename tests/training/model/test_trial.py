"""What a run changes of a model is tried on a small copy: it is merged into the same model, or refused in words."""

from __future__ import annotations

import re

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.training.families import COMMON, tiny_config
from s1ray.config import ConfigError
from s1ray.training.config import LoraConfig
from s1ray.training.model import trial
from s1ray.training.model.checks import linear_layers
from s1ray.training.model.lora import merge, targets
from s1ray.training.model.trial import try_out
from tests.support.training_runs import training_config

EXPERTS = "peft takes a layer's name for the experts, whose updates cannot be merged; name layers of attention"


def tried(family: str, **changes: object) -> str | None:
    """Why it is refused, if it is."""
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(tiny_config(family))
    settings = {"max_length": 64, "micro_batch_tokens": 64, "precision": "fp32"} | changes
    try:
        try_out(network, training_config(**settings))
    except ConfigError as error:
        return str(error)
    return None


# Falcon's attention is refused by `proof`, before anything is tried.
@pytest.mark.parametrize("family", [family for family in COMMON if family != "falcon"])
def test_the_updates_of_a_family_are_merged_into_the_model_that_was_trained_or_refused(family: str) -> None:
    refused = tried(family, lora={"rank": 4})
    assert refused is None or "\n" not in refused


@pytest.mark.parametrize(
    "family", ["qwen2", "qwen3", "llama", "mistral", "gemma3_text", "phi3", "qwen3_moe", "mixtral", "olmo2"]
)
@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_families_that_people_use_take_updates_on_all_linear_layers(family: str, quantize: str) -> None:
    assert tried(family, lora={"rank": 4, "quantize": quantize}, gradient_checkpointing=True) is None


@pytest.mark.parametrize(
    ("family", "lora", "problem"),
    [
        ("qwen3_moe", {"target_modules": ["gate_proj", "up_proj", "down_proj"]}, "no linear layer 'gate_proj'"),
        ("deepseek_v3", {}, EXPERTS),
        ("gpt2", {}, "GPT2LMHeadModel has no linear layers"),
        ("rwkv", {"quantize": "nf4"}, "the updates of RwkvForCausalLM cannot be merged"),
        ("falcon_h1", {}, "the layers of FalconH1ForCausalLM cannot be changed"),
    ],
)
def test_updates_that_would_be_lost_are_refused(family: str, lora: dict[str, object], problem: str) -> None:
    refused = tried(family, lora=lora)
    assert refused is not None
    assert re.search(problem, refused), refused


def test_recomputed_activations_are_tried() -> None:
    refused = tried("ctrl", gradient_checkpointing=True)
    assert refused is not None
    assert "cannot be trained with gradient_checkpointing" in refused


def test_shared_rows_need_heads_of_one_width() -> None:
    refused = tried("deepseek_v3", sequence_parallel=2, num_workers=2)
    assert refused is not None
    assert refused.startswith("sequence_parallel: DeepseekV3Attention has heads of different widths")
    assert tried("qwen3", sequence_parallel=2, num_workers=2) is None


def test_a_merge_that_gives_another_model_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def halved(weights: dict[str, torch.Tensor], config: LoraConfig) -> dict[str, torch.Tensor]:
        return {name: weight * (0.5 if "q_proj" in name else 1) for name, weight in merge(weights, config).items()}

    monkeypatch.setattr(trial, "merge", halved)
    refused = tried("qwen2", lora={})
    assert refused is not None
    assert "give another model than the one that was trained" in refused


def test_an_update_that_belongs_to_no_weight_is_not_dropped() -> None:
    weights = {"a.weight": torch.zeros(2, 2), "b.lora_A.default.weight": torch.zeros(1, 2)}
    with pytest.raises(ValueError, match=r"b.lora_A.default.weight cannot be merged"):
        merge(weights, LoraConfig())


@pytest.mark.parametrize("named", ["all-linear", ["q_proj"]])
def test_only_the_text_decoder_of_a_model_that_sees_gets_updates(named: str | list[str]) -> None:
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(tiny_config("gemma3"))
    found = targets(network, LoraConfig.model_validate({"target_modules": named}))
    meant = {n for n, _ in network.named_modules() if any(n == t or n.endswith(f".{t}") for t in found)}
    assert meant
    assert meant <= linear_layers(network).keys()
    assert any("vision" in name and name.endswith("q_proj") for name, _ in network.named_modules())
