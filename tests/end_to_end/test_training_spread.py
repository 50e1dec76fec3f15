"""The whole stage with every way to spread a run at once: shared rows, ZeRO-3, LoRA, merged on export."""

from __future__ import annotations

from pathlib import Path

import pytest

from s1ray.training import trainer
from tests.support.training_runs import config_of, losses, make_base_model, make_traces, weights

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]


def test_lora_on_shared_rows_under_zero_3_trains_and_exports_a_plain_model(ray_session: None, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    (tmp_path / "base").mkdir()
    base = make_base_model(tmp_path / "base")
    changes = {
        "sequence_parallel": 2,
        "zero_stage": 3,
        "gradient_checkpointing": True,
        "lora": {"rank": 8, "alpha": 16, "target_modules": ["q_proj", "down_proj"]},
        "optimizer": {"learning_rate": 1e-2},
    }
    run = trainer.train(config_of(base, make_traces(tmp_path / "traces.parquet"), tmp_path / "run", **changes))

    first, *_, last = losses(run)
    assert first is not None
    assert last is not None
    assert last < first - 0.05
    before, after = load_file(base / "model.safetensors"), weights(run)
    assert after.keys() == before.keys()
    changed = {name.split(".")[-2] for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"q_proj", "down_proj"}
    AutoModelForCausalLM.from_pretrained(run.path / "model")
