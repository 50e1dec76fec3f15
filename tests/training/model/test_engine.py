"""The engine's settings: what DeepSpeed is told, and the precision."""

from __future__ import annotations

import pytest
import torch

from s1ray.training.model.engine import deepspeed_config, resolve_precision
from tests.support.training_runs import training_config


def test_deepspeed_is_told_what_to_offload() -> None:
    config = training_config(zero_stage=3, offload={"optimizer": "cpu", "parameters": "cpu"})
    zero = deepspeed_config(config, on_gpu=True)["zero_optimization"]
    assert isinstance(zero, dict)
    assert zero["offload_optimizer"] == {"device": "cpu", "pin_memory": True}
    assert zero["offload_param"] == {"device": "cpu", "pin_memory": True}
    zero = deepspeed_config(training_config(), on_gpu=True)["zero_optimization"]
    assert isinstance(zero, dict)
    assert not {"offload_optimizer", "offload_param"} & zero.keys()


@pytest.mark.parametrize(("capability", "precision"), [("avx512_bf16", "bf16"), ("avx512_f", "fp32")])
def test_precision_follows_what_the_cpu_can_do(
    capability: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True}, raising=False)
    config = training_config()
    assert resolve_precision(config, torch.device("cpu")).precision == precision
    fixed = config.model_copy(update={"precision": "fp32"})
    assert resolve_precision(fixed, torch.device("cpu")) is fixed
