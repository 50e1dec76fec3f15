"""The exported folder; gathering from ZeRO's parts is in tests/end_to_end."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from s1ray.runs import RunError
from s1ray.training.config import LoraConfig, TrainingConfig
from s1ray.training.model import attention
from s1ray.training.model.export import ShardWriter, export
from s1ray.training.model.lora import add_updates
from s1ray.training.model.loss import LossModel
from tests.support.training_runs import training_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from s1ray.training.model.engine import Engine

TURN_END = "<|im_end|>\n"


def load(folder: Path) -> PreTrainedModel:
    attention.register()
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention.SEGMENTS)
    LossModel(model, logits_chunk=16)
    return model


def config_of(**changes: object) -> TrainingConfig:
    return training_config(**({"zero_stage": 0, "precision": "fp32", "export_dtype": "float32"} | changes))


def engine_of(model: PreTrainedModel, adapter: object = None) -> Engine:
    """All that exporting needs of an engine."""
    return cast("Engine", SimpleNamespace(model=model, adapter=adapter))


@pytest.mark.parametrize("shard_bytes", [10**9, 20_000, 1], ids=["one-file", "some-files", "a-file-each"])
def test_the_folder_holds_the_weights_however_many_files_they_need(
    model_folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase, shard_bytes: int
) -> None:
    folder = tmp_path / "model"
    model = load(model_folder)
    export(engine_of(model), tokenizer, TURN_END, config_of(), folder, rank=0, shard_bytes=shard_bytes)
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
    model_folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = load(model_folder)
    model.generation_config.temperature, model.generation_config.do_sample = 0.6, False
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = {"default": tokenizer.chat_template, "tool_use": tokenizer.chat_template}
    export(engine_of(model), tokenizer, TURN_END, config_of(), tmp_path / "model", rank=0)
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
    model_folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "older").touch()

    def full(self: ShardWriter) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(ShardWriter, "close", full)
    engine = engine_of(load(model_folder))
    with pytest.raises(RunError, match="model: the model cannot be written: disk full"):
        export(engine, tokenizer, TURN_END, config_of(), folder, rank=0)
    assert [path.name for path in folder.iterdir()] == ["older"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.fixture
def updated(model_folder: Path) -> Engine:
    """A model with LoRA updates that are not zero."""
    pytest.importorskip("peft", reason="LoRA needs peft")
    torch.manual_seed(1)
    model = load(model_folder)
    adapter = add_updates(model, LoraConfig(rank=4))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.1)
    return engine_of(model, adapter)


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(20)[None]).logits


@pytest.mark.parametrize("way", ["merged", "adapter"])
def test_lora_is_exported_merged_or_as_an_adapter(
    model_folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase, updated: Engine, way: str
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
