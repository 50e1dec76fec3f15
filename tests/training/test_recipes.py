from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s1ray.config import ConfigError, load_config, validate_config
from s1ray.training.config import TrainingConfig
from s1ray.training.memory import Architecture, estimate
from s1ray.training.schedule import steps_per_epoch, warmup_steps

RECIPES = sorted((Path(__file__).resolve().parents[2] / "jobs" / "configs").glob("train.*.yaml"))
QWEN_32B = Architecture(parameters=32_763_876_352, layers=64, hidden_size=5120, vocabulary=152064)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_shipped_recipe_is_valid(path: Path) -> None:
    load_config(TrainingConfig, path)


def test_the_published_recipe_is_the_papers() -> None:
    config = load_config(TrainingConfig, next(path for path in RECIPES if path.name == "train.s1-32b.yaml"))
    total = steps_per_epoch(1000, config.global_batch) * config.epochs
    assert (total, warmup_steps(total, config.optimizer)) == (315, 16)
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (1e-5, 1e-4)
    assert config.optimizer.betas == (0.9, 0.95)
    assert (config.num_workers, config.max_length, config.precision) == (16, 32768, "bf16")


def test_the_published_recipe_fits_80_gb() -> None:
    config = load_config(TrainingConfig, next(path for path in RECIPES if path.name == "train.s1-32b.yaml"))
    memory = estimate(QWEN_32B, config)
    # ZeRO paper, section 3: 2 + 4 + 12 bytes a parameter over 16 workers.
    assert memory.weights + memory.gradients + memory.optimizer == pytest.approx(18 * QWEN_32B.parameters / 16)
    assert memory.total < 80e9
    assert estimate(QWEN_32B, config.model_copy(update={"gradient_checkpointing": False})).total > 80e9


@pytest.mark.parametrize(
    ("stage", "bytes_a_parameter"), [(0, 18), (1, 2 + 4 + 12 / 4), (2, 2 + 4 / 4 + 12 / 4), (3, 18 / 4)]
)
def test_each_zero_stage_shards_what_the_paper_says(stage: int, bytes_a_parameter: float) -> None:
    config = TrainingConfig(output="x", model="x", traces="x", num_workers=4, zero_stage=stage)
    memory = estimate(QWEN_32B, config)
    states = memory.weights + memory.gradients + memory.optimizer
    assert states == pytest.approx(bytes_a_parameter * QWEN_32B.parameters)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_length": 1000, "micro_batch_tokens": 999}, "fit no micro-batch"),
        ({"export_dtype": "float32"}, "only widen"),
        ({"attention": "flash_attention_2", "device": "cpu"}, "needs a GPU"),
        ({"optimizer": {"betas": [0.9, 1.0]}}, "optimizer: betas"),
        ({"optimizer": {"learning_rat": 1e-5}}, "the fields here are learning_rate"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    data = {"output": "x", "model": "x", "traces": "x"} | changes
    with pytest.raises(ConfigError, match=message):
        validate_config(TrainingConfig, data, "train.yaml")
