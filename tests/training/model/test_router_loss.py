"""The loss of a mixture of experts' router is transformers' own, where the model or the run asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from s1ray.config import ConfigError
from s1ray.training.data.collate import collate
from s1ray.training.data.dataset import Dataset
from s1ray.training.model import attention
from s1ray.training.model.loss import LossModel
from s1ray.training.model.router_loss import RouterLoss
from s1ray.training.model.shrinking import shrink
from tests.support.training_runs import training_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def network(family: str, **fields: object) -> PreTrainedModel:
    attention.register()
    torch.manual_seed(0)
    config = shrink(AutoConfig.for_model(family), longest_example=64, longest_row=64)
    for name, value in fields.items():
        setattr(config, name, value)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention.SEGMENTS)


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "granitemoe", "ernie4_5_moe"])
@pytest.mark.parametrize("setting", ["model", 0.3])
def test_the_loss_of_one_example_equals_that_of_transformers(family: str, setting: str | float) -> None:
    model = network(family, output_router_logits=setting == "model", router_aux_loss_coef=0.7)
    tokens = np.random.default_rng(0).integers(1, 60, size=20)
    dataset = Dataset(["a"], [tokens], [np.ones(20, dtype=bool)])
    plain = model(
        input_ids=torch.from_numpy(tokens)[None],
        labels=torch.from_numpy(tokens)[None],
        segments=(0, 20),
        use_cache=False,
        output_router_logits=True,
    )
    expected = plain.loss + ((setting if isinstance(setting, float) else 0.7) - 0.7) * plain.aux_loss
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    gradients = torch.autograd.grad(expected, weights, allow_unused=True)
    router_loss = RouterLoss.of(model, training_config(router_loss=setting))
    wrapped = LossModel(model, logits_chunk=8, router_loss=router_loss)
    inputs = collate(dataset, (0,), packing=True, flash=False, device=torch.device("cpu"))
    loss = wrapped(**inputs) / 19
    torch.testing.assert_close(loss, expected)
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    for one, other in zip(found, gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    evaluated = wrapped.eval()(**inputs) / 19
    torch.testing.assert_close(evaluated, plain.loss - 0.7 * plain.aux_loss)


@pytest.mark.parametrize(
    ("family", "fields", "changes", "problem"),
    [
        ("qwen2", {}, {"router_loss": 0.1}, "Qwen2ForCausalLM of model m has no router loss"),
        ("mixtral", {"output_router_logits": True}, {"packing": False}, "set packing: true, or router_loss: off"),
    ],
)
def test_a_router_loss_that_cannot_be_computed_is_refused(
    family: str, fields: dict[str, object], changes: dict[str, object], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        RouterLoss.of(network(family, **fields), training_config(model="m", **changes))


@pytest.mark.parametrize(
    ("fields", "changes"),
    [({}, {}), ({"output_router_logits": True}, {"router_loss": "off"}), ({}, {"router_loss": 0.0})],
)
def test_without_being_asked_for_there_is_no_router_loss(fields: dict[str, object], changes: dict[str, object]) -> None:
    assert RouterLoss.of(network("mixtral", **fields), training_config(**changes)) is None
