"""The memory estimate: against DeepSpeed's estimators, against what autograd keeps, and what it advises."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from s1ray.training.config import LoraConfig, TrainingConfig
from s1ray.training.model import attention
from s1ray.training.planning import hardware
from s1ray.training.planning.architecture import describe
from s1ray.training.planning.hardware import Hardware, Node
from s1ray.training.planning.memory import Architecture, Workload, estimate, layer_activations, model_states
from s1ray.training.planning.memory_advice import CPU_RUNTIME, advise, fits, host_need, options_for
from tests.support.training_runs import training_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    Estimator = Callable[..., tuple[int, ...]]

QWEN_32B = Architecture(
    parameters=32_763_876_352,
    largest_module=152064 * 5120,
    layers=64,
    hidden_size=5120,
    attention_size=5120,
    key_value_size=1024,
    heads=40,
    intermediate_size=27648,
    vocabulary=152064,
    linear=31_205_621_760,
    largest_linear=5120 * 27648,
)


def config_of(**changes: object) -> TrainingConfig:
    return training_config(**({"precision": "bf16"} | changes))


@pytest.fixture(scope="module")
def estimators() -> tuple[Estimator, Estimator]:
    os.environ["DS_ACCELERATOR"] = "cpu"
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    return estimate_zero2_model_states_mem_needs, estimate_zero3_model_states_mem_needs


NODES = [(1, 1), (4, 1), (8, 1), (8, 2), (8, 4)]


@pytest.mark.parametrize(("gpus", "nodes"), NODES)
@pytest.mark.parametrize("offload", [False, True])
def test_model_states_of_zero_2_are_deepspeeds(
    estimators: tuple[Estimator, Estimator], gpus: int, nodes: int, offload: bool
) -> None:
    optimizer = "cpu" if offload else "none"
    config = config_of(zero_stage=2, num_workers=gpus * nodes, offload={"optimizer": optimizer})
    found = model_states(QWEN_32B, config)
    host, device = estimators[0](QWEN_32B.parameters, gpus, nodes, cpu_offload=offload, additional_buffer_factor=1.0)
    assert found.total == pytest.approx(device, abs=4)
    if offload and gpus * nodes <= 4:
        # Beyond that, theirs is what it takes to load a copy of the model for each worker, which is not done here.
        assert found.host * gpus == pytest.approx(host, abs=4)


@pytest.mark.parametrize(("gpus", "nodes"), NODES)
@pytest.mark.parametrize(("optimizer", "parameters"), [("none", "none"), ("cpu", "none"), ("cpu", "cpu")])
def test_model_states_of_zero_3_are_deepspeeds(
    estimators: tuple[Estimator, Estimator], gpus: int, nodes: int, optimizer: str, parameters: str
) -> None:
    offload = {"optimizer": optimizer, "parameters": parameters}
    found = model_states(QWEN_32B, config_of(zero_stage=3, num_workers=gpus * nodes, offload=offload))
    host, device, _ = estimators[1](
        QWEN_32B.parameters,
        QWEN_32B.largest_module,
        gpus,
        nodes,
        cpu_offload=optimizer == "cpu",
        cpu_offload_params=parameters == "cpu",
        zero_init=True,
        additional_buffer_factor=1.0,
    )
    assert found.total == pytest.approx(device, abs=4)
    if optimizer == "cpu":
        assert found.host * gpus == pytest.approx(host, abs=4 * gpus)


def kept_for_backward(model: PreTrainedModel, tokens: int, segments: tuple[int, ...]) -> int:
    """Bytes that autograd keeps of a forward pass, beside the model's weights."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = model.base_model(
            input_ids=torch.arange(tokens)[None] % 60, position_ids=torch.arange(tokens)[None], segments=segments
        )
    assert hidden.last_hidden_state.requires_grad
    return sum(storage.nbytes() for storage in storages.values())


