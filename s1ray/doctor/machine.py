"""Disks, shared memory and open files of each node."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from s1ray.doctor.base import Facts, Finding, Node, Request, Status

CHECK = "machine"
GIB = 2**30
FREE_GIB, FREE_SHARE = 20, 0.05
"""Below this much, or this share, Ray's spilled objects, checkpoints and logs run out of room; Ray itself stops writing
at 5 % free (`RAY_local_fs_capacity_threshold`)."""
SHM_SHARE = 0.3
"""Of the memory: the object store's default. With less of /dev/shm Ray falls back to files in /tmp."""
OPEN_FILES = 65_536
"""Ray opens a few for each worker, task and connection; its own advice."""


def look(request: Request, node_id: str) -> Facts:
    """Free space where Ray and runs write, /dev/shm, and the limit of open files."""
    folders = {"Ray's folder": _ray_folder(), "temporary files": tempfile.gettempdir()}
    if request.storage is not None and "://" not in request.storage:
        folders["storage"] = request.storage
    disks = {}
    for name, folder in folders.items():
        there = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if path.exists())
        usage = shutil.disk_usage(there)
        disks[name] = {"path": str(there), "free": usage.free, "total": usage.total, "device": os.stat(there).st_dev}
    shm = Path("/dev/shm")
    return {
        "disks": disks,
        "shm": shutil.disk_usage(shm).total if shm.is_dir() else None,
        "memory": psutil.virtual_memory().total,
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE),
    }


def judge(nodes: Sequence[Node], request: Request) -> Iterator[Finding]:
    """One line for each node where all is well, and one for each thing that is not."""
    for node in nodes:
        facts = node.of(CHECK)
        if facts is None:
            continue
        problems = [*_problems(node.name, facts)]
        yield from problems
        if not problems:
            least = min(disk["free"] for disk in facts["disks"].values())
            shm = f"{_gib(facts['shm'])} of shared memory, " if facts["shm"] is not None else ""
            seen = f"{least / GIB:,.0f} GiB free, {shm}{facts['open_files'][0]:,} open files"
            yield Finding("ok", CHECK, node.name, seen)


def _problems(name: str, facts: Facts) -> Iterator[Finding]:
    told = set()
    for what, disk in facts["disks"].items():
        if disk["device"] in told or (disk["free"] >= FREE_GIB * GIB and disk["free"] >= FREE_SHARE * disk["total"]):
            continue
        told.add(disk["device"])
        seen = f"{_gib(disk['free'])} of {_gib(disk['total'])} are free in {disk['path']} ({what})"
        status: Status = "failed" if disk["free"] < FREE_SHARE * disk["total"] else "warning"
        yield Finding(status, CHECK, name, seen, "make room, or let Ray write elsewhere (ray start --temp-dir)")
    if facts["shm"] is not None and facts["shm"] < SHM_SHARE * facts["memory"]:
        seen = f"/dev/shm has {_gib(facts['shm'])}, and Ray's object store wants {_gib(SHM_SHARE * facts['memory'])}"
        advice = (
            "start containers with --shm-size (Kubernetes: an emptyDir of medium Memory), or set object_store_memory"
        )
        yield Finding("warning", CHECK, name, seen, advice)
    soft, hard = facts["open_files"]
    if soft < OPEN_FILES:
        seen = f"a process may open {soft:,} files"
        yield Finding(
            "warning", CHECK, name, seen, f"run `ulimit -n {OPEN_FILES}` before `ray start` (the limit is {hard:,})"
        )


def _ray_folder() -> str:
    try:
        return os.path.realpath("/tmp/ray/session_latest")
    except OSError:
        return "/tmp/ray"


def _gib(size: float) -> str:
    return f"{size / GIB:,.1f} GiB"
