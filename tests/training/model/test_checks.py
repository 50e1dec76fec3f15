"""What a config asks of a model's layers is checked before anything is started."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoConfig

from s1ray.config import ConfigError
from s1ray.miniature import BASE_MODEL_DIR
from s1ray.training.model.checks import check_heads
from s1ray.training.planning.requirements import check_requirements
from tests.support.training_runs import training_config


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


def test_a_model_whose_files_are_quantized_is_refused(tmp_path: Path) -> None:
    shutil.copytree(BASE_MODEL_DIR, tmp_path / "base")
    file = tmp_path / "base" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": {"quant_method": "fp8"}}))
    with pytest.raises(ConfigError, match=r"its weights are quantized \(fp8, says quantization_config"):
        check_requirements(training_config(model=str(tmp_path / "base")))
