"""What a config says about a model, resolved where the config is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from s1ray.config import ConfigError, to_yaml, validate_config
from s1ray.miniature import BASE_MODEL_DIR
from s1ray.models import EngineConfig, ModelRef, check_model
from s1ray.registry import MODEL_ALIASES
from s1ray.thinking.format import PRESETS, ThinkingFormat

HUB_ID = "owner/name-8b"
STRINGS = {"name": "ponder", "start": "<ponder>", "end": "</ponder>", "end_triggers": ["<|im_end|>"]}


def load(**fields: object) -> ModelRef:
    return validate_config(ModelRef, {"model": "owner/name"} | fields, "model.yaml")


def test_a_preset_is_named_and_strings_stand_in_place() -> None:
    assert load(thinking_format="qwen3").thinking_format is PRESETS["qwen3"]
    own = load(thinking_format=STRINGS)
    assert own.thinking_format == ThinkingFormat.model_validate(STRINGS)
    for config in (load(), own):
        assert load(**config.model_dump(mode="json")) == config
    assert "thinking_format: s1\n" in to_yaml(load())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("s2", "no thinking format is called 's2'; presets are s1, deepseek_r1, qwen3"),
        (STRINGS | {"end": ""}, "thinking_format.end: String should have at least 1 character"),
        (STRINGS | {"stop": "x"}, "thinking_format.stop: unknown field; the fields here are name, start, end"),
        ({"name": "half"}, "thinking_format.start: required, but not given"),
        (7, "thinking_format: "),
    ],
)
def test_a_wrong_format_is_named(given: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(thinking_format=given)


def test_models_are_resolved_to_full_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load(model="model").model == str(tmp_path / "model")
    assert load(model="model").folder == tmp_path / "model"
    assert load(model="miniature-base").model == str(BASE_MODEL_DIR)
    assert load(model="Qwen/Qwen3-8B").folder is None
    assert EngineConfig(model="model", tokenizer="miniature-base").tokenizer == str(BASE_MODEL_DIR)


@pytest.mark.parametrize("model", ["~nobody/model", "x" * 300, "owner/" + "x" * 300, "a\0b"])
def test_any_text_may_stand_for_a_model(model: str) -> None:
    assert load(model=model).model == model
    with pytest.raises(ConfigError, match=r"model: (must not|String should)"):
        load(model="")
    with pytest.raises(ConfigError, match="model: must not begin or end with a space"):
        load(model="owner/name ")


def test_an_alias_may_stand_for_a_hugging_face_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODEL_ALIASES, "_built_in", {"ours": f"{__name__}:HUB_ID"})
    assert load(model="ours").model == "owner/name-8b"


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