SIZES = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 176, "num_attention_heads": 4}
FAMILIES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"num_key_value_heads": 2}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"num_key_value_heads": 2, "head_dim": 32}),
    "llama": (LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 4}),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("segments", [(0, 256), (0, 100, 256)], ids=["one-example", "packed"])
@pytest.mark.parametrize("lora", [None, LoraConfig(rank=4)], ids=["full", "lora"])
def test_activations_are_what_autograd_keeps_of_a_layer(
    family: str, precision: str, segments: tuple[int, ...], lora: LoraConfig | None
) -> None:
    if lora is not None:
        pytest.importorskip("peft", reason="LoRA needs peft")
    from s1ray.training.model.lora import add_updates

    attention.register()
    config_class, model_class, more = FAMILIES[family]
    kept = []
    for layers in (1, 3):
        settings = config_class(**SIZES, **more, num_hidden_layers=layers, attn_implementation=attention.SEGMENTS)
        model = model_class(settings).to(torch.bfloat16 if precision == "bf16" else torch.float32)
        if lora is not None:
            add_updates(model, lora)
        kept.append(kept_for_backward(model, 256, segments))
    found = (kept[1] - kept[0]) / 2
    workload = Workload(256, 256, several_examples=len(segments) > 2)
    config = config_of(precision=precision, lora=lora, device="cpu")
    expected = layer_activations(describe(model, lora), config, workload, on_gpu=False)
    assert expected == pytest.approx(found, rel=0.03)


def test_the_architecture_is_read_off_a_model_without_weights() -> None:
    with torch.device("meta"):
        model = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=152064,
                hidden_size=5120,
                intermediate_size=27648,
                num_hidden_layers=64,
                num_attention_heads=40,
                num_key_value_heads=8,
            )
        )
    assert describe(model) == QWEN_32B
    updates = describe(model, LoraConfig(rank=16)).trainable
    a_layer = 16 * (2 * (5120 + 5120) + 2 * (5120 + 1024) + 3 * (5120 + 27648))
    assert updates == 64 * a_layer
    assert describe(model, LoraConfig(rank=16, target_modules=["q_proj"])).trainable == 64 * 16 * 2 * 5120


H100S = Hardware("test", True, 81559 * 2**20, 2**40, 8)


def test_checkpointing_drops_the_activations_of_all_layers_but_one() -> None:
    plain, checkpointed = (
        estimate(QWEN_32B, config_of(zero_stage=3, num_workers=16, gradient_checkpointing=on)) for on in (False, True)
    )
    layer = layer_activations(QWEN_32B, config_of(), Workload(32768, 32768), on_gpu=True)
    assert plain.activations - checkpointed.activations == pytest.approx(64 * (layer - 2 * 5120 * 32768))
    assert not fits(plain, H100S)
    assert fits(checkpointed, H100S)


def advised(config: TrainingConfig, found: Hardware = H100S, longest: int = 20000) -> list[str]:
    options = options_for(config, QWEN_32B, found, longest)
    return [
        " and ".join(advice.settings)
        for advice in advise(config, lambda changed: estimate(QWEN_32B, changed), found, options)
    ]


def test_settings_that_help_alone_are_named() -> None:
    settings = {"zero_stage": 3, "num_workers": 16, "max_length": 20000}
    assert not fits(estimate(QWEN_32B, config_of(**settings)), H100S)
    assert "gradient_checkpointing: true" in advised(config_of(**settings))


def test_where_no_setting_helps_alone_the_fewest_that_help_together_are_named() -> None:
    (advice,) = advised(config_of(zero_stage=2, num_workers=8))
    assert " and " in advice
    assert "gradient_checkpointing: true" in advice
    chosen = config_of(zero_stage=2, num_workers=8)
    assert not fits(estimate(QWEN_32B, chosen), H100S)


def test_what_nothing_helps_against_is_said() -> None:
    small = Hardware("test", True, 2**30, 2**40, 8)
    assert advised(config_of(zero_stage=3, num_workers=8), small) == []


