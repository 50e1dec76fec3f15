from __future__ import annotations

from pathlib import Path

import pytest

from s1ray.config import ConfigError
from s1ray.models import check_model


@pytest.mark.parametrize("model", ["runs/demo/train/model", "/nowhere/model", "./model", "a b"])
def test_a_path_without_a_folder_is_refused_before_anything_starts(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Elsewhere: in a checkout where the demo has run, the first of them is there.
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        check_model(model, "models.0.model")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json"):
        check_model(str(tmp_path), "models.0.model")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    check_model(str(tmp_path), "models.0.model")


@pytest.mark.parametrize("model", ["Qwen/Qwen3-8B", "gpt2", "s3://bucket/model"])
def test_what_may_be_elsewhere_is_left_to_vllm(model: str) -> None:
    check_model(model, "models.0.model")
