"""Settings that contradict each other, and what follows from those that do not."""

from __future__ import annotations

import pytest

from s1ray.config import ConfigError
from tests.support.training_runs import training_config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_length": 1000, "micro_batch_tokens": 999}, "fit no micro-batch"),
        ({"export_dtype": "float32"}, "only widen"),
        ({"attention": "flash_attention_2", "device": "cpu"}, "needs a GPU"),
        ({"optimizer": {"betas": [0.9, 1.0]}}, "optimizer: betas"),
        ({"optimizer": {"learning_rat": 1e-5}}, "the fields here are learning_rate"),
        ({"thinking_format": "s2"}, "thinking_format: no thinking format is called 's2'"),
        ({"thinking_format": {"name": "x", "start": "a", "end": "a"}}, "must differ from start"),
        ({"accelerator_type": "H100", "device": "cpu"}, "has no effect with device: cpu"),
        ({"num_workers": 4, "sequence_parallel": 3}, "does not divide num_workers 4"),
        ({"num_workers": 2, "sequence_parallel": 2, "packing": False}, "set packing: true"),
        ({"zero_stage": 0, "offload": {"optimizer": "cpu"}}, "needs zero_stage 1, 2 or 3"),
        ({"zero_stage": 2, "offload": {"parameters": "cpu"}}, "needs zero_stage 3, not 2"),
        ({"device": "cpu", "offload": {"optimizer": "cpu"}}, "leave it out with device: cpu"),
        ({"offload": {"optimizer": "disk"}}, "offload.optimizer"),
        ({"lora": {"rank": 0}}, "lora.rank"),
        ({"lora": {"target_modules": []}}, "lora.target_modules"),
        ({"output": "s3://bucket/run", "accuracy": {"benchmark": "b"}}, "leave it out with output s3://bucket/run"),
        ({"output": "s3://bucket/run", "tracking": {"wandb": {"project": "p"}}}, "wandb and mlflow need a folder"),
        ({"output": "http://host/run"}, "unknown storage"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        training_config(**changes)


@pytest.mark.parametrize("name", ["name", "org/name/more", "org name/x"])
def test_repositories_have_an_owner_and_a_name(name: str) -> None:
    with pytest.raises(ConfigError, match="push_to"):
        training_config(push_to=name)


def test_the_home_folder_may_be_named_by_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert training_config(output="~/runs/a").output == "/home/me/runs/a"


def test_workers_that_share_rows_count_as_one() -> None:
    assert training_config(num_workers=8, sequence_parallel=4).data_parallel == 2
