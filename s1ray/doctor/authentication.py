"""Ray's token authentication: whether it is on, and whether a request without the token really is refused."""

from __future__ import annotations

import http.client
import ipaddress
import os
import stat
from collections.abc import Iterator, Sequence

from s1ray.doctor.base import HERE, Facts, Finding, Node, Request

CHECK = "token"
SECONDS = 3.0
MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
"""Ray's variables."""
ASKED = "/api/job_agent/jobs/s1ray-doctor/logs"
"""Of an agent: reads nothing that is there, and answers 401 where a token is needed."""
ADVICE = (
    "run `ray get-auth-token --generate` once, put ~/.ray/auth_token on every node (mode 0600), and start Ray with "
    "RAY_AUTH_MODE=token"
)


def look(request: Request, node_id: str) -> Facts:
    """The mode and the token's file here, and what the node's agent answers to a request without a token."""
    path = os.environ.get(TOKEN_PATH) or os.path.expanduser("~/.ray/auth_token")
    try:
        mode: int | None = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        mode = None
    facts: Facts = {
        "mode": os.environ.get(MODE),
        "file": path,
        "file_mode": mode,
        "in_environment": TOKEN in os.environ,
    }
    agent = request.agents.get(node_id)
    if agent is not None:
        facts["agent"] = {"address": f"{agent[0]}:{agent[1]}", "host": agent[0], "status": status(agent, ASKED)}
    return facts


def judge(nodes: Sequence[Node], request: Request) -> Iterator[Finding]:
    """Where a request without a token is answered, whoever reaches the port runs commands on the cluster."""
    for node in nodes:
        facts = node.of(CHECK)
        if facts is None:
            continue
        if facts["file_mode"] is not None and facts["file_mode"] & (stat.S_IRWXO | stat.S_IWGRP):
            seen = f"others on the machine may read {facts['file']}"
            yield Finding("warning", CHECK, node.name, seen, f"run: chmod 600 {facts['file']}")
        if node.name == HERE:
            yield _without_cluster(facts)
            continue
        agent = facts.get("agent")
        if agent is None:
            advice = "look into dashboard_agent.log in Ray's log folder there; without an agent no logs can be read"
            yield Finding("warning", CHECK, node.name, "the node has no agent that takes jobs", advice)
        elif agent["status"] in (401, 403):
            yield Finding("ok", CHECK, node.name, f"the agent at {agent['address']} refuses requests without a token")
        elif agent["status"] is None:
            advice = "look into dashboard_agent.log in Ray's log folder there"
            yield Finding("warning", CHECK, node.name, f"the agent at {agent['address']} does not answer", advice)
        else:
            alone = len(nodes) == 1 and _is_loopback(agent["host"])
            seen = f"the agent at {agent['address']} answers requests without a token: whoever reaches it runs commands"
            yield Finding("warning" if alone else "failed", CHECK, node.name, seen, ADVICE)
    if request.dashboard is not None:
        yield _dashboard(request.dashboard)


def is_protected(node: Node) -> bool:
    """Whether the node's agent was seen to refuse requests without a token; here, whether there is a token."""
    facts = node.of(CHECK) or {}
    if facts and node.name == HERE:
        return not _is_off(facts) and (facts["file_mode"] is not None or facts["in_environment"])
    return (facts.get("agent") or {}).get("status") in (401, 403)


def _is_off(facts: Facts) -> bool:
    return facts["mode"] is not None and facts["mode"].lower() != "token"


def _without_cluster(facts: Facts) -> Finding:
    if _is_off(facts):
        return Finding(
            "warning", CHECK, HERE, f"{MODE}={facts['mode']} turns token authentication off", f"unset {MODE}"
        )
    if facts["file_mode"] is not None or facts["in_environment"]:
        return Finding("ok", CHECK, HERE, "there is a token: Ray uses it for clusters that are started here")
    if facts["mode"] is not None:
        seen = f"{MODE}=token, and there is no token: `ray start` and clients will fail"
        return Finding("failed", CHECK, HERE, seen, ADVICE)
    seen = "there is no token yet: `ray start` here begins without authentication (a cluster of s1ray's own makes one)"
    return Finding("warning", CHECK, HERE, seen, ADVICE)


def _dashboard(address: tuple[str, int]) -> Finding:
    where = f"{address[0]}:{address[1]}"
    answered = status(address, "/api/jobs/")
    if answered in (401, 403):
        return Finding("ok", CHECK, "cluster", f"the job API at {where} refuses requests without a token")
    if answered is None:
        return Finding(
            "warning",
            CHECK,
            "cluster",
            f"the dashboard at {where} does not answer from here",
            "nothing, if only the head may reach it",
        )
    loopback = _is_loopback(address[0])
    seen = (
        f"the job API at {where} answers requests without a token{'' if loopback else ', and listens beyond loopback'}"
    )
    return Finding("warning" if loopback else "failed", CHECK, "cluster", seen, ADVICE)


def status(address: tuple[str, int], path: str) -> int | None:
    """The status of a GET without credentials. None: nothing answers."""
    connection = http.client.HTTPConnection(*address, timeout=SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
