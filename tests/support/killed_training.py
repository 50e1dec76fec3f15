"""Trains in a two-node cluster of its own, and on the way kills a worker, a node (with notice) and finally itself.

    RAY_TMPDIR=... python -m tests.support.killed_training CONFIG.yaml KILLS.json

KILLS.json gives the number of steps after which "worker", "node" and "driver" die; each dies once, however often this
is started. Files next to it record what has happened.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from s1ray.config import load_config
from s1ray.training import loop, trainer
from s1ray.training.checkpoint.folder import folder_name, is_whole
from s1ray.training.config import TrainingConfig

if TYPE_CHECKING:
    from ray._private.node import Node
    from ray.cluster_utils import Cluster

TIMEOUT = 90.0


class Marks:
    """What has happened, in files that survive the process that wrote them."""

    def __init__(self, folder: Path):
        self.folder = folder

    def make(self, name: str) -> bool:
        """Make a mark; False if it exists."""
        try:
            (self.folder / name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def wait(self, name: str) -> None:
        """Wait until a mark has been made."""
        deadline = time.monotonic() + TIMEOUT
        while not (self.folder / name).exists():
            assert time.monotonic() < deadline, f"the mark {name} was not made"
            time.sleep(0.05)


def train_and_die(settings: Mapping[str, object]) -> loop.Outcome:
    """The training function, with kills."""
    import ray.train

    output = Path(str(settings["output"]))
    kills = json.loads((output.parent / "kills.json").read_text())
    marks = Marks(output.parent / "marks")
    rank = ray.train.get_context().get_world_rank()
    first = True

    def after_step(finished: int) -> None:
        nonlocal first
        if first and rank == 0:
            marks.make(f"began_after_{finished - 1}_{os.getpid()}")
        first = False
        if finished == kills["worker"] and rank == 1 and marks.make("worker_killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        if finished == kills["node"] - 1:
            # The notice comes a step earlier; the next step should see it and save.
            marks.make("notice")
            marks.wait("noticed")
        if finished == kills["node"] and not (marks.folder / "node_killed").exists():
            marks.make("kill_node")
            marks.wait("node_killed")
            time.sleep(TIMEOUT)
        if finished == kills["driver"] and marks.make("kill_driver"):
            time.sleep(TIMEOUT)

    return loop.train_worker(settings, after_step=after_step)


def follow(cluster: Cluster, node: Node, output: Path, kills: dict[str, int]) -> None:
    """Do to the cluster what the workers request."""
    marks = Marks(output.parent / "marks")

    def asked(name: str, done: str) -> bool:
        return (marks.folder / name).exists() and not (marks.folder / done).exists()

    while True:
        time.sleep(0.05)
        if asked("notice", "noticed"):
            drain(cluster, node)
            # Ray Train checks for drained nodes every five seconds, the training loop asks Ray Train every two.
            time.sleep(8)
            marks.make("noticed")
        if asked("kill_node", "node_killed"):
            saved = output / "checkpoints" / folder_name(kills["node"])
            deadline = time.monotonic() + TIMEOUT
            while not is_whole(saved) and time.monotonic() < deadline:
                time.sleep(0.05)
            if is_whole(saved):
                marks.make("saved_on_notice")
            cluster.remove_node(node, allow_graceful=False)
            marks.make("node_killed")
            add_node(cluster)
        if asked("kill_driver", "driver_killed"):
            marks.make("driver_killed")
            os.kill(os.getpid(), signal.SIGKILL)


def add_node(cluster: Cluster) -> None:
    """Add a node outside the main thread, where Ray must not set its signal handler."""
    import ray

    ray._private.utils.set_sigterm_handler = lambda handler: None
    cluster.add_node(num_cpus=1)


def drain(cluster: Cluster, node: Node) -> None:
    """Announce that a node will be taken away in a minute, as a cloud's preemption notice does."""
    import ray
    from ray.core.generated import autoscaler_pb2

    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline_ms = int((time.time() + 60) * 1000)
    accepted, why = ray._raylet.GcsClient(address=cluster.address).drain_node(node.node_id, reason, "", deadline_ms)
    assert accepted, why


def main(config_path: str, kills_path: str) -> None:
    """Train; see the module."""
    import ray
    from ray.cluster_utils import Cluster

    config = load_config(TrainingConfig, config_path)
    kills = json.loads(Path(kills_path).read_text())
    head = {
        "num_cpus": 1,
        "include_dashboard": False,
        "_system_config": {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 500,
            "health_check_timeout_ms": 5000,
            "health_check_failure_threshold": 2,
        },
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    # Before there is another node, so that the driver runs on the one that stays.
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    node = cluster.add_node(num_cpus=1)
    setattr(trainer, "train_worker", train_and_die)  # noqa: B010  # the trainer passes it on by this name
    threading.Thread(target=follow, args=(cluster, node, Path(config.output), kills), daemon=True).start()
    trainer.train(config)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
