"""The hardware that a run would find: GPUs, their memory and that of the nodes. Looking starts nothing.

The answer comes from the Ray cluster that this process is connected to or RAY_ADDRESS names; without one, from this
machine; and where that has no GPU, from `accelerator_type`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

from s1ray.errors import UnreachableError
from s1ray.training.config import TrainingConfig
from s1ray.training.planning.gpus import gpu_memory

LOCAL, ANY = "local", "auto"
"""Values of RAY_ADDRESS: a new cluster on this machine; the one that runs here, if one does."""
GPUS_PER_NODE = 8
"""GPUs of a node of which only the accelerator is known."""


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Where workers would run; the smallest of each kind where nodes differ."""

    source: str
    """Where this was found, for messages."""
    on_gpu: bool
    device_memory: int | None
    """Bytes of one GPU; on CPUs None."""
    host_memory: int | None
    """Bytes of a node's main memory; None: not known."""
    workers_per_node: int


def find_hardware(config: TrainingConfig) -> Hardware:
    """The hardware that a run of this config would find."""
    if (nodes := _cluster_nodes(config.node_labels)) is not None:
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
        """Bytes of one of its GPUs; None where they are not known."""
        return max(filter(None, map(gpu_memory, self.accelerators)), default=None)


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
    memory = gpu_memory(config.accelerator_type)
    if memory is not None:
        source = f"as accelerator_type says; {source}"
    return Hardware(source, True, memory, None, min(GPUS_PER_NODE, config.num_workers))


def _cluster_nodes(labels: Mapping[str, str] | None) -> list[Node] | None:
    """The cluster's live nodes with some labels, or all while none has them; None without a cluster to ask."""
    import ray

    from s1ray.cluster import connected, nodes_with

    address = os.environ.get("RAY_ADDRESS") or LOCAL
    if address == LOCAL and not ray.is_initialized():
        # Connecting would start a cluster.
        return None
    try:
        with connected():
            return [_node(entry["Resources"]) for entry in nodes_with(labels) or nodes_with(None)]
    except UnreachableError:
        if address == ANY:
            return None
        raise


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
