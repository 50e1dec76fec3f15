"""Names and ways: does a node's name mean an address that others reach, and does it reach the others?"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import psutil

from s1ray.doctor.base import Facts, Finding, Node, Request, listed
from s1ray.interfaces import GLOO, NCCL, interface_of

CHECK = "network"
SECONDS, MOST_PEERS = 2.0, 64


def look(request: Request, node_id: str) -> Facts:
    """The address behind the node's own name, the interface of its way to the others, and which of them it reaches."""
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        address = None
    peers = request.peers[:MOST_PEERS]
    with ThreadPoolExecutor(max_workers=16) as pool:
        reached = list(pool.map(_reaches, peers))
    local = _way_to(peers[0][0]) if peers else None
    return {
        "host": name,
        "address": address,
        "local": local,
        "interface": _interface(local),
        "set": {variable: os.environ[variable] for variable in (GLOO, NCCL) if variable in os.environ},
        "unreached": [f"{host}:{port}" for (host, port), found in zip(peers, reached, strict=True) if not found],
        "peers": len(peers),
        "free_port": _free_port(),
    }


def judge(nodes: Sequence[Node], request: Request) -> Iterator[Finding]:
    """With several nodes, a name that means loopback makes gloo wait for a peer that nobody reaches.

    Training names the interface to gloo; an engine on several nodes does not.
    """
    several = len(nodes) > 1
    for node in nodes:
        facts = node.of(CHECK)
        if facts is None:
            continue
        if facts["unreached"]:
            seen = f"cannot connect to {listed(facts['unreached'])}"
            advice = "let the nodes reach each other on all ports (security group, NetworkPolicy, firewall)"
            yield Finding("failed", CHECK, node.name, seen, advice)
            continue
        loopback = facts["address"] is None or facts["address"].startswith("127.")
        if several and loopback and GLOO not in facts["set"]:
            means = facts["address"] or "no address"
            seen = f"its name {facts['host']} means {means}, where an engine of several nodes would listen"
            advice = f"set GLOO_SOCKET_IFNAME={facts['interface'] or 'eth0'} on all nodes, or correct /etc/hosts"
            yield Finding("warning", CHECK, node.name, seen, advice)
            continue
        way = f"; reaches all of {facts['peers']} addresses by {facts['interface']}" if facts["peers"] else ""
        chosen = "".join(f"; {variable}={value}" for variable, value in facts["set"].items())
        yield Finding("ok", CHECK, node.name, f"{facts['host']} is {facts['address'] or 'no address'}{way}{chosen}")


def _reaches(peer: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(peer, timeout=SECONDS):
            return True
    except OSError:
        return False


def _way_to(host: str) -> str | None:
    """Our address on the way to another; nothing is sent."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None


def _interface(address: str | None) -> str | None:
    found = {name: [entry.address for entry in entries] for name, entries in psutil.net_if_addrs().items()}
    return None if address is None else interface_of(address, found)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
