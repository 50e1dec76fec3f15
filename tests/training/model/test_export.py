"""The exported folder; gathering from ZeRO's parts is in tests/end_to_end."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from benchmarks.training.families import tiny_config
from s1ray.manifests import RunError
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


@pytest.mark.parametrize(
    "fields",
    [
        {"early_stopping": True},
        {"length_penalty": 2.0},
        {"pad_token_id": -1},
        {"output_scores": True},
        {"use_cache": False, "cache_implementation": "static"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_generation_config_that_transformers_refuses_to_save_is_written_as_it_is(
    model_folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase, fields: dict[str, object]
) -> None:
    model = load(model_folder)
    before = model.generation_config = GenerationConfig.from_dict(model.generation_config.to_dict() | fields)
    export(engine_of(model), tokenizer, TURN_END, config_of(), tmp_path / "model", rank=0)
    written = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert {name: written[name] for name in fields} == fields
    assert "do_sample" not in written
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in written["eos_token_id"]
    assert model.generation_config is before


@pytest.mark.parametrize("other", [False, True], ids=["its-own", "another"])
def test_the_bases_stop_tokens_are_kept_with_its_own_tokenizer_only(
    model_folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase, other: bool
) -> None:
    model = load(model_folder)
    model.generation_config.eos_token_id = [7, 9]
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    config = config_of(tokenizer=str(tmp_path / "tokenizer") if other else None)
    export(engine_of(model), tokenizer, TURN_END, config, tmp_path / "model", rank=0)
    stop = GenerationConfig.from_pretrained(tmp_path / "model").eos_token_id
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert stop == ([end] if other else [7, 9, end])


@pytest.mark.parametrize("family", ["glm4_moe", "deepseek_v3"])
def test_what_a_family_has_in_fp32_is_not_rounded(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, family: str
) -> None:
    model = AutoModelForCausalLM.from_config(tiny_config(family), dtype=torch.bfloat16)
    kept = {name: t for name, t in model.state_dict().items() if name.endswith("e_score_correction_bias")}
    assert kept
    for module in model.modules():
        if (bias := getattr(module, "e_score_correction_bias", None)) is not None:
            bias.data = bias.data.float().uniform_(4, 8)
    exact = {name: model.state_dict()[name].clone() for name in kept}
    config = config_of(precision="bf16", export_dtype="bfloat16")
    export(engine_of(model), tokenizer, TURN_END, config, tmp_path / "model", rank=0)
    written = load_file(tmp_path / "model" / "model.safetensors")
    assert all(torch.equal(written[name], tensor) for name, tensor in exact.items())
    assert {t.dtype for name, t in written.items() if name not in exact} == {torch.bfloat16}


@pytest.mark.parametrize("family", ["mellum", "laguna", "gemma3_text", "llama"])
def test_an_exported_family_is_loaded_with_the_rotation_that_was_trained(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, family: str
) -> None:
    base = tmp_path / "base"
    AutoModelForCausalLM.from_config(tiny_config(family)).save_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    expected = model.config.to_dict()["rope_parameters"]
    export(engine_of(model), tokenizer, TURN_END, config_of(model=str(base)), tmp_path / "model", rank=0)
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert found.config.to_dict()["rope_parameters"] == expected
    older = json.loads((tmp_path / "model" / "config.json").read_text())
    assert ("rope_theta" in older) == (family not in ("mellum", "laguna"))
    assert all(torch.equal(t, found.state_dict()[name]) for name, t in model.state_dict().items())


def test_the_files_of_an_image_processor_come_along(
    model_folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    base = tmp_path / "base"
    shutil.copytree(model_folder, base)
    for name in ("preprocessor_config.json", "processor_config.json"):
        (base / name).write_text(name)
    export(engine_of(load(base)), tokenizer, TURN_END, config_of(model=str(base)), tmp_path / "model", rank=0)
    assert (tmp_path / "model" / "preprocessor_config.json").read_text() == "preprocessor_config.json"
    assert (tmp_path / "model" / "processor_config.json").read_text() == "processor_config.json"


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
