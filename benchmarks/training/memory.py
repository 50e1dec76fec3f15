"""The memory estimate against the measured peak, on CPUs: `python -m benchmarks.training.memory`.

Prints a table, and with `--output FILE` writes it as JSON. About twenty seconds per configuration on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.training.peak import Measured, measure
from s1ray.storage import write_json
from s1ray.training.planning.architecture import describe
from s1ray.training.planning.memory import Architecture, MemoryEstimate, Workload, estimate

MIB = 2**20

CONFIGURATIONS = (
    Measured("fp32, ZeRO-0, 1 worker", {"zero_stage": 0}),
    Measured("fp32, ZeRO-2, 2 workers", {"zero_stage": 2, "num_workers": 2}),
    Measured("bf16, ZeRO-2, 1 worker", {"zero_stage": 2, "precision": "bf16"}),
    Measured("fp32, ZeRO-3, 2 workers", {"zero_stage": 3, "num_workers": 2}),
    Measured("bf16, ZeRO-3, 2 workers", {"zero_stage": 3, "num_workers": 2, "precision": "bf16"}),
    Measured("fp32, ZeRO-2, checkpointing", {"zero_stage": 2, "gradient_checkpointing": True}),
    Measured("fp32, ZeRO-2, LoRA, 2 workers", {"zero_stage": 2, "num_workers": 2, "lora": {"rank": 8}}),
    Measured("fp32, ZeRO-0, large vocabulary", {"zero_stage": 0, "logits_chunk": 512}, vocabulary=65536, layers=2),
    Measured("fp32, ZeRO-0, accumulation", {"zero_stage": 0}, micro_batches=2),
)
"""Every setting that the estimate depends on, with about thirty million weights and 2,048 tokens."""


def estimated(measured: Measured) -> MemoryEstimate:
    """The estimate for the run of `measure`."""
    tokens = sum(measured.examples)
    trained = sum(length - max(1, length // 4) for length in measured.examples)
    workload = Workload(tokens, trained, len(measured.examples) > 1, measured.micro_batches > 1)
    return estimate(architecture(measured), measured.config(), workload, on_gpu=False)


def architecture(measured: Measured) -> Architecture:
    """The measured model's."""
    import torch
    from transformers import Qwen2ForCausalLM

    with torch.device("meta"):
        return describe(Qwen2ForCausalLM(measured.model_config()), measured.config().lora)


def main() -> None:
    """Measure all configurations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file to write.")
    arguments = parser.parse_args()
    results = []
    print(f"{'':34s} {'measured':>9s} {'estimate':>9s} {'ratio':>6s}  MiB per worker")
    for measured in CONFIGURATIONS:
        memory, peak = estimated(measured), measure(measured)
        ratio = memory.total / peak
        print(f"{measured.name:34s} {peak / MIB:9.0f} {memory.total / MIB:9.0f} {ratio:6.2f}  {memory.peak_moment}")
        results.append({"name": measured.name, "measured_mib": round(peak / MIB), "ratio": round(ratio, 3)})
    if arguments.output is not None:
        write_json(arguments.output, results)


if __name__ == "__main__":
    main()
