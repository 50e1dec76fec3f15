"""What workers need of a Ray cluster, whether it can have it, and what a run that has not got it yet is waiting for.

Ray Train asks for all workers at once, in a placement group, and asks again until it gets them. Where an autoscaler
adds nodes that is right; in a cluster that cannot grow it would never end, so there the run is refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from s1ray.cluster import can_grow, labels_text, nodes_with
from s1ray.manifests import RunError
from s1ray.training.config import AccuracyConfig, TrainingConfig

START_MINUTES = 10
"""How long Ray Train waits for nodes and workers at a time; nodes that are started for a run need minutes."""
START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
"""Ray Train's setting of the same, in seconds, which it reads from the environment; its default is a minute."""


@dataclasses.dataclass(frozen=True)
class Workers:
    """The workers of a run, and what each needs, by Ray's names."""

    number: int
    each: Mapping[str, float]
    accelerator_type: str | None = None
    node_labels: Mapping[str, str] | None = None
    """Of the nodes that they run on. None: any."""

    @classmethod
    def of(cls, config: TrainingConfig, resources: Mapping[str, float]) -> Workers:
        """The workers of a config.

        Args:
            resources: of the nodes that they may run on; `device: auto` uses GPUs where these have some.
        """
        on_gpu = config.device != "cpu" and (
            config.device == "gpu" or config.accelerator_type is not None or resources.get("GPU", 0) > 0
        )
        each = {"CPU": float(config.cpus_per_worker)} | ({"GPU": 1.0} if on_gpu else {})
        kind = config.accelerator_type if on_gpu else None
        return cls(config.num_workers, each, kind, config.node_labels)

    @property
    def on_gpu(self) -> bool:
        """Whether each has a GPU."""
        return "GPU" in self.each

    def fitting(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """How many workers nodes with these resources have room for."""
        kind = f"accelerator_type:{self.accelerator_type}"
        able = [node for node in nodes if self.accelerator_type is None or node.get(kind, 0) > 0]
        return sum(int(min(node.get(name, 0) // amount for name, amount in self.each.items())) for node in able)

    def __str__(self) -> str:
        gpu = f", 1 {self.accelerator_type or 'GPU'}" if self.on_gpu else ""
        return f"{self.number} worker(s) of {self.each['CPU']:g} CPU(s){gpu} each{self._where()}"

    def _where(self) -> str:
        return f" on nodes with {labels_text(self.node_labels)}" if self.node_labels else ""


def check_room(workers: Workers) -> None:
    """Look whether the connected cluster has room for the workers, or may still grow.

    Raises:
        RunError: neither.
    """
    nodes = _nodes(workers.node_labels)
    if (room := workers.fitting(nodes)) < workers.number and not can_grow():
        such = " such" if workers.node_labels else ""
        raise RunError(
            f"this run needs {workers}; the Ray cluster of {len(nodes)}{such} node(s) ({_totals(nodes, workers)}) has "
            f"room for {room}, and no autoscaler that would add nodes: add them, or set num_workers to {max(room, 1)} "
            "or fewer (steps and batches stay the same)"
        )


def check_spare_gpus(workers: Workers, accuracy: AccuracyConfig) -> None:
    """Look whether the connected cluster has GPUs for measuring the accuracy, too, or may still grow.

    Raises:
        RunError: neither; the measurements would wait for ever.
    """
    able = nodes_with(accuracy.node_labels)
    there = _gpus(able)
    # At best the workers take those first that the engine may not have.
    elsewhere = _gpus(node for node in nodes_with(workers.node_labels) if node not in able)
    spare = there - max(0, workers.number - elsewhere)
    if workers.on_gpu and spare < accuracy.tensor_parallel_size and not can_grow():
        such = f" on nodes with {labels_text(accuracy.node_labels)}" if accuracy.node_labels else ""
        raise RunError(
            f"accuracy needs {accuracy.tensor_parallel_size} GPU(s) beside the {workers.number} worker(s); the Ray "
            f"cluster has {there}{such}, and no autoscaler that would add some: lower num_workers, or leave accuracy "
            "out"
        )


class Awaited:
    """Says what a run that makes no steps is waiting for, as far as Ray knows."""

    def __init__(self, workers: Workers):
        self._workers = workers
        self._nodes = len(_nodes(None))
        self._began = False
        self._group: str | None = None
        """Placement group of the workers that made the newest steps."""

    def stepped(self) -> None:
        """To be called when there are new steps."""
        self._began = True
        self._group = self._newest("CREATED")

    def __call__(self, *, finished: bool) -> str | None:
        """In a few words; None: for the next step, as always.

        Args:
            finished: there are no more steps.
        """
        nodes, again = _nodes(None), "again " if self._began else ""
        group = self._newest("CREATED")
        if group is not None and finished:
            return "the last checkpoint and the model are being written"
        if group is not None and group == self._group:
            return None
        if group is not None:
            return f"the workers are starting {again}".strip()
        lost = f" ({self._nodes - len(nodes)} node(s) lost)" if len(nodes) < self._nodes else ""
        if self._newest("PENDING") is None:
            return f"Ray Train is starting {again}".strip() + lost
        return (
            f"waiting {again}for {self._workers}: the cluster of {len(nodes)} node(s){lost} has "
            f"{_totals(nodes, self._workers)}, {_free(self._workers)} free{self._such()}"
        )

    def _such(self) -> str:
        labels = self._workers.node_labels
        return f"; {len(_nodes(labels))} node(s) have these labels" if labels else ""

    def _newest(self, state: str) -> str | None:
        """A placement group of this run's shape in a state."""
        import ray.util

        for name, group in ray.util.placement_group_table().items():
            bundles = list(group["bundles"].values())
            if (
                group["state"] == state
                and len(bundles) == self._workers.number
                and all(self._workers.each.items() <= bundle.items() for bundle in bundles)
            ):
                return str(name)
        return None


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """Inside the block Ray Train waits `START_MINUTES` for workers, unless the user has set its time-out."""
    if START_TIMEOUT in os.environ:
        yield
        return
    os.environ[START_TIMEOUT] = str(START_MINUTES * 60)
    try:
        yield
    finally:
        del os.environ[START_TIMEOUT]


def _nodes(labels: Mapping[str, str] | None) -> list[dict[str, float]]:
    """The resources of each live node, or of each that has some labels."""
    return [node["Resources"] for node in nodes_with(labels)]


def _gpus(nodes: Iterable[Mapping[str, Any]]) -> int:
    return int(sum(node["Resources"].get("GPU", 0) for node in nodes))


def _totals(nodes: Sequence[Mapping[str, float]], workers: Workers) -> str:
    return _amounts({name: sum(node.get(name, 0) for node in nodes) for name in workers.each})


def _free(workers: Workers) -> str:
    import ray

    available: dict[str, Any] = ray.available_resources()
    return _amounts({name: available.get(name, 0) for name in workers.each})


def _amounts(amounts: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}(s)" for name, amount in amounts.items())
