"""What listens on each node, and who may reach it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psutil

from s1ray.doctor import authentication
from s1ray.doctor.base import Facts, Finding, Node, Request, listed

CHECK = "ports"


@dataclass(frozen=True)
class KnownPort:
    """A port that Ray, Serve, vLLM or s1ray opens."""

    ports: str
    what: str
    listens: str
    """By default: on which node, and on which of its addresses."""
    protects: str
    """What a request needs."""
    open_to: str
    """Who has to reach it."""


TOKEN, NOTHING = "Ray's token", "nothing"
KNOWN = (
    KnownPort("22", "SSH, for the launcher", "every node, all", "a key", "who runs the cluster"),
    KnownPort("6379", "Ray's head (GCS)", "head, the node's", TOKEN, "nodes"),
    KnownPort("8265", "dashboard and job API", "head, loopback", TOKEN, "who runs jobs, through a tunnel"),
    KnownPort("10001", "Ray client", "head, all", TOKEN, "nobody; s1ray does not use it, and Ray has no switch for it"),
    KnownPort("52365", "agent: jobs and logs of the node", "every node, the node's", TOKEN, "nodes"),
    KnownPort("any", "agent's gRPC, runtime environments", "every node, the node's", TOKEN, "nodes"),
    KnownPort("any, 8076", "raylet and its object manager", "every node, the node's", TOKEN, "nodes"),
    KnownPort("10002-19999", "workers", "every node, the node's", TOKEN, "nodes"),
    KnownPort("any, 8080", "metrics of the node", "every node, all", NOTHING, "Prometheus"),
    KnownPort("44217, 44227", "metrics of the autoscaler and the dashboard", "head, all", NOTHING, "Prometheus"),
    KnownPort("8000", "Serve: API and playground", "as `http_options.host`", "an API key, if set", "a TLS gateway"),
    KnownPort("9000", "Serve's gRPC proxy", "only if `grpc_options` asks for it", NOTHING, "nobody"),
    KnownPort("any", "Serve: proxies to replicas (gRPC)", "nodes with replicas, all", TOKEN, "nodes"),
    KnownPort("any", "torch.distributed: rendezvous, gloo, NCCL", "training nodes, while they train", NOTHING, "nodes"),
    KnownPort("any", "vLLM: engine and workers (ZMQ)", "nodes of replicas that span several", NOTHING, "nodes"),
    KnownPort("any", "reward model (`s1ray.serving.reward`)", "as `http_options.host`", NOTHING, "the evaluation"),
)  # fmt: skip
"""Every port, for docs/security.md too."""


def look(request: Request, node_id: str) -> Facts:
    """Sockets that listen, and by which program where it may be known."""
    found = set()
    for connection in psutil.net_connections(kind="inet"):
        is_tcp = connection.type == socket.SOCK_STREAM
        if is_tcp and connection.status == psutil.CONN_LISTEN:
            found.add((connection.laddr.ip, connection.laddr.port, _program(connection.pid)))
    return {"listening": sorted(found)}


def judge(nodes: Sequence[Node], request: Request) -> Iterator[Finding]:
    """What listens beyond loopback can be used by whoever reaches the node."""
    for node in nodes:
        facts = node.of(CHECK)
        if facts is None:
            continue
        beyond = [(ip, port, program) for ip, port, program in facts["listening"] if not is_loopback(ip)]
        shown = sorted({f"{port}{f' ({program})' if program else ''}" for _, port, program in beyond}, key=_number)
        if not shown:
            yield Finding("ok", CHECK, node.name, "nothing listens beyond loopback")
            continue
        seen = f"{len(shown)} port(s) listen beyond loopback: {listed(shown, 12)}"
        runs_ray = any(program in ("raylet", "gcs_server") for _, _, program in beyond)
        if runs_ray and not authentication.is_protected(node):
            advice = "use token authentication, and let only nodes reach them (security group, NetworkPolicy)"
            yield Finding("warning", CHECK, node.name, seen, advice)
        else:
            yield Finding("ok", CHECK, node.name, seen)


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches it."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def _program(pid: int | None) -> str:
    try:
        return psutil.Process(pid).name().partition(" ")[0][:20] if pid else ""
    except psutil.Error:
        return ""


def _number(text: str) -> int:
    return int(text.partition(" ")[0])
