"""Connecting to Ray, the same way from a laptop, a job and the demo; a cluster's nodes, their labels and GPUs.

Where the session is decided: a caller that has already initialised Ray keeps its session; otherwise `ray.init` follows
Ray's own rules (`RAY_ADDRESS`, which `ray job submit` sets; then a running local cluster; else a new local one). No
runtime environment is ever passed here: the job or the cluster brings it, and giving it twice is an error in Ray.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from s1ray.config import Config, ConfigError
from s1ray.errors import UnreachableError
from s1ray.logs import heartbeat, quiet
from s1ray.ray_private import labels_match, token_authentication

if TYPE_CHECKING:
    import ray

log = logging.getLogger("s1ray")

T = TypeVar("T")

NODE_GROUP_LABEL = "ray.io/node-group"
"""Label of nodes that a launcher started."""
JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the driver of `ray job submit`."""
STATUS_SECONDS = 60
"""Time that `ray status` may take; some five seconds on an idle machine."""


@contextlib.contextmanager
def connected(address: str | None = None, *, num_cpus: int | None = None) -> Iterator[None]:
    """Be connected to Ray inside the block; disconnect after it only if the block connected.

    Args:
        address: None for Ray's own rules, "local" for a new cluster of our own, or a cluster's address.
        num_cpus: CPUs of a new local cluster. None: all of the machine's.

    Raises:
        UnreachableError: no cluster answers at `address`.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    if _own is not None:
        _own.start()
        yield
        return
    with _session(address, num_cpus=num_cpus):
        yield


@contextlib.contextmanager
def own_cluster(num_cpus: int) -> Iterator[None]:
    """Inside the block, the first `connected` starts a new local cluster, which stays until the block ends.

    So a series of stages shares one cluster, and none is started where every stage turns out to be complete. Another
    cluster that runs on the machine is left alone. In a job there is a cluster already: the job's is used.

    Args:
        num_cpus: CPUs that the cluster offers, whatever the machine has.
    """
    global _own
    assert _own is None, "own_cluster does not nest"
    if in_job():
        yield
        return
    with contextlib.ExitStack() as stack:
        _own = _OwnCluster(stack, num_cpus)
        try:
            yield
        finally:
            _own = None


def in_job() -> bool:
    """Whether this process is the driver of a job that was submitted to a cluster."""
    return JOB_VARIABLE in os.environ


@dataclass(frozen=True)
class Machine:
    """What a machine has."""

    cpus: int
    gpus: int

    @classmethod
    def here(cls) -> Machine:
        """The machine that runs this. GPUs are counted by their device files: nothing is imported or started."""
        devices = (name for name in os.listdir("/dev") if re.fullmatch(r"nvidia\d+", name))
        return cls(cpus=os.cpu_count() or 1, gpus=len(list(devices)))


def ask_nodes(
    function: Callable[..., T], *given: object, seconds: float
) -> Iterator[tuple[dict[str, Any], T | Exception]]:
    """Call a function on every live node of the connected cluster at once.

    Args:
        function: called with `given` and the node's id.
        given: arguments.
        seconds: that all nodes together may take.

    Yields:
        Each node, as `ray.nodes()` describes it, with what the function returned there, or why it returned nothing.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(function)
    tasks = {}
    for node in ray.nodes():
        if node["Alive"]:
            where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            tasks[task.options(scheduling_strategy=where).remote(*given, node["NodeID"])] = node
    yield from gathered(tasks, seconds)


def gathered(tasks: Mapping[ray.ObjectRef, T], seconds: float) -> Iterator[tuple[T, Any]]:
    """What running tasks stand for, each with the task's result, or the exception that says why it has none.

    Args:
        tasks: each with what it stands for.
        seconds: after which those that still run are cancelled; a `TimeoutError` stands in for their results.
    """
    import ray

    waiting, until = list(tasks), time.monotonic() + seconds
    while waiting:
        done, waiting = ray.wait(waiting, timeout=max(0.0, until - time.monotonic()))
        if not done:
            break
        try:
            yield tasks[done[0]], ray.get(done[0])
        except Exception as error:  # Ray raises many kinds, and one task must not hide the others.
            yield tasks[done[0]], getattr(error, "cause", None) or error
    for late in waiting:
        ray.cancel(late, force=True)
        yield tasks[late], TimeoutError(f"no answer within {seconds:g} s")


def check_accelerator_type(name: str, field: str) -> None:
    """Look whether Ray knows an accelerator by this name. A node is never found by another.

    Args:
        name: the accelerator's.
        field: of the configuration, for the error.

    Raises:
        ConfigError: Ray does not.
    """
    from ray.util.accelerators import accelerators

    known = {value for key, value in vars(accelerators).items() if key.isupper() and isinstance(value, str)}
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        meant = f"; did you mean {' or '.join(close)}?" if close else f"; it knows {', '.join(sorted(known))}"
        raise ConfigError(f"{field}: Ray knows no accelerator {name!r}{meant}")


def nodes_with(labels: Mapping[str, str] | None) -> list[dict[str, Any]]:
    """The live nodes of the connected cluster whose labels fulfil a selector, as `ray.nodes()` describes them.

    Args:
        labels: None: all live nodes.
    """
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    return [node for node in alive if labels_match(node["Labels"], labels)] if labels else alive


