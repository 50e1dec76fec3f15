"""QLoRA: the frozen layers in four bits, and what is exported of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import torch
from transformers import AutoModelForCausalLM

from s1ray.config import ConfigError
from s1ray.training.config import LoraConfig
from s1ray.training.model import attention, trial
from s1ray.training.model.checks import linear_layers
from s1ray.training.model.export import export
from s1ray.training.model.loading import place
from s1ray.training.model.lora import add_updates
from s1ray.training.model.quantization import is_quantized, quantize, widened
from s1ray.training.planning.architecture import describe
from s1ray.training.planning.memory import model_states
from s1ray.training.planning.requirements import check_requirements
from tests.support.random_qwen import make_random_model
from tests.support.training_runs import training_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from s1ray.training.model.engine import Engine

CPU = torch.device("cpu")
LORA = LoraConfig(rank=4, quantize="nf4", target_modules=["q_proj", "down_proj"])
ROW = torch.arange(1, 21)[None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerBase) -> Path:
    """A random Qwen2 whose layers are as wide as two blocks."""
    ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    folder = make_random_model(tmp_path_factory.mktemp("model"), hidden_size=128, intermediate_size=256, **ids)
    tokenizer.save_pretrained(folder)
    return folder


def load(folder: Path) -> PreTrainedModel:
    attention.register()
    return AutoModelForCausalLM.from_pretrained(folder)


def with_updates(model: PreTrainedModel) -> PreTrainedModel:
    """LoRA's updates that are not zero, always the same."""
    torch.manual_seed(1)
    add_updates(model, LORA)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.1)
    return model


def rounded(folder: Path) -> PreTrainedModel:
    """The model with ordinary layers, whose weights are those of four bits."""
    model, four_bits = load(folder), load(folder)
    quantize(four_bits, CPU, torch.float32)
    for name, layer in linear_layers(model).items():
        layer.weight.data = widened(four_bits.get_submodule(name).weight)
    return model


