"""The storage of runs: each node reads what the asking machine wrote there, and can write too (`s1ray.probe`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from s1ray import probe
from s1ray.doctor.base import Facts, Finding, Node, Request, listed

CHECK = "storage"
ALONE = "here"
"""Name of the file of a machine that is no node."""


def look(request: Request, node_id: str) -> Facts:
    """Answer the token."""
    return {} if request.token is None else {"problem": probe.look(request.token, node_id or ALONE)}


def judge(nodes: Sequence[Node], request: Request) -> Iterator[Finding]:
    """A node that does not see the token has another folder at that path, or none."""
    if request.token is None:
        return
    asked = {node.id or ALONE: node for node in nodes if node.of(CHECK) is not None}
    problems = probe.judged(request.token, {name: (node.of(CHECK) or {})["problem"] for name, node in asked.items()})
    for name, problem in problems.items():
        if problem is not None:
            advice = (
                "mount the same storage on every node at the same path, let Ray's user write there, or give a bucket"
            )
            yield Finding("failed", CHECK, asked[name].name, f"{request.storage}: {problem}", advice)
    if fine := [asked[name].name for name, problem in problems.items() if problem is None]:
        yield Finding("ok", CHECK, listed(fine), f"{request.storage} can be read and written")
