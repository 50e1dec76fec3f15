"""The packages of examples/ as if they were installed."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from s1ray import registry
from tests.support.markdown import ROOT

PACKAGES = sorted(file.parent for file in ROOT.glob("examples/*/pyproject.toml"))


def declared(package: Path) -> list[EntryPoint]:
    """The entry points of an example."""
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = project["entry-points"].items()
    return [EntryPoint(name, value, group) for group, points in groups for name, value in points.items()]


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put all examples on the import path, and their entry points into the registries."""
    points = [point for package in PACKAGES for point in declared(package)]
    installed = registry._entry_points
    for package in PACKAGES:
        monkeypatch.syspath_prepend(package)
    monkeypatch.setattr(
        registry,
        "_entry_points",
        lambda group: {**installed(group), **{point.name: point for point in points if point.group == group}},
    )