def trained(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Gradients of a loss, by the names of the updates."""
    model.train()
    model(ROW, labels=ROW).loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_all_linear_layers_but_the_output_are_quantized(folder: Path) -> None:
    model = load(folder)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    names = set(linear_layers(model))
    quantize(model, CPU, torch.float32)
    assert {name.removesuffix(".weight") for name, p in model.named_parameters() if is_quantized(p)} == names
    assert names
    for name, parameter in model.named_parameters():
        if is_quantized(parameter):
            error = (widened(parameter) - before[name]).norm() / before[name].norm()
            assert 0.05 < error < 0.15, "NF4's rounding of weights that are normally distributed"
        else:
            assert torch.equal(parameter, before[name])


def test_updates_get_the_gradients_that_they_get_on_ordinary_layers_with_the_same_weights(folder: Path) -> None:
    four_bits = load(folder)
    quantize(four_bits, CPU, torch.float32)
    found, expected = trained(with_updates(four_bits)), trained(with_updates(rounded(folder)))
    assert found.keys() == expected.keys()
    assert all("lora_" in name for name in found)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


def test_a_loss_without_gradients_is_that_of_training(folder: Path) -> None:
    model = load(folder)
    quantize(model, CPU, torch.float32)
    with_updates(model)
    loss = model.train()(ROW, labels=ROW).loss
    with torch.no_grad():
        held_out = model.eval()(ROW, labels=ROW).loss
    torch.testing.assert_close(held_out, loss.detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_merged_export_is_the_model_that_was_trained(
    folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase, precision: str
) -> None:
    dtype = {"fp32": "float32", "bf16": "bfloat16"}[precision]
    config = training_config(
        model=str(folder), zero_stage=0, precision=precision, export_dtype=dtype, lora=LORA.model_dump()
    )
    model = load(folder)
    quantize(model, CPU, getattr(torch, dtype))
    with_updates(model)
    place(model, config, CPU)
    engine = cast("Engine", SimpleNamespace(model=model, adapter=None))
    export(engine, tokenizer, "<|im_end|>\n", config, tmp_path / "model", rank=0)
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    base = AutoModelForCausalLM.from_pretrained(folder)
    assert exported.state_dict().keys() == base.state_dict().keys()
    assert exported.dtype == getattr(torch, dtype)
    with torch.no_grad():
        difference = (exported(ROW).logits.float() - model.eval()(ROW).logits.float()).abs().max()
        moved = (base(ROW).logits.float() - model(ROW).logits.float()).abs().max()
    assert difference < (1e-5 if precision == "fp32" else 0.05 * moved)
    assert moved > 0.1


def test_an_adapter_holds_its_updates_only(folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    import peft
    from safetensors.torch import load_file

    lora = LORA.model_copy(update={"export": "adapter"})
    config = training_config(
        model=str(folder), zero_stage=0, precision="fp32", export_dtype="float32", lora=lora.model_dump()
    )
    model = load(folder)
    quantize(model, CPU, torch.float32)
    torch.manual_seed(1)
    adapter = add_updates(model, lora)
    engine = cast("Engine", SimpleNamespace(model=model, adapter=adapter))
    export(engine, tokenizer, "<|im_end|>\n", config, tmp_path / "adapter", rank=0)
    assert all(".lora_" in name for name in load_file(tmp_path / "adapter" / "adapter_model.safetensors"))
    peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path / "adapter")


def test_the_estimate_counts_four_bits(tmp_path: Path) -> None:
    folder = make_random_model(tmp_path / "model", vocab_size=1000, hidden_size=256, intermediate_size=1024)
    model = load(folder)
    architecture = describe(model, LORA)
    quantize(model, CPU, torch.float32)
    held = 0
    for parameter in model.parameters():
        held += parameter.numel() * parameter.element_size()
        if is_quantized(parameter):
            state = parameter.quant_state
            held += state.absmax.numel() + 4 * state.state2.absmax.numel()
    config = training_config(zero_stage=0, precision="fp32", lora=LORA.model_dump())
    assert model_states(architecture, config).weights == pytest.approx(held, rel=0.001)


def test_on_cpus_a_row_of_weights_that_ends_within_a_block_is_refused(folder: Path, model_folder: Path) -> None:
    """bitsandbytes 0.50.2 reads 4 bits wrongly there on some CPUs, and rightly on others."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    weight = torch.randn(32, 96, generator=torch.Generator().manual_seed(0))
    flat = dequantize_4bit(*quantize_4bit(weight.reshape(1, -1), quant_type="nf4")).reshape(weight.shape)
    assert (flat - weight).norm() < 0.11 * weight.norm()
    problem = r"layer model.layers.0.self_attn.q_proj takes 32 inputs.*a multiple of 64"
    with pytest.raises(ConfigError, match=problem):
        quantize(load(model_folder), CPU, torch.float32)
    config = {"model": str(model_folder), "lora": {"quantize": "nf4"}}
    with pytest.raises(ConfigError, match=problem):
        check_requirements(training_config(device="cpu", **config))
    check_requirements(training_config(device="gpu", **config))


def test_zero_3_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"lora.quantize needs zero_stage 0, 1 or 2"):
        training_config(zero_stage=3, lora={"quantize": "nf4"})


def test_without_bitsandbytes_it_is_refused_before_the_run_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    config = training_config(model="miniature-base", lora={"quantize": "nf4"})
    check_requirements(config)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else found(name))
    with pytest.raises(ConfigError, match=r"lora.quantize needs the package bitsandbytes .*s1ray\[qlora\]"):
        check_requirements(config)


def test_a_model_that_cannot_run_so_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_shapes(network: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> None:
        for layer in linear_layers(network).values():
            layer.weight.data = layer.weight.data.reshape(-1, 1)

    monkeypatch.setattr(trial, "replace_layers", break_shapes)
    with pytest.raises(ConfigError, match=r"cannot be trained with lora\.quantize: nf4: a small copy of it fails"):
        check_requirements(training_config(model="miniature-base", lora={"quantize": "nf4"}))
