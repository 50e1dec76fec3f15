"""GPUs, their driver, and whether torch's CUDA can run on it."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from s1ray.cluster import Machine
from s1ray.doctor.base import Facts, Finding, Node, Request

CHECK = "gpus"
SECONDS = 10
"""For nvidia-smi, which takes some on a machine with many cards."""


def look(request: Request, node_id: str) -> Facts:
    """What nvidia-smi says, and torch's CUDA version by its files: importing torch takes seconds."""
    facts: Facts = {
        "devices": Machine.here().gpus,
        "cards": [],
        "cuda": torch_cuda(),
        "smi": shutil.which("nvidia-smi"),
    }
    if facts["smi"] is None:
        return facts
    query = [facts["smi"], "--query-gpu=name,driver_version,memory.total,compute_mode", "--format=csv,noheader"]
    try:
        facts["cards"] = [line.split(", ") for line in _run(query).splitlines() if line.strip()]
        found = re.search(r"CUDA Version: *([\d.]+)", _run([facts["smi"]]))
        facts["driver_cuda"] = found[1] if found else None
    except (OSError, subprocess.SubprocessError) as error:
        facts["problem"] = f"{type(error).__name__}: {error}"[:300]
    return facts


def judge(nodes: Sequence[Node], request: Request) -> Iterator[Finding]:
    """A card that Ray schedules must be there, and its driver must be new enough for torch."""
    for node in nodes:
        facts = node.of(CHECK)
        if facts is None:
            continue
        cards, cuda = facts["cards"], facts["cuda"]
        if problem := facts.get("problem"):
            yield Finding(
                "failed", CHECK, node.name, f"nvidia-smi fails: {problem}", "repair the driver, or replace the node"
            )
            continue
        if not cards:
            if node.gpus or facts["devices"]:
                what = f"{node.gpus or facts['devices']} GPU(s) are expected, and nvidia-smi shows none"
                yield Finding(
                    "failed", CHECK, node.name, what, "install the driver; give containers the GPUs (--gpus all)"
                )
            else:
                yield Finding(
                    "ok", CHECK, node.name, f"no GPU; torch is built {f'for CUDA {cuda}' if cuda else 'for CPUs'}"
                )
            continue
        about = f"{len(cards)} x {cards[0][0]}, driver {cards[0][1]}, CUDA {facts['driver_cuda']}"
        if node.gpus > len(cards):
            what = f"{about}; Ray schedules {node.gpus}"
            yield Finding("failed", CHECK, node.name, what, "correct the node type's resources, or replace the node")
        elif cuda is None:
            advice = "install s1ray[gpu]; the CPU build leaves the cards idle"
            yield Finding("warning", CHECK, node.name, f"{about}; torch is missing or built for CPUs", advice)
        elif facts["driver_cuda"] and _major(cuda) > _major(facts["driver_cuda"]):
            advice = f"install a driver for CUDA {_major(cuda)}, or a torch for CUDA {_major(facts['driver_cuda'])}"
            yield Finding("failed", CHECK, node.name, f"{about}; torch needs CUDA {cuda}", advice)
        else:
            yield Finding("ok", CHECK, node.name, f"{about}; torch is built for CUDA {cuda}")


def torch_cuda() -> str | None:
    """The CUDA version that the installed torch is built for. None: it is built for CPUs, or not there."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    try:
        text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    cuda = re.search(r"^cuda\b[^=]*= *['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return cuda[1] if cuda else None


def _major(version: str) -> int:
    return int(version.partition(".")[0])


def _run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout
