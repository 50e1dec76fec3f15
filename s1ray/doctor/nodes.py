"""Asks this machine or every node of a cluster, within a time limit, and puts the lines together."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from s1ray import cluster
from s1ray.doctor import (
    authentication,
    clocks,
    cloud,
    collective,
    gpus,
    machine,
    network,
    ports,
    storage,
    versions,
)
from s1ray.doctor.base import HERE, Check, Facts, Finding, Node, Request
from s1ray.probe import written
from s1ray.ray_private import agent_record, dashboard_address
from s1ray.secrets import redact

if TYPE_CHECKING:
    import ray

CHECKS: dict[str, Check] = {
    module.CHECK: module for module in (versions, gpus, machine, network, ports, authentication, storage, clocks, cloud)
}
SECONDS = 45.0
"""For a node to answer: a worker process starts in some ten seconds on a busy one."""
COLLECTIVE_S = 60.0
"""For an all-reduce: importing torch takes most of it."""
AGENT_PREFIX = "DASHBOARD_AGENT_ADDR_NODE_ID_PREFIX:"
"""Ray's: where a node's agent listens, by the node's id."""


def examine(address: str | None, location: str | None, seconds: float = SECONDS) -> list[Finding]:
    """All lines about this machine, or about the cluster at an address.

    Args:
        address: the cluster's. None: this machine alone.
        location: storage to look at. None: none.
        seconds: that a node may take.

    Raises:
        UnreachableError: no cluster answers there.
    """
    with contextlib.ExitStack() as stack:
        request, findings = Request(storage=location), []
        if location is not None:
            try:
                request = replace(request, token=stack.enter_context(written(location)))
            except OSError as error:
                why = f"nothing can be written to {location}: {error.strerror or error}"
                findings.append(
                    Finding("failed", storage.CHECK, HERE, why, "create the folder, or give another --storage")
                )
                request = replace(request, storage=None)
        if address is None:
            nodes = [Node(HERE, facts=look(request, ""))]
        else:
            stack.enter_context(cluster.connected(address))
            request = _about_cluster(request)
            nodes, dead = ask_nodes(request, seconds)
            findings += dead
        findings += judged(nodes, request)
        if len(nodes) > 1:
            findings += _all_reduce(nodes)
        return findings


def look(request: Request, node_id: str) -> dict[str, Facts]:
    """What every check sees on the node that this runs on."""

    def ask(check: Check) -> Facts:
        try:
            return check.look(request, node_id)
        except Exception as error:  # one check that fails must not take the others with it
            return {"error": redact(f"{type(error).__name__}: {error}")[:300]}

    with ThreadPoolExecutor(max_workers=len(CHECKS)) as pool:
        return dict(zip(CHECKS, pool.map(ask, CHECKS.values()), strict=True))


def judged(nodes: Sequence[Node], request: Request) -> Iterator[Finding]:
    """The lines: of nodes without an answer, of checks that could not look, and of all others."""
    for node in nodes:
        if node.facts is None:
            advice = "look into raylet.out and the logs of its workers there, and whether s1ray is installed"
            yield Finding("failed", "node", node.name, node.problem, advice)
            continue
        for name, facts in node.facts.items():
            if "error" in facts:
                yield Finding("warning", name, node.name, f"could not look: {facts['error']}", "please report this")
    for check in CHECKS.values():
        yield from check.judge(nodes, request)


def ask_nodes(request: Request, seconds: float) -> tuple[list[Node], list[Finding]]:
    """Ask every node of the connected cluster; one that does not answer in time is a node without facts."""
    import ray

    dead = []
    for found in ray.nodes():
        if not found["Alive"]:
            seen = f"the node is dead ({found.get('DeathReasonMessage') or 'no reason is known'})"
            advice = "nothing, if it was meant to go"
            dead.append(Finding("warning", "node", str(found["NodeManagerAddress"]), seen, advice))
    began, nodes = time.time(), []
    for found, answer in cluster.ask_nodes(look, request, seconds=seconds):
        name, gpus = str(found["NodeManagerAddress"]), int(found["Resources"].get("GPU", 0))
        nodes.append(_answer(Node(name, id=found["NodeID"], gpus=gpus, asked=began), answer))
    return nodes, dead


def _answer(node: Node, facts: Any) -> Node:
    if isinstance(facts, dict):
        return replace(node, facts=facts, answered=time.time())
    return replace(node, problem=_told(facts))


def _about_cluster(request: Request) -> Request:
    """Where the connected cluster's processes listen."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    peers = [_address(ray.get_runtime_context().gcs_address)]
    peers += [(node["NodeManagerAddress"], int(node["NodeManagerPort"])) for node in alive]
    agents = {}
    for node in alive:
        found = agent_record(f"{AGENT_PREFIX}{node['NodeID']}")
        if found:
            host, port, *_ = json.loads(found)
            agents[node["NodeID"]] = (str(host), int(port))
    dashboard = dashboard_address()
    return replace(request, peers=tuple(peers), agents=agents, dashboard=_address(dashboard) if dashboard else None)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.removeprefix("http://").strip("[]"), int(port)


def _all_reduce(nodes: Sequence[Node]) -> Iterator[Finding]:
    """Between two and two of the nodes that answered; by NCCL where both have GPUs."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    for backend in ("gloo", "nccl"):
        able = [node for node in nodes if node.of(network.CHECK) and (backend == "gloo" or node.gpus)]
        sides: dict[ray.ObjectRef, Node] = {}
        order = []
        for first, second in collective.pairs(len(able)):
            port = (able[first].of(network.CHECK) or {})["free_port"]
            for rank, node in enumerate((able[first], able[second])):
                task = ray.remote(num_cpus=0, num_gpus=int(backend == "nccl"), max_retries=0)(collective.all_reduce)
                where = NodeAffinitySchedulingStrategy(node.id, soft=False)
                side = task.options(scheduling_strategy=where).remote(
                    rank, able[first].name, port, backend, COLLECTIVE_S / 2
                )
                sides[side] = node
            order.append((able[first], able[second]))
        # By pair: sides come home in any order.
        gathered = list(cluster.gathered(sides, COLLECTIVE_S))
        results = []
        for first_node, second_node in order:
            answers = [result for node, result in gathered if node.id in (first_node.id, second_node.id)]
            results.append((first_node.name, second_node.name, _worst(answers, backend)))
        yield from collective.judge(backend, results)


def _worst(answers: Sequence[Any], backend: str) -> Facts:
    failed = [answer for answer in answers if not isinstance(answer, dict)]
    if not failed:
        return dict(min(answers, key=lambda answer: answer["right"]))
    # The side that failed in words says more than the one that waited for it.
    said = next((answer for answer in failed if not isinstance(answer, TimeoutError)), failed[0])
    if backend == "nccl" and all(isinstance(answer, TimeoutError) for answer in failed):
        return {"busy": True}
    return {"error": _told(said)}


def _told(error: Exception) -> str:
    return redact(f"{type(error).__name__}: {error}".strip().splitlines()[0][:300])
