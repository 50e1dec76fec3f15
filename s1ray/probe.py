"""Whether every node of a cluster sees a run's storage: the driver writes a token, a task on each node answers it.

A folder that only one machine has fails in the middle of a stage, on another machine, in the words of some library. So
a stage looks first, and names the nodes. Nodes that join later are not looked at.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass

from s1ray.errors import S1rayError
from s1ray.storage import AnyPath, full_text, location, remove

LOOK_S = 10.0
"""Seconds that a file may take to be seen by another machine."""
ANSWER_S = 120.0
"""Seconds that a node may take to answer; it may have to start a process first."""


class StorageError(S1rayError, RuntimeError):
    """Nodes that do not see the storage of a run."""


@dataclass(frozen=True)
class Seen:
    """What a node says of a place."""

    node: str
    """Its address."""
    problem: str | None
    """None: it reads and writes there."""


def probe(place: AnyPath) -> list[Seen]:
    """Ask every node of the connected cluster whether it reads and writes in a folder; Ray is connected.

    Args:
        place: the folder; it need not be there yet.

    Returns:
        An entry for each node; nothing on a cluster of one node.

    Raises:
        OSError: this process cannot write there.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return []
    folder, token = location(place) / f".probe-{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / "token").write_text(token)
        look = ray.remote(num_cpus=0, max_retries=0)(_look)
        asked = {
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                full_text(folder), token, node["NodeID"]
            ): node
            for node in nodes
        }
        ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
        problems = {task: _answer(task) if task in ready else f"no answer in {ANSWER_S:.0f} s" for task in asked}
        for task, node in asked.items():
            if problems[task] is None and not _comes(folder / node["NodeID"], token):
                problems[task] = "what it writes there is not seen here"
        return [Seen(node["NodeManagerAddress"], problems[task]) for task, node in asked.items()]
    finally:
        remove(folder)


def check_seen(place: AnyPath) -> None:
    """Refuse storage that not every node of the connected cluster sees.

    Raises:
        StorageError: nodes do not; the message names them.
    """
    seen = probe(place)
    if blind := [each for each in seen if each.problem is not None]:
        told = "; ".join(f"{each.node}: {each.problem}" for each in blind)
        raise StorageError(
            f"{place}: {len(blind)} of {len(seen)} nodes do not read and write there ({told}); give a folder on "
            "storage that all nodes share at the same path, or an address in an object store (output=s3://BUCKET/RUN)"
        )


def _answer(task: object) -> str | None:
    import ray

    try:
        found: str | None = ray.get(task)
    except Exception as error:  # Whatever keeps the task from running is what is to be told.
        return str(error).strip().splitlines()[0]
    return found


def _look(folder: str, token: str, node: str) -> str | None:
    """On a node: read the token, and write it under the node's name; what keeps it from that."""
    place = location(folder)
    try:
        if not _comes(place / "token", token):
            return "the file that was just written there is not seen"
        (place / node).write_text(token)
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    return None


def _comes(file: AnyPath, token: str) -> bool:
    """Whether a file has a token, soon: network storage may need a moment."""
    until = time.monotonic() + LOOK_S
    while True:
        try:
            if location(file).read_text(encoding="utf-8") == token:
                return True
        except FileNotFoundError:
            pass
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
