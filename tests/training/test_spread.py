"""How a run is spread over workers and memory: what goes together, and what DeepSpeed is told."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s1ray.config import ConfigError, validate_config
from s1ray.training.config import LoraConfig, TrainingConfig
from s1ray.training.data.collate import Dataset, collate
from s1ray.training.model.engine import deepspeed_config
from s1ray.training.model.lora import add_updates, merge
from s1ray.training.model.loss import IGNORE
from s1ray.training.planning.requirements import check_heads, check_requirements

CPU = torch.device("cpu")
BASE = {"output": "x", "model": "x", "traces": "x"}


@given(lengths=st.lists(st.integers(2, 30), min_size=1, max_size=5), parts=st.integers(1, 4), flash=st.booleans())
def test_the_parts_of_a_shared_row_make_up_the_row(lengths: list[int], parts: int, flash: bool) -> None:
    draw = np.random.default_rng(0)
    dataset = Dataset(
        [str(i) for i in range(len(lengths))],
        [draw.integers(1, 100, size=length) for length in lengths],
        [np.arange(length) >= 1 for length in lengths],
    )
    batch = range(len(lengths))
    whole = collate(dataset, batch, packing=True, flash=flash, device=CPU)
    shares = [collate(dataset, batch, packing=True, flash=flash, device=CPU, part=(i, parts)) for i in range(parts)]
    total = sum(lengths)
    assert len({share["input_ids"].shape for share in shares}) == 1
    for name in ("input_ids", "labels", "position_ids"):
        joined = torch.cat([share[name] for share in shares], dim=1)
        assert torch.equal(joined[:, :total], whole[name])
        if name == "labels":
            assert (joined[:, total:] == IGNORE).all()
    boundaries = "cu_seq_lens_q" if flash else "segments"
    for share in shares:
        bounds = list(share[boundaries])
        assert bounds[: len(lengths) + 1] == list(whole[boundaries])
        assert bounds[-1] == parts * shares[0]["input_ids"].shape[1]


def test_an_empty_micro_batch_has_a_part_for_each_worker() -> None:
    dataset = Dataset([], [], [])
    shares = [collate(dataset, (), packing=True, flash=False, device=CPU, part=(i, 4)) for i in range(4)]
    assert all(share["input_ids"].shape == (1, 1) for share in shares)
    assert all((share["labels"] == IGNORE).all() for share in shares)


@pytest.mark.parametrize(
    ("heads", "shared", "size", "fits"),
    [(40, 8, 8, True), (40, 8, 16, False), (32, 8, 16, True), (28, 4, 8, False), (4, 2, 4, True), (6, 4, 3, False)],
)
def test_heads_must_divide_among_the_workers_that_share_a_row(heads: int, shared: int, size: int, fits: bool) -> None:
    from transformers import Qwen2Config

    config = Qwen2Config(num_attention_heads=heads, num_key_value_heads=shared)
    if fits:
        check_heads(config, size, "m")
    else:
        with pytest.raises(ConfigError, match=f"model m: sequence_parallel {size} does not divide its {heads}"):
            check_heads(config, size, "m")


def test_a_run_is_refused_before_it_starts_if_the_models_heads_cannot_be_shared(model_folder: Path) -> None:
    settings = BASE | {"model": str(model_folder)}
    check_requirements(TrainingConfig(**settings, num_workers=2, sequence_parallel=2))
    with pytest.raises(ConfigError, match="does not divide its 4 attention heads"):
        check_requirements(TrainingConfig(**settings, num_workers=3, sequence_parallel=3))


def test_lora_without_peft_is_refused_before_the_run_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = BASE | {"model": "miniature-base"}
    check_requirements(TrainingConfig(**settings, lora={}))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install peft"):
        check_requirements(TrainingConfig(**settings, lora={}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_workers": 4, "sequence_parallel": 3}, "does not divide num_workers 4"),
        ({"num_workers": 2, "sequence_parallel": 2, "packing": False}, "set packing: true"),
        ({"zero_stage": 0, "offload": {"optimizer": "cpu"}}, "needs zero_stage 1, 2 or 3"),
        ({"zero_stage": 2, "offload": {"parameters": "cpu"}}, "needs zero_stage 3, not 2"),
        ({"device": "cpu", "offload": {"optimizer": "cpu"}}, "leave it out with device: cpu"),
        ({"offload": {"optimizer": "disk"}}, "offload.optimizer"),
        ({"lora": {"rank": 0}}, "lora.rank"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate_config(TrainingConfig, BASE | changes, "train.yaml")


def test_workers_that_share_rows_count_as_one() -> None:
    assert TrainingConfig(**BASE, num_workers=8, sequence_parallel=4).data_parallel == 2


def test_deepspeed_is_told_what_to_offload() -> None:
    config = TrainingConfig(**BASE, zero_stage=3, offload={"optimizer": "cpu", "parameters": "cpu"})
    zero = deepspeed_config(config, on_gpu=True)["zero_optimization"]
    assert zero["offload_optimizer"] == {"device": "cpu", "pin_memory": True}
    assert zero["offload_param"] == {"device": "cpu", "pin_memory": True}
    zero = deepspeed_config(TrainingConfig(**BASE), on_gpu=True)["zero_optimization"]
    assert not {"offload_optimizer", "offload_param"} & zero.keys()


def test_merged_updates_give_the_model_that_was_trained(model_folder: Path) -> None:
    from transformers import AutoModelForCausalLM

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
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_folder)
    with pytest.raises(ConfigError, match=r"no linear layer 'query'; it has .*q_proj"):
        add_updates(model, LoraConfig(target_modules=["query"]))
