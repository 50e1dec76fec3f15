"""Whether every node of a cluster reads and writes a place: this process writes a token there, each node answers it.

A folder that only one machine has fails in the middle of a stage, on another machine, in the words of some library. So
a stage looks first, and refuses; `s1ray doctor` looks, and reports. Nodes that join later are not looked at.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from s1ray.cluster import ask_nodes
from s1ray.errors import S1rayError
from s1ray.secrets import redact
from s1ray.storage import AnyPath, full_text, location, remove

log = logging.getLogger("s1ray")

LOOK_S = 10.0
"""Seconds that a file may take to be seen by another machine: network storage need not show it at once."""
PAUSE_S = 0.2
"""Seconds between two looks."""
ANSWER_S = 120.0
"""Seconds that a node may take to answer before a stage; it may have to start a process first."""
NAME = "token"
MAX_MESSAGE = 300
"""Characters of an error that are told."""


class StorageError(S1rayError, RuntimeError):
    """Nodes that do not see the storage of a run."""


@dataclass(frozen=True)
class Token:
    """A file of this process in a folder of its own, beside which nodes write theirs."""

    folder: str
    """An absolute path, or an address."""
    text: str
    """What the file holds, and each answer."""


@contextlib.contextmanager
def written(place: AnyPath) -> Iterator[Token]:
    """Write a token; it is there inside the block.

    Args:
        place: the folder to look at; created where it is not there.

    Raises:
        OSError: nothing can be written there.
        S1rayError: it is no location.
    """
    folder = location(full_text(place)) / f".probe-{uuid.uuid4().hex[:12]}"
    token = Token(str(folder), uuid.uuid4().hex)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / NAME).write_text(token.text, encoding="utf-8")
        yield token
    finally:
        try:
            remove(folder)
        except OSError as error:
            log.warning("%s: cannot be removed, and may be deleted: %s", folder, _why(error))


def look(token: Token, node: str) -> str | None:
    """On a node: read the token, and answer it with a file under the node's name.

    Returns:
        What keeps the node from that. None: nothing.
    """
    if (problem := _problems(token, [NAME]).get(NAME)) is not None:
        return f"the file that was just written there {problem}"
    try:
        (location(token.folder) / node).write_text(token.text, encoding="utf-8")
    except OSError as error:
        return f"nothing can be written there: {_why(error)}"
    return None


def judged(token: Token, said: Mapping[str, str | None]) -> dict[str, str | None]:
    """What is wrong with the place on each node, now that all have looked. None: nothing.

    Args:
        token: it is still there.
        said: name of a node -> what `look` said there.
    """
    unseen = _problems(token, [node for node, problem in said.items() if problem is None])
    answers = {node: f"the file that it wrote there {problem} here" for node, problem in unseen.items()}
    return {**said, **answers}


def check_seen(place: AnyPath) -> None:
    """Refuse storage that not every node of the connected cluster reads and writes. A single node is not asked.

    Raises:
        StorageError: nodes do not; the message names them.
        OSError: this process cannot write there.
    """
    import ray

    if sum(node["Alive"] for node in ray.nodes()) < 2:
        return
    names, said = dict[str, str](), dict[str, str | None]()
    with written(place) as token:
        for node, answer in ask_nodes(look, token, seconds=ANSWER_S):
            names[node["NodeID"]] = node["NodeManagerAddress"]
            said[node["NodeID"]] = _why(answer) if isinstance(answer, Exception) else answer
        problems = {node: problem for node, problem in judged(token, said).items() if problem is not None}
    if problems:
        told = "; ".join(f"{names[node]}: {problem}" for node, problem in problems.items())
        raise StorageError(
            f"{place}: {len(problems)} of {len(said)} nodes do not read and write there ({told}); give a folder on "
            "storage that all nodes share at the same path, or an address in an object store (output=s3://BUCKET/RUN)"
        )


def _problems(token: Token, names: Iterable[str]) -> dict[str, str]:
    """What is wrong with files that should hold the token's text, once they have had the time to come."""
    left, until = dict.fromkeys(names, ""), time.monotonic() + LOOK_S
    while True:
        found = {name: _problem(token, name) for name in left}
        left = {name: problem for name, problem in found.items() if problem is not None}
        if not left or time.monotonic() > until:
            return left
        time.sleep(PAUSE_S)


def _problem(token: Token, name: str) -> str | None:
    try:
        text = (location(token.folder) / name).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return "is not seen"
    except OSError as error:
        return f"cannot be read: {_why(error)}"
    return None if text == token.text else "has another content"


def _why(error: Exception) -> str:
    told = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    return redact(str(told).strip().splitlines()[0])[:MAX_MESSAGE]
