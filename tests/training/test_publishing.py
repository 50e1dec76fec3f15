"""The model card, and the upload to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import yaml

from s1ray.config import ConfigError
from s1ray.manifests import RunError
from s1ray.storage import StorePath
from s1ray.training.config import TrainingConfig
from s1ray.training.publishing import base_model, check_upload, model_card, upload
from tests.support.object_store import bucket, s3_environment, s3_server
from tests.support.training_runs import training_config

__all__ = ["bucket", "s3_environment", "s3_server"]


def published(**changes: object) -> TrainingConfig:
    settings = {"output": "runs/try/train", "model": "org/base-7B", "traces": "runs/traces.parquet"}
    return training_config(**(settings | changes))


FIGURES = {"steps": 315, "loss": 0.0731, "precision": "bf16"}


def test_the_card_says_what_the_model_was_made_of(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n")
    card = model_card(published(model=str(tmp_path), push_to="org/name"), examples=1000, figures=FIGURES)
    _, head, text = card.split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert metadata["license"] == "apache-2.0"
    assert "s1ray" in metadata["tags"]
    assert "base_model" not in metadata, "a folder of this machine means nothing to others"
    assert str(tmp_path.parent) not in text
    for fact in ("| optimizer steps | 315 |", "| loss at the last step | 0.0731 |", "1,000 (traces.parquet)", "1e-05"):
        assert fact in text
    assert "<|im_start|>think" in text


def test_a_base_model_in_a_store_is_named_like_one_in_a_folder(bucket: StorePath) -> None:
    (bucket / "runs" / "base" / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n")
    (bucket / "plain" / "config.json").write_text("{}")
    assert base_model(published(model=f"{bucket}/runs/base")) == ("base", "apache-2.0")
    assert base_model(published(model=f"{bucket}/plain")) == ("plain", None)


def test_the_card_of_an_adapter_names_its_base(tmp_path: Path) -> None:
    card = model_card(published(lora={"rank": 8, "export": "adapter"}), examples=3, figures={"loss": float("nan")})
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["base_model"] == "org/base-7B"
    assert metadata["library_name"] == "peft"
    assert "| loss at the last step | unknown |" in card
    assert "| LoRA | rank 8, alpha 32, exported adapter |" in card


def test_an_upload_without_a_token_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    check_upload(published())
    with pytest.raises(ConfigError, match="push_to org/name: no Hugging Face token"):
        check_upload(published(push_to="org/name"))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    check_upload(published(push_to="org/name"))


def test_a_new_repository_is_private_and_a_failed_upload_says_where_the_model_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, object] = {}
    monkeypatch.setattr(huggingface_hub, "create_repo", lambda name, **settings: made.update(settings, name=name))
    monkeypatch.setattr(
        huggingface_hub, "upload_folder", lambda **settings: SimpleNamespace(commit_url=settings["repo_id"])
    )
    assert upload(published(push_to="org/name"), tmp_path) == "org/name"
    assert made == {"name": "org/name", "private": True, "exist_ok": True}

    def refuse(name: str, **settings: object) -> None:
        raise OSError("403 Forbidden\nrequest id 7")

    monkeypatch.setattr(huggingface_hub, "create_repo", refuse)
    with pytest.raises(RunError, match=f"org/name: 403 Forbidden; the model is complete in {tmp_path}"):
        upload(published(push_to="org/name"), tmp_path)