def resources_of(labels: Mapping[str, str] | None) -> dict[str, float]:
    """Sums of what the nodes with some labels have; of all nodes while none has the labels.

    Args:
        labels: None: all nodes.
    """
    totals = defaultdict[str, float](float)
    for node in nodes_with(labels) or nodes_with(None):
        for name, amount in node["Resources"].items():
            totals[name] += amount
    return totals


def labels_text(labels: Mapping[str, str]) -> str:
    """A selector in a few words."""
    return ", ".join(f"{label}={wanted}" for label, wanted in labels.items())


def check_node_labels(config: Config, name: str = "") -> None:
    """Look whether every `node_labels` in a config finds a node in the connected cluster, or may find one later.

    Args:
        config: of a stage or an application.
        name: of its field, for messages.

    Raises:
        ConfigError: no node has the labels, and no autoscaler would add one: what is to run there would wait for ever.
    """
    for field, labels in _placements(config, name):
        if nodes_with(labels):
            continue
        there = "; ".join(f"{label} is {_values(label)}" for label in labels)
        if not can_grow():
            raise ConfigError(
                f"{field}: no node of the Ray cluster has {labels_text(labels)} ({there}), and no autoscaler would add "
                f"one: start nodes with `ray start --labels`, or leave {field} out"
            )
        log.warning(
            "%s: no node has %s yet (%s); what runs there waits for the autoscaler", field, labels_text(labels), there
        )


def _placements(value: object, name: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Every `node_labels` in a config: its field, and the labels."""
    if isinstance(value, Config):
        fields: Iterable[tuple[object, object]] = value
    elif isinstance(value, dict):
        fields = value.items()
    elif isinstance(value, list):
        fields = enumerate(value)
    else:
        return
    for key, inner in fields:
        field = f"{name}.{key}" if name else str(key)
        if isinstance(value, Config) and key == "node_labels" and isinstance(inner, dict):
            yield field, inner
        else:
            yield from _placements(inner, field)


def _values(label: str) -> str:
    """The values that nodes have for a label."""
    return ", ".join(sorted({node["Labels"].get(label, "unset") for node in nodes_with(None)}))


def can_grow() -> bool:
    """Whether an autoscaler may add nodes to the cluster that this process is connected to.

    Nodes that `ray up`, KubeRay or another launcher started carry the name of their group as a label. Ray's older
    autoscaler sets none, but `ray status` lists the node types of its configuration, where a cluster that was put
    together by hand (`ray.init`, `ray start`) has a type of its own for each node.
    """
    import ray

    if any(NODE_GROUP_LABEL in node["Labels"] for node in ray.nodes() if node["Alive"]):
        return True
    status = _ray_status(ray.get_runtime_context().gcs_address)
    listed = re.search(r"^Active:$(.*?)^\S", status, re.MULTILINE | re.DOTALL)
    if listed is None:
        return True  # Not known: a run then waits, and says for what.
    types = re.findall(r"^ +\d+ (\S+)$", listed[1], re.MULTILINE)
    return any(not name.startswith("node_") for name in types)


def _ray_status(address: str) -> str:
    """What `ray status` prints; empty where it fails."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=STATUS_SECONDS, check=True).stdout
    except (subprocess.SubprocessError, OSError):
        return ""


def _warn_if_open() -> None:
    """Warn of a cluster of several nodes whose ports anybody may use. A process without a token reaches no other."""
    import ray

    nodes = sum(node["Alive"] for node in ray.nodes())
    if nodes > 1 and not token_authentication():
        log.warning(
            "Ray's token authentication is off: whoever reaches a port of this cluster's %d nodes can run commands "
            "there; `s1ray doctor --address auto` says what to do",
            nodes,
        )


class _OwnCluster:
    def __init__(self, stack: contextlib.ExitStack, num_cpus: int) -> None:
        self._stack = stack
        self._num_cpus = num_cpus

    def start(self) -> None:
        # The dashboard is a dozen processes, which take longer to start than anything else here.
        self._stack.enter_context(_session("local", num_cpus=self._num_cpus, include_dashboard=False))


_own: _OwnCluster | None = None


@contextlib.contextmanager
def _session(address: str | None, **options: object) -> Iterator[None]:
    import ray

    try:
        with (
            # Ray warns that token authentication is on, which is what we want.
            quiet("ray._private.authentication.authentication_token_setup", level=logging.ERROR),
            heartbeat(lambda seconds: f"waiting for Ray ({seconds:.0f} s)"),
        ):
            # What workers print (an access log, engine start-up) stays in Ray's log folder; what fails raises here.
            ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False, **options)
    except Exception as error:
        # Ray raises bare exceptions here, too.
        what = "start a local Ray" if address == "local" else f"connect to Ray at {address or 'RAY_ADDRESS or here'}"
        raise UnreachableError(f"cannot {what}: {error} (is the cluster up? is the machine overloaded?)") from error
    try:
        _warn_if_open()
        yield
    finally:
        ray.shutdown()
