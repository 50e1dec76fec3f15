"""The comparison before a run notices what a family's layers could do otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from s1ray.config import ConfigError
from s1ray.training.data.dataset import Dataset
from s1ray.training.model import attention
from s1ray.training.model.loading import load_engine
from s1ray.training.model.loss import CrossEntropyHead, LogitShape
from s1ray.training.model.proof import prove, prove_loaded
from s1ray.training.model.shrinking import OUT_OF_REACH, POSITIONS, WINDOW, shrink
from tests.support.training_runs import training_config


def test_a_small_copy_keeps_what_the_code_looks_at_and_meets_only_the_limits_that_the_rows_meet() -> None:
    config = AutoConfig.for_model("gemma3_text", sliding_window=1024, max_position_embeddings=8192)
    small = shrink(config, longest_example=4096, longest_row=4096)
    assert small.layer_types == ["sliding_attention"] * 5 + ["full_attention"]
    assert (small.sliding_window, small.max_position_embeddings) == (WINDOW, OUT_OF_REACH)
    small = shrink(config, longest_example=9000, longest_row=900)
    assert (small.sliding_window, small.max_position_embeddings) == (OUT_OF_REACH, POSITIONS)
    assert config.hidden_size == 2304


@pytest.mark.parametrize(
    ("family", "longest", "problem"),
    [
        (
            "gpt2",
            2048,
            r"index out of range.*micro_batch_tokens of at most 1,024 \(.*1,024",
        ),
        ("phi3", 8192, "has a loss of .*at most 4,096"),
    ],
)
def test_rows_beyond_what_a_model_takes_as_it_is_are_refused_with_the_limit(
    family: str, longest: int, problem: str
) -> None:
    longrope = {
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0] * 48,
            "long_factor": [4.0] * 48,
            "original_max_position_embeddings": 4096,
        },
        "original_max_position_embeddings": 4096,
        "max_position_embeddings": 131072,
    }
    config = AutoConfig.for_model(family, **(longrope if family == "phi3" else {}))
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
    prove(network, training_config(model="m", max_length=1000))
    with pytest.raises(ConfigError, match=f"model m .* cannot be trained here as it is served: .*{problem}"):
        prove(network, training_config(model="m", max_length=longest))


def test_a_loaded_model_whose_examples_see_each_other_is_refused(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = training_config(model=str(model_folder), precision="fp32", zero_stage=0, device="cpu")
    draw = np.random.default_rng(0)
    dataset = Dataset(["a"], [draw.integers(0, 270, size=100)], [np.ones(100, dtype=bool)])
    variables = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "localhost", "MASTER_PORT": 0}
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    rendezvous = f"file://{tmp_path}/rendezvous"
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=0, world_size=1)
    engine = load_engine(config, device=torch.device("cpu"), rank=0, world_size=1)
    for parameter in engine.model.parameters():
        # A model's random weights are so small at first that attention hardly matters.
        parameter.data *= 10
    prove_loaded(engine, dataset, config)
    assert engine.model.config._attn_implementation == attention.SEGMENTS
    right: Any = attention.segment_attention

    def mixing(*tensors: Any, segments: tuple[int, ...], **kwargs: Any) -> Any:
        return right(*tensors, segments=(0, segments[-1]), **kwargs)

    monkeypatch.setattr(attention, "segment_attention", mixing)
    attention.register()
    with pytest.raises(ConfigError, match=r"model .* \(Qwen2ForCausalLM\) cannot be trained .* beside another one"):
        prove_loaded(engine, dataset, config)
    monkeypatch.undo()
    attention.register()
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("shape", [LogitShape(0.3), LogitShape(cap=0.5), LogitShape(2.0, 1.5)])
def test_cross_entropy_of_reshaped_logits_with_a_bias_equals_torchs_own(shape: LogitShape) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(8, 50)
    hidden = torch.randn(11, 8, requires_grad=True)
    targets = torch.randint(0, 50, (11,))
    logits = linear(hidden) * shape.factor
    if shape.cap is not None:
        logits = shape.cap * torch.tanh(logits / shape.cap)
    inputs = [hidden, linear.weight, linear.bias]
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    gradients = torch.autograd.grad(expected * 0.3, inputs)
    loss = CrossEntropyHead(linear, 5, shape)(hidden, targets)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss * 0.3, inputs), gradients)


def test_a_config_that_transformers_can_make_no_language_model_of_is_refused_in_words(tmp_path: Path) -> None:
    from s1ray.training.planning.requirements import check_requirements

    AutoConfig.for_model("vit").save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"\(vit\): transformers cannot make a causal language model"):
        check_requirements(training_config(model=str(tmp_path)))
