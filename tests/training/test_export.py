"""The exported folder, its card and its upload; gathering from ZeRO's parts is in tests/end_to_end."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from s1ray.config import ConfigError
from s1ray.runs import RunError
from s1ray.training.config import LoraConfig, TrainingConfig
from s1ray.training.model import attention
from s1ray.training.model.export import ShardWriter, export
from s1ray.training.model.lora import add_updates
from s1ray.training.model.loss import LossModel
from s1ray.training.publishing import check_upload, model_card, upload

TURN_END = "<|im_end|>\n"


def load(folder: Path) -> Any:
    attention.register()
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention.SEGMENTS)
    LossModel(model, logits_chunk=16)
    return model


def config_of(**changes: Any) -> TrainingConfig:
    fields = {"output": "runs/try/train", "model": "org/base-7B", "traces": "runs/traces.parquet", "zero_stage": 0}
    return TrainingConfig(**(fields | {"precision": "fp32", "export_dtype": "float32"} | changes))


@pytest.mark.parametrize("shard_bytes", [10**9, 20_000, 1], ids=["one-file", "some-files", "a-file-each"])
def test_the_folder_holds_the_weights_however_many_files_they_need(
    model_folder: Path, tmp_path: Path, tokenizer: Any, shard_bytes: int
) -> None:
    folder = tmp_path / "model"
    model = load(model_folder)
    engine: Any = SimpleNamespace(model=model)
    export(engine, tokenizer, TURN_END, config_of(), folder, rank=0, shard_bytes=shard_bytes)
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    if shard_bytes == 10**9:
        assert files == ["model.safetensors"]
        assert not (folder / "model.safetensors.index.json").exists()
    else:
        assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        assert sorted(set(index["weight_map"].values())) == files
        assert index["metadata"]["total_size"] == sum(p.numel() for p in model.parameters()) * 4
        assert "lm_head.weight" not in index["weight_map"], "tied weights are stored once"
    assert not list(tmp_path.glob(".model.tmp*"))
    exported, original = (AutoModelForCausalLM.from_pretrained(path) for path in (folder, model_folder))
    assert exported.state_dict().keys() == original.state_dict().keys()
    assert all(torch.equal(t, exported.state_dict()[name]) for name, t in original.state_dict().items())
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in GenerationConfig.from_pretrained(folder).eos_token_id
    assert AutoTokenizer.from_pretrained(folder).chat_template == tokenizer.chat_template
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in folder.iterdir())


def test_a_temperature_without_sampling_does_not_fail_at_the_very_end(
    model_folder: Path, tmp_path: Path, tokenizer: Any
) -> None:
    model = load(model_folder)
    model.generation_config.temperature, model.generation_config.do_sample = 0.6, False
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = {"default": tokenizer.chat_template, "tool_use": tokenizer.chat_template}
    export(SimpleNamespace(model=model), tokenizer, TURN_END, config_of(), tmp_path / "model", rank=0)
    written = GenerationConfig.from_pretrained(tmp_path / "model")
    assert (written.temperature, written.do_sample) == (0.6, True)
    folders = [path for path in (tmp_path / "model").rglob("*") if path.is_dir()]
    assert folders, "several templates have a folder of their own"
    assert all(path.stat().st_mode & 0o777 == 0o755 for path in folders)


def test_a_file_is_written_as_soon_as_the_next_weight_would_make_it_too_large(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, 100)
    for number in range(3):
        writer.add(str(number), torch.ones(10))
    # 40 bytes each: two fit, so the third has sent them to the disk.
    assert len(list(tmp_path.glob("part-*"))) == 1
    writer.close()
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    assert index["weight_map"] == {"0": first, "1": first, "2": second}


def test_a_failing_export_leaves_the_older_folder_alone(
    model_folder: Path, tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "older").touch()

    def full(self: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(ShardWriter, "close", full)
    engine: Any = SimpleNamespace(model=load(model_folder))
    with pytest.raises(OSError, match="disk full"):
        export(engine, tokenizer, TURN_END, config_of(), folder, rank=0)
    assert [path.name for path in folder.iterdir()] == ["older"]


@pytest.fixture
def updated(model_folder: Path) -> Any:
    """A model with LoRA updates that are not zero."""
    pytest.importorskip("peft", reason="LoRA needs peft")
    torch.manual_seed(1)
    model = load(model_folder)
    adapter = add_updates(model, LoraConfig(rank=4))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.1)
    return SimpleNamespace(model=model, adapter=adapter)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(20)[None]).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", ["merged", "adapter"])
def test_lora_is_exported_merged_or_as_an_adapter(
    model_folder: Path, tmp_path: Path, tokenizer: Any, updated: Any, way: str
) -> None:
    config = config_of(lora={"rank": 4, "export": way}, model=str(model_folder))
    folder = tmp_path / "model"
    export(updated, tokenizer, TURN_END, config, folder, rank=0)
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    updates = {name: p for name, p in updated.model.named_parameters() if "lora_" in name}
    layer = "model.layers.1.mlp.down_proj"
    product = updates[f"{layer}.lora_B.default.weight"] @ updates[f"{layer}.lora_A.default.weight"]
    expected = base.state_dict()[f"{layer}.weight"] + product.detach() * (32 / 4)
    if way == "merged":
        exported = AutoModelForCausalLM.from_pretrained(folder)
        assert exported.state_dict().keys() == base.state_dict().keys()
    else:
        import peft

        assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(model_folder)
        adapted = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_folder), folder)
        exported = adapted.merge_and_unload()
    torch.testing.assert_close(exported.state_dict()[f"{layer}.weight"], expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(logits(exported), logits(base), atol=1e-3)


FIGURES = {"steps": 315, "loss": 0.0731, "precision": "bf16"}


def test_the_card_says_what_the_model_was_made_of(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n")
    card = model_card(config_of(model=str(tmp_path), push_to="org/name"), examples=1000, figures=FIGURES)
    _, head, text = card.split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert metadata["license"] == "apache-2.0"
    assert "s1ray" in metadata["tags"]
    assert "base_model" not in metadata, "a folder of this machine means nothing to others"
    assert str(tmp_path.parent) not in text
    for fact in ("| optimizer steps | 315 |", "| loss at the last step | 0.0731 |", "1,000 (traces.parquet)", "1e-05"):
        assert fact in text
    assert "<|im_start|>think" in text


def test_the_card_of_an_adapter_names_its_base(tmp_path: Path) -> None:
    card = model_card(config_of(lora={"rank": 8, "export": "adapter"}), examples=3, figures={"loss": float("nan")})
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["base_model"] == "org/base-7B"
    assert metadata["library_name"] == "peft"
    assert "| loss at the last step | unknown |" in card
    assert "| LoRA | rank 8, alpha 32, exported adapter |" in card


def test_an_upload_without_a_token_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    check_upload(config_of())
    with pytest.raises(ConfigError, match="push_to org/name: no Hugging Face token"):
        check_upload(config_of(push_to="org/name"))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    check_upload(config_of(push_to="org/name"))


def test_a_new_repository_is_private_and_a_failed_upload_says_where_the_model_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Any] = {}
    monkeypatch.setattr(huggingface_hub, "create_repo", lambda name, **settings: made.update(settings, name=name))
    monkeypatch.setattr(
        huggingface_hub, "upload_folder", lambda **settings: SimpleNamespace(commit_url=settings["repo_id"])
    )
    assert upload(config_of(push_to="org/name"), tmp_path) == "org/name"
    assert made == {"name": "org/name", "private": True, "exist_ok": True}

    def refuse(name: str, **settings: Any) -> None:
        raise OSError("403 Forbidden\nrequest id 7")

    monkeypatch.setattr(huggingface_hub, "create_repo", refuse)
    with pytest.raises(RunError, match=f"org/name: 403 Forbidden; the model is whole in {tmp_path}"):
        upload(config_of(push_to="org/name"), tmp_path)


@pytest.mark.parametrize("name", ["name", "org/name/more", "org name/x"])
def test_repositories_have_an_owner_and_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="push_to"):
        config_of(push_to=name)
