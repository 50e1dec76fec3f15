"""What is known of GPUs: their memory and what they can compute, from data sheets."""

from __future__ import annotations

from typing import NamedTuple


class Gpu(NamedTuple):
    """One kind of GPU."""

    memory_mib: int | None
    """As nvidia-smi reports it; the smaller where there are two. None: Ray has no name for it, so it is never asked
    for by name."""
    tflops: float | None
    """Dense bf16 TFLOP/s. None: unknown, or the GPU has no bf16, or its device name matches another entry."""


GPUS = {
    "GB200": Gpu(None, 2500.0),
    "B200": Gpu(183359, 2250.0),
    "H200": Gpu(143771, 989.0),
    "GH200": Gpu(None, 989.0),
    "H100 PCIe": Gpu(None, 756.0),
    "H100 NVL": Gpu(None, 835.0),
    "H100": Gpu(81559, 989.0),
    "H800": Gpu(None, 989.0),
    "H20": Gpu(97871, None),
    "A100-80G": Gpu(81920, None),
    "A100-40G": Gpu(40960, None),
    "A100": Gpu(40960, 312.0),
    "A800": Gpu(None, 312.0),
    "A40": Gpu(None, 149.7),
    "A10G": Gpu(23028, 70.0),
    "A10": Gpu(None, 125.0),
    "A30": Gpu(None, 165.0),
    "L40S": Gpu(46068, 362.0),
    "L40": Gpu(None, 181.0),
    "L4": Gpu(23034, 121.0),
    "V100": Gpu(16384, None),
    "P100": Gpu(16384, None),
    "T4": Gpu(15360, None),
    "RTX 4090": Gpu(None, 165.2),
    "RTX 3090": Gpu(None, 71.0),
    "MI300X": Gpu(None, 1307.4),
    "MI250": Gpu(None, 362.1),
}
"""By Ray's name of the accelerator, or by a part of the device's own name where Ray has none."""


def gpu_memory(accelerator: str | None) -> int | None:
    """Bytes of a GPU by Ray's name; None where they are not known."""
    known = GPUS.get(accelerator or "")
    return None if known is None or known.memory_mib is None else known.memory_mib * 2**20


def peak_flops(device_name: str) -> float | None:
    """Operations a second that a device can do in dense bf16; None where they are not known.

    Args:
        device_name: as CUDA reports it ("NVIDIA H100 80GB HBM3"); the longest name that is a part of it counts.
    """
    matches = [(name, gpu.tflops) for name, gpu in GPUS.items() if gpu.tflops and name.lower() in device_name.lower()]
    return max(matches, key=lambda match: len(match[0]))[1] * 1e12 if matches else None
