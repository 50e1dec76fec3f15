"""What a check is, what it is asked and what it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from s1ray.probe import Token

Status = Literal["ok", "warning", "failed"]
Facts = dict[str, Any]
"""What a check saw on a node: JSON values by name; `error` where it could not look."""

HERE = "this machine"
"""The name of the only node where there is no cluster."""


@dataclass(frozen=True)
class Finding:
    """One line of the answer."""

    status: Status
    check: str
    where: str
    """Node, or "cluster"."""
    seen: str
    advice: str = ""
    """What to do; empty where it is ok."""


@dataclass(frozen=True)
class Request:
    """What the nodes are asked to look at."""

    storage: str | None = None
    """A location that runs read and write. None: not looked at."""
    token: Token | None = None
    """The file that was written there for the nodes to answer."""
    peers: tuple[tuple[str, int], ...] = ()
    """Address and port of each node's raylet, and of the head's GCS server first."""
    agents: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Node id -> where its agent takes jobs."""
    dashboard: tuple[str, int] | None = None
    """Where the dashboard listens."""


@dataclass(frozen=True)
class Node:
    """A node, and what was seen there."""

    name: str
    """Its address, or `HERE`."""
    id: str = ""
    facts: dict[str, Facts] | None = None
    """By check. None: it did not answer."""
    problem: str = ""
    """Why it did not answer."""
    gpus: int = 0
    """That Ray schedules there."""
    asked: float = 0.0
    """When it was asked, in seconds of the asking machine's clock."""
    answered: float = 0.0
    """When its answer had come."""

    def of(self, check: str) -> Facts | None:
        """What a check saw here. None: the node did not answer, or the check could not look."""
        facts = None if self.facts is None else self.facts.get(check)
        return None if facts is None or "error" in facts else facts


class Check(Protocol):
    """A module of this room."""

    def look(self, request: Request, node_id: str) -> Facts:
        """Look at the node that this runs on. Takes a few seconds; `probe.LOOK_S` where storage shows nothing."""
        ...

    def judge(self, nodes: Sequence[Node], request: Request) -> Iterator[Finding]:
        """What that means."""
        ...


def same(values: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Value -> the nodes that have it, the most frequent first."""
    nodes: dict[str, list[str]] = {}
    for name, value in values:
        nodes.setdefault(value, []).append(name)
    return dict(sorted(nodes.items(), key=lambda item: -len(item[1])))


def listed(names: Sequence[str], most: int = 4) -> str:
    """A few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
