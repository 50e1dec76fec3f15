"""The storage of runs: each node reads what the asking machine wrote there, and can write too."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence

from s1ray.doctor.base import Facts, Finding, Node, Request, listed
from s1ray.secrets import redact
from s1ray.storage import location, remove, write_text

CHECK = "storage"
NAME = ".s1ray-doctor"


@contextlib.contextmanager
def written(given: str) -> Iterator[str]:
    """Write a token to a location; inside the block it is there.

    Yields:
        The token.

    Raises:
        OSError: nothing can be written there.
        S1rayError: it is no location.
    """
    token = secrets.token_hex(8)
    folder = location(given)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{NAME}.{token}", token)
    try:
        yield token
    finally:
        for left in [*folder.glob(f"{NAME}.{token}*")]:
            remove(left)


def look(request: Request, node_id: str) -> Facts:
    """Read the token, and write a file beside it."""
    if request.storage is None:
        return {}
    folder = location(request.storage)
    file = folder / f"{NAME}.{request.token}"
    facts: Facts = {"read": None, "write": None}
    try:
        facts["same"] = file.read_text(encoding="utf-8") == request.token
    except OSError as error:
        facts["read"] = _why(error)
    try:
        write_text(folder / f"{file.name}.{node_id or os.getpid()}", request.token)
    except OSError as error:
        facts["write"] = _why(error)
    return facts


def _why(error: OSError) -> str:
    return redact(error.strerror or str(error))[:300]


def judge(nodes: Sequence[Node], request: Request) -> Iterator[Finding]:
    """A node that does not see the file has another folder of that name, or none."""
    if request.storage is None:
        return
    advice = "mount the same storage on every node, or use an object store"
    fine = []
    for node in nodes:
        facts = node.of(CHECK)
        if facts is None:
            continue
        if facts["read"] or not facts["same"]:
            seen = (
                f"{request.storage} is another folder than on the asking machine: {facts['read'] or 'another content'}"
            )
            yield Finding("failed", CHECK, node.name, seen, advice)
        elif facts["write"]:
            yield Finding(
                "failed", CHECK, node.name, f"nothing can be written to {request.storage}: {facts['write']}", advice
            )
        else:
            fine.append(node.name)
    if fine:
        yield Finding("ok", CHECK, listed(fine), f"{request.storage} can be read and written")
