"""Answers that a ledger takes over from another run's: they were paid for there, and stay in that run's bill."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from s1ray.manifests import RunError, read_manifest
from s1ray.storage import Location, entries, writing
from s1ray.teachers.ledger import Ledger, Place, telling
from s1ray.teachers.tally import TOLD

TAKEN = f"{0:020d}-taken.jsonl"
"""File of a ledger that has them."""
ANSWERED = b'"answered"'
"""In the beginning of a line that is an answer."""
FREE = frozenset({"procedural"})
"""Kinds of teachers whose answers are made by rules, in no time."""


def recorded_config(folder: Location) -> Mapping[str, Any]:
    """The config of the run in a folder; empty where it cannot be read: whose answers they are is not known then, and
    they count as paid for.
    """
    try:
        found: Mapping[str, Any] = (read_manifest(folder) or {}).get("config", {})
    except RunError:
        return {}
    return found


def copy_answers(source: Location, folder: Location) -> None:
    """Copy the answers of a ledger into another one.

    Args:
        source: folder of the one.
        folder: of the other.
    """
    ledger = Ledger(source)
    ledger.read()
    with writing(folder / TAKEN) as temporary, temporary.open("wb") as stream:
        for line in _lines(ledger):
            event = json.loads(line) | {"call": TOLD}
            stream.write(json.dumps(event, ensure_ascii=True).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def taken_over(folder: Location) -> int:
    """How many answers a ledger's folder has from another run."""
    if not (folder / TAKEN).exists():
        return 0
    with (folder / TAKEN).open("rb") as stream:
        return sum(1 for _ in stream)


def count_answers(folder: Location) -> int:
    """Answers in a ledger's folder, roughly: a line is not read as what it says.

    A file that cannot be read counts as one, so that what may have been paid for is never taken for nothing.

    Raises:
        RunError: what is there cannot be listed.
    """
    with telling(folder):
        files = [path for path in entries(folder) if path.suffix == ".jsonl"]
    return sum(map(_answered, files))


def difference(name: str, mine: object, its: object) -> str:
    """The first field in which two fingerprints differ, with what each has.

    Args:
        name: of what they are of.
        mine: here.
        its: there.
    """
    if isinstance(mine, dict) and isinstance(its, dict):
        for key in sorted(mine.keys() | its.keys()):
            if mine.get(key) != its.get(key):
                return difference(f"{name}.{key}", mine.get(key), its.get(key))
    return f"{name} ({its!r}, here {mine!r})"


def _answered(file: Location) -> int:
    try:
        with file.open("rb") as stream:
            return sum(ANSWERED in line[:100] for line in stream)
    except FileNotFoundError:
        return 0
    except OSError:
        return 1


def _lines(ledger: Ledger) -> Iterator[bytes]:
    places: list[Place] = sorted(ledger.answers.values())
    for place in places:
        with (ledger.folder / place.file).open("rb") as stream:
            stream.seek(place.offset)
            yield stream.read(place.length)