def test_the_host_must_hold_what_is_offloaded_there() -> None:
    config = config_of(
        zero_stage=3, num_workers=8, gradient_checkpointing=True, offload={"optimizer": "cpu", "parameters": "cpu"}
    )
    memory = estimate(QWEN_32B, config)
    assert host_need(memory, H100S) > 18 * QWEN_32B.parameters
    assert fits(memory, H100S)
    assert not fits(memory, Hardware("test", True, 81559 * 2**20, 512 * 2**30, 8))


def test_experts_are_held_by_every_worker_while_they_are_loaded() -> None:
    config = config_of(zero_stage=3, num_workers=8)
    experts = dataclasses.replace(QWEN_32B, experts=True)
    assert host_need(estimate(experts, config), H100S) > 8 * 2 * QWEN_32B.parameters
    assert host_need(estimate(QWEN_32B, config), H100S) < 2 * QWEN_32B.parameters


def test_on_cpus_the_workers_share_the_hosts_memory() -> None:
    memory = estimate(QWEN_32B, config_of(device="cpu", num_workers=4))
    assert host_need(memory, Hardware("test", False, None, 2**40, 4)) > 4 * memory.total


def test_memory_that_is_not_known_is_not_judged() -> None:
    assert fits(estimate(QWEN_32B, config_of()), Hardware("test", True, None, None, 1)) is None


def test_a_cluster_is_judged_by_the_smallest_of_the_gpus_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        Node(8, 0, (), 64 * 2**30),
        Node(64, 8, ("H100",), 900 * 2**30),
        Node(64, 4, ("A100", "A100-80G"), 500 * 2**30),
    ]
    monkeypatch.setattr(hardware, "_cluster_nodes", lambda labels: nodes)
    found = hardware.find_hardware(config_of(num_workers=16))
    assert (found.on_gpu, found.workers_per_node) == (True, 8)
    assert found.device_memory == 81559 * 2**20
    assert found.host_memory == 500 * 2**30
    only = hardware.find_hardware(config_of(num_workers=16, accelerator_type="A100"))
    assert (only.device_memory, only.workers_per_node) == (81920 * 2**20, 4)
    growing = hardware.find_hardware(config_of(accelerator_type="H200"))
    assert growing.source == "as accelerator_type says; Ray cluster of 3 node(s), with none of them yet"
    assert (growing.device_memory, growing.host_memory) == (143771 * 2**20, None)
    on_cpu = hardware.find_hardware(config_of(device="cpu", num_workers=4, cpus_per_worker=32))
    assert (on_cpu.on_gpu, on_cpu.workers_per_node, on_cpu.host_memory) == (False, 2, 64 * 2**30)


def test_without_a_cluster_the_accelerator_named_in_the_config_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_cluster_nodes", lambda labels: None)
    monkeypatch.setattr(hardware, "_own_gpus", lambda: (0, None))
    found = hardware.find_hardware(config_of(accelerator_type="H200", num_workers=16))
    assert (found.on_gpu, found.device_memory, found.workers_per_node) == (True, 143771 * 2**20, 8)
    assert hardware.find_hardware(config_of(device="gpu")).device_memory is None
    assert not hardware.find_hardware(config_of()).on_gpu


def test_lora_on_cpus_leaves_room_for_what_glibc_does_not_give_back() -> None:
    full = estimate(QWEN_32B, config_of(device="cpu"))
    updates = dataclasses.replace(full, updates_only=True)
    for memory, part in ((full, 0.8), (updates, 0.6)):
        for factor, enough in ((1.01, True), (0.99, False)):
            host = int(factor * (memory.total + CPU_RUNTIME) / part)
            assert fits(memory, Hardware("test", False, None, host, 1)) is enough
    assert estimate(QWEN_32B, config_of(lora={})).updates_only
