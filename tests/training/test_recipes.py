"""Every training recipe: valid, 315 steps on a thousand rows, and within its hardware's memory."""

from __future__ import annotations

import random

import pytest

from benchmarks.training.busy import cost_of_32b, s1k_lengths, s11_lengths
from s1ray.config import load_config
from s1ray.recipes import find_recipe, recipe_names
from s1ray.training.config import TrainingConfig
from s1ray.training.data.schedule import learning_rate, steps_per_epoch, warmup_steps
from s1ray.training.planning import hardware
from s1ray.training.planning import plan as planning
from s1ray.training.planning.architecture import describe, read_architecture
from s1ray.training.planning.busy import GOOD
from s1ray.training.planning.hardware import Hardware, find_hardware
from s1ray.training.planning.memory import Architecture
from s1ray.training.planning.memory_advice import fits
from s1ray.training.planning.plan import Rows, estimate_for

RECIPES = recipe_names("train")
PUBLISHED = ("s1-32b", "s1.1-32b")


def recipe(name: str) -> TrainingConfig:
    return load_config(TrainingConfig, find_recipe(name, "train"))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid_and_says_how_to_submit_it(name: str) -> None:
    recipe(name)
    text = find_recipe(name, "train").read_text()
    command = f"ray job submit --working-dir . -- python jobs/train.py --config {name}"
    assert f"#   {command} --root" in text


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_recipes_are_the_papers(name: str) -> None:
    config = recipe(name)
    total = steps_per_epoch(1000, config.global_batch) * config.epochs
    assert (total, warmup_steps(total, config.optimizer)) == (315, 16)
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (1e-5, 1e-4)
    assert config.optimizer.betas == (0.9, 0.95)
    assert (config.num_workers, config.accelerator_type, config.precision) == (16, "H100", "bf16")
    assert config.max_length == {"s1-32b": 32768, "s1.1-32b": 20000}[name]
    rates = [learning_rate(step, total, config.optimizer) for step in range(total)]
    assert rates[16] == max(rates) == 1e-5
    assert rates[-1] < 1e-9 < rates[1]


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("s1-32b.8x")])
def test_fewer_gpus_take_the_same_steps(name: str) -> None:
    published, fewer = (recipe(n).model_dump() for n in ("s1-32b", name))
    spread = ("num_workers", "sequence_parallel", "cpus_per_worker", "accelerator_type", "offload")
    assert {k: v for k, v in fewer.items() if k not in spread} == {
        k: v for k, v in published.items() if k not in spread
    }


def architecture(config: TrainingConfig) -> Architecture:
    """That of the recipe's model: from its published sizes, as its config cannot be fetched in a test."""
    from transformers import AutoConfig, AutoModelForCausalLM

    names = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"]
    names.append("num_key_value_heads")
    sizes: dict[str, tuple[str, tuple[int, ...]]] = {
        "Qwen/Qwen2.5-32B-Instruct": ("qwen2", (152064, 5120, 27648, 64, 40, 8)),
        "Qwen/Qwen2.5-7B-Instruct": ("qwen2", (152064, 3584, 18944, 28, 28, 4)),
        "Qwen/Qwen3-8B": ("qwen3", (151936, 4096, 12288, 36, 32, 8)),
        "meta-llama/Llama-3.1-8B-Instruct": ("llama", (128256, 4096, 14336, 32, 32, 8)),
    }
    if config.model not in sizes:
        found = read_architecture(config)
        assert found is not None
        return found
    import torch

    family, numbers = sizes[config.model]
    with torch.device("meta"):
        fields = dict(zip(names, numbers, strict=True)) | {"head_dim": 128}
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **fields))
    return describe(model, config.lora)


@pytest.fixture(scope="module")
def thousand_rows() -> list[float]:
    """Lengths as of s1K, relative to the longest: most a few thousand tokens, a few several times that."""
    draw = random.Random(0)
    lengths = [min(1.0, draw.lognormvariate(-2.0, 0.6)) for _ in range(999)]
    return [1.0, *lengths]


@pytest.fixture
def only_what_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_cluster_nodes", lambda labels: None)
    monkeypatch.setattr(hardware, "_own_gpus", lambda: (0, None))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_fits_its_hardware_at_the_longest_row_it_allows(
    name: str, thousand_rows: list[float], only_what_is_configured: None
) -> None:
    config = recipe(name)
    lengths = [max(2, int(part * config.max_length)) for part in thousand_rows]
    rows = Rows(lengths, [length - 1 for length in lengths])
    found = find_hardware(config)
    if not found.on_gpu:
        found = Hardware("a laptop", False, None, 8 * 2**30, config.num_workers)
        config = config.model_copy(update={"precision": "fp32"})
    assert steps_per_epoch(1000, config.global_batch) == 63
    assert len(rows.layouts(config, 63)) == 63
    memory = estimate_for(config, architecture(config), rows, found)
    assert fits(memory, found), f"{memory.total / 2**30:.1f} GiB at the {memory.peak_moment}: {memory.moments}"


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "miniature"])
def test_the_workers_of_every_recipe_are_busy_nine_tenths_of_the_time(name: str) -> None:
    config = recipe(name)
    lengths = s11_lengths() if name.startswith("s1.1") else s1k_lengths()
    lengths = [length for length in lengths if length <= config.max_length]
    rows = Rows(lengths, lengths, cost_of_32b())
    steps = steps_per_epoch(len(lengths), config.global_batch)
    assert rows.busy(config, steps) > GOOD
    if config.sequence_parallel > 1:
        # Sharing rows costs communication: no recipe does it that would be busy without.
        assert rows.busy(config.model_copy(update={"sequence_parallel": config.sequence_parallel // 2}), steps) < GOOD


def test_the_published_recipe_needs_checkpointing_and_sixteen_gpus(
    thousand_rows: list[float], only_what_is_configured: None
) -> None:
    config = recipe("s1-32b")
    rows = Rows([int(part * 32768) for part in thousand_rows], [int(part * 32000) for part in thousand_rows])
    found, qwen = find_hardware(config), architecture(config)
    for changes in ({"gradient_checkpointing": False}, {"num_workers": 8}, {"zero_stage": 2}):
        assert not fits(estimate_for(config.model_copy(update=changes), qwen, rows, found), found)


def test_the_plan_says_what_eight_gpus_lack_and_what_would_help(
    thousand_rows: list[float], only_what_is_configured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recipe("s1-32b").model_copy(update={"num_workers": 8})
    monkeypatch.setattr(planning, "read_architecture", architecture)
    rows = Rows([int(part * 32768) for part in thousand_rows], [int(part * 32000) for part in thousand_rows])
    device, parts, host, verdict, *advice = planning.memory_lines(config, rows)
    assert "of 79.6 GiB on each GPU for 32,763.9M parameters" in device
    assert "optimizer 45.8 GiB" in parts
    assert "on each node of 8 worker(s)" in host
    assert verdict == "  it does NOT fit; it would with"
    settings = [line.strip().rpartition(" (")[0] for line in advice]
    assert "offload.optimizer: cpu" in settings
    assert "num_workers: 16" in settings
    lines = planning.memory_lines(recipe("s1-32b.8xh100"), rows)
    assert lines[-1] == "  it fits"
    assert "61.0 GiB of each worker's states offloaded" in lines[-2]
