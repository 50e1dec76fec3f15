"""What a run would find: GPUs, their memory and the hosts'. Nothing is started to find out.

A Ray cluster is asked if this process is connected to one or RAY_ADDRESS names one; else the machine itself; and where
that has no GPU, `accelerator_type` says what the cluster is meant to have.
"""

from __future__ import annotations

import dataclasses
import os

from s1ray.training.config import TrainingConfig

GPU_MEMORY_MIB = {
    "B200": 183359,
    "H200": 143771,
    "H100": 81559,
    "H20": 97871,
    "A100-80G": 81920,
    "A100-40G": 40960,
    "A100": 40960,
    "L40S": 46068,
    "L4": 23034,
    "A10G": 23028,
    "V100": 16384,
    "P100": 16384,
    "T4": 15360,
}
"""Ray's name of an accelerator -> memory of one, in MiB as nvidia-smi tells; the smaller where there are two."""

GPUS_PER_NODE = 8
"""Of a node that is only known by its accelerator."""


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Where workers would run; the smallest of each kind where nodes differ."""

    source: str
    """Where this is known from, in words."""
    on_gpu: bool
    device_memory: int | None
    """Bytes of one GPU; on CPUs None."""
    host_memory: int | None
    """Bytes of a node's main memory; None: not known."""
    workers_per_node: int

    @property
    def device(self) -> str:
        """What a worker runs on, in a word."""
        return "GPU" if self.on_gpu else "worker"


def find_hardware(config: TrainingConfig) -> Hardware:
    """What a run of this config would find."""
    if (nodes := _cluster_nodes()) is not None:
        return _on_cluster(config, nodes)
    gpus, memory = (0, None) if config.device == "cpu" else _own_gpus()
    if gpus and (config.accelerator_type is None or gpus >= config.num_workers):
        return Hardware("this machine", True, memory, _own_memory(), min(gpus, config.num_workers))
    if config.device == "gpu" or config.accelerator_type is not None:
        return _as_configured(config, "no GPU here")
    return Hardware("this machine", False, None, _own_memory(), config.num_workers)


@dataclasses.dataclass(frozen=True)
class Node:
    """A node of a Ray cluster."""

    cpus: int
    gpus: int
    accelerators: tuple[str, ...]
    """Ray's names of its GPUs: A100 and A100-80G, for example."""
    memory: int | None
    """Main memory in bytes."""

    @property
    def gpu_memory(self) -> int | None:
        """Bytes of one of its GPUs, as far as known."""
        known = [GPU_MEMORY_MIB[name] * 2**20 for name in self.accelerators if name in GPU_MEMORY_MIB]
        return max(known, default=None)


def _on_cluster(config: TrainingConfig, nodes: list[Node]) -> Hardware:
    source = f"Ray cluster of {len(nodes)} node(s)"
    wanted = config.accelerator_type
    with_gpus = [node for node in nodes if node.gpus and (wanted is None or wanted in node.accelerators)]
    memories = [node.memory for node in nodes if node.memory]
    if config.device == "cpu" or (config.device == "auto" and not any(node.gpus for node in nodes)):
        fits = max(max(1, node.cpus // config.cpus_per_worker) for node in nodes)
        return Hardware(source, False, None, min(memories, default=None), min(fits, config.num_workers))
    if not with_gpus:
        # A cluster may grow.
        return _as_configured(config, f"{source}, with none of them yet")
    sizes = [node.gpu_memory for node in with_gpus]
    return Hardware(
        source,
        True,
        None if None in sizes else min(size for size in sizes if size),
        min((node.memory for node in with_gpus if node.memory), default=None),
        min(max(node.gpus for node in with_gpus), config.num_workers),
    )


def _as_configured(config: TrainingConfig, source: str) -> Hardware:
    known = GPU_MEMORY_MIB.get(config.accelerator_type or "")
    if known:
        source = f"as accelerator_type says; {source}"
    return Hardware(source, True, known * 2**20 if known else None, None, min(GPUS_PER_NODE, config.num_workers))


def _cluster_nodes() -> list[Node] | None:
    """The cluster's living nodes; None where there is no cluster to ask."""
    import ray

    if not ray.is_initialized() and "RAY_ADDRESS" not in os.environ:
        return None
    from s1ray.cluster import connected

    with connected():
        return [_node(entry["Resources"]) for entry in ray.nodes() if entry["Alive"]]


def _node(resources: dict[str, float]) -> Node:
    prefix = "accelerator_type:"
    accelerators = [name.removeprefix(prefix) for name in resources if name.startswith(prefix)]
    # Ray divides the main memory into the object store and the rest.
    memory = int(resources.get("memory", 0) + resources.get("object_store_memory", 0)) or None
    return Node(int(resources.get("CPU", 0)), int(resources.get("GPU", 0)), tuple(accelerators), memory)


def _own_gpus() -> tuple[int, int | None]:
    import torch

    count = torch.cuda.device_count()
    return count, min((torch.cuda.get_device_properties(i).total_memory for i in range(count)), default=None)


def _own_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
