"""Model FLOPs utilization: what a step needs, and what devices can do."""

from __future__ import annotations

from pathlib import Path

from s1ray.training.planning.gpus import GPUS, gpu_memory, peak_flops
from s1ray.training.planning.mfu import ModelFlops, model_flops


def test_the_longest_part_of_a_devices_name_decides() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_flops("NVIDIA L40S") == 362e12
    assert peak_flops("NVIDIA GH200 480GB") == 989e12
    assert peak_flops("Some Other Device") is None


def test_a_step_costs_weights_times_tokens_and_attention_times_squared_lengths() -> None:
    flops = ModelFlops(per_token=10, per_trained_token=7, attention=2)
    assert flops.of_step([3, 4], trained_tokens=5) == 10 * 7 + 7 * 5 + 2 * (9 + 16)


def test_a_models_costs_are_those_of_its_linear_layers(model_folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    from s1ray.training.model.loss import LossModel

    network = AutoModelForCausalLM.from_pretrained(model_folder)
    LossModel(network, logits_chunk=16)
    flops = model_flops(network)
    # Two layers of hidden size 32: q and o 32 x 32, k and v 32 x 16, three MLP matrices 32 x 64.
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64
    assert flops == ModelFlops(per_token=6 * 2 * layer, per_trained_token=6 * 272 * 32, attention=6 * 2 * 32)
    network.requires_grad_(False)
    assert model_flops(network) == ModelFlops(4 * 2 * layer, 4 * 272 * 32, 6 * 2 * 32)


def test_mixtures_of_experts_are_not_guessed_at(model_folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(model_folder)
    network.config.num_experts = 8
    assert model_flops(network) is None


def test_every_known_device_is_found_by_its_own_name() -> None:
    known = {name: gpu.tflops for name, gpu in GPUS.items() if gpu.tflops is not None}
    assert {name: peak_flops(f"NVIDIA {name} 80GB") for name in known} == {
        name: tflops * 1e12 for name, tflops in known.items()
    }


def test_gpus_whose_memory_is_known_have_rays_names() -> None:
    from ray.util.accelerators import accelerators

    known = {value for name, value in vars(accelerators).items() if name.isupper()}
    assert {name for name in GPUS if gpu_memory(name) is not None} <= known
