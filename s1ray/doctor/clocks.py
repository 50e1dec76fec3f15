"""Clocks: cloud storage refuses requests that are minutes off, and log lines are read side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from s1ray.doctor.base import Facts, Finding, Node, Request

CHECK = "clock"
WARN_S, FAIL_S = 2.0, 120.0
"""S3 refuses signatures that are 15 minutes off."""


def look(request: Request, node_id: str) -> Facts:
    """The node's time."""
    return {"time": time.time()}


def judge(nodes: Sequence[Node], request: Request) -> Iterator[Finding]:
    """The node looked between the question and the answer, so its time lies between them, or its clock is off."""
    largest = 0.0
    seen = 0
    for node in nodes:
        facts = node.of(CHECK)
        if facts is None or not node.id:
            continue
        seen += 1
        skew = max(node.asked - facts["time"], facts["time"] - node.answered, 0.0)
        largest = max(largest, skew)
        if skew > WARN_S:
            what = f"the clock is off by {skew:,.1f} s or more"
            yield Finding(
                "failed" if skew > FAIL_S else "warning", CHECK, node.name, what, "run chrony or timesyncd there"
            )
    if seen and largest <= WARN_S:
        yield Finding("ok", CHECK, "cluster", f"no clock of {seen} node(s) is off by more than {WARN_S:g} s")
