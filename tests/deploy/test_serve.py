"""The Serve configs in deploy/serve: their fields, and the arithmetic in their comments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray.serve.config import AutoscalingConfig

from s1ray.serving.check import check_serve_config
from s1ray.serving.config import ServedModel
from s1ray.serving.replica.llm_config import llm_config
from s1ray.serving.scaling.policy import IMPORT_PATH

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "serve"
FILES = sorted(FOLDER.glob("*.yaml"))
GIB = 2**30


@dataclass(frozen=True)
class Shape:
    """The numbers in a model's config.json, and its parameters in billions."""

    parameters: float
    layers: int
    kv_heads: int
    head_size: int
    context: int


SHAPES = {
    "simplescaling/s1.1-32B": Shape(32.76, 64, 8, 128, 32768),
    "Qwen/Qwen3-32B": Shape(32.76, 64, 8, 128, 40960),
    "Qwen/Qwen3-8B": Shape(8.19, 36, 8, 128, 40960),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": Shape(7.62, 28, 4, 128, 131072),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": Shape(32.76, 64, 8, 128, 131072),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": Shape(70.55, 80, 8, 128, 131072),
}
CARD_GIB = {"H100": 79.6, "H200": 139.8, "L40S": 45.0}
CARDS = {"L40S": 4}
"""Cards on a node, if not eight."""
OTHER_GIB = 4.0
"""Activations, CUDA graphs and NCCL, per card."""
MEAN_TOKENS = 6200


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


@pytest.fixture
def model(path: Path) -> ServedModel:
    (config,) = check_serve_config(path).values()
    (model,) = config.models
    return model


def kv_tokens(model: ServedModel) -> int:
    shape, cards = SHAPES[model.model], model.tensor_parallel_size
    assert model.accelerator_type is not None
    usable = CARD_GIB[model.accelerator_type] * model.engine_kwargs["gpu_memory_utilization"]
    free = usable - shape.parameters * 2e9 / GIB / cards - OTHER_GIB
    return int(free * GIB * cards / (4 * shape.layers * shape.kv_heads * shape.head_size))


def test_the_promised_configs_exist() -> None:
    names = {path.stem for path in FILES}
    assert {f"s1.1-32b.tp{tp}.{card}" for tp in (2, 4, 8) for card in ("h100", "h200")} <= names
    assert any(name.startswith("qwen3") for name in names)
    assert any(name.startswith("deepseek-r1-distill") for name in names)


def test_a_files_name_says_what_it_serves(path: Path, model: ServedModel) -> None:
    name, cards, card = re.fullmatch(r"(.+)\.tp(\d)\.(h\d+|l40s)", path.stem).groups()  # type: ignore[union-attr]
    assert model.model.split("/")[1].lower() == name
    assert model.tensor_parallel_size == int(cards)
    assert model.accelerator_type == card.upper()
    text = path.read_text(encoding="utf-8")
    assert text.count(f"deploy/serve/{path.name}") == 2


def test_the_arithmetic_in_the_comments_is_right(path: Path, model: ServedModel) -> None:
    found = re.search(
        r"# KV cache: ([\d,]+) tokens, (\d+) requests of ([\d,]+) at a time, or (\d+) of ([\d,]+) ",
        path.read_text(encoding="utf-8"),
    )
    assert found is not None
    tokens, longest, length, typical, mean = (int(number.replace(",", "")) for number in found.groups())
    held = kv_tokens(model)
    assert held - 1000 < tokens <= held
    assert length == model.max_model_len
    assert longest == held // length
    assert (typical, mean) == (held // MEAN_TOKENS, MEAN_TOKENS)


def test_the_batch_fits_the_cache(model: ServedModel) -> None:
    typical = kv_tokens(model) / MEAN_TOKENS
    assert 0.6 * min(typical, 512) <= model.max_num_seqs <= 1.36 * typical


def test_thinking_fits_the_context(model: ServedModel) -> None:
    assert model.max_model_len is not None
    assert model.max_model_len <= SHAPES[model.model].context
    assert model.budgets.maximum is not None
    assert model.max_model_len - model.budgets.maximum >= 4096


def test_cards_divide_the_heads_and_the_nodes(model: ServedModel) -> None:
    assert SHAPES[model.model].kv_heads % model.tensor_parallel_size == 0
    cards = CARDS.get(model.accelerator_type or "", 8)
    assert cards % model.tensor_parallel_size == 0
    assert model.autoscaling.max_replicas * model.tensor_parallel_size == 4 * cards


def test_serves_options_have_the_placement_and_the_policy(model: ServedModel) -> None:
    fields = llm_config(model, "gpu", log_engine_metrics=True)
    assert fields["placement_group_config"]["strategy"] == "STRICT_PACK"
    assert fields["engine_kwargs"]["tensor_parallel_size"] == model.tensor_parallel_size
    scaling = AutoscalingConfig(**fields["deployment_config"]["autoscaling_config"])
    assert scaling.policy.policy_kwargs["target_ongoing_requests"] == 0.75 * model.max_num_seqs
    assert fields["deployment_config"]["autoscaling_config"]["policy"]["policy_function"] == IMPORT_PATH


def test_the_overview_lists_every_file_with_its_numbers() -> None:
    table = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([^`]+\.yaml)` \| (.*) \|$", table, re.M))
    assert rows.keys() == {path.name for path in FILES}
    for path in FILES:
        (config,) = check_serve_config(path).values()
        (model,) = config.models
        held, length = kv_tokens(model), model.max_model_len or 0
        tokens, longest, typical, batch, replicas = rows[path.name].split(" | ")
        assert int(tokens.replace(",", "")) == held // 1000 * 1000
        assert longest == f"{held // length} of {length:,}"
        assert int(typical) == held // MEAN_TOKENS
        assert (int(batch), int(replicas)) == (model.max_num_seqs, model.autoscaling.max_replicas)
