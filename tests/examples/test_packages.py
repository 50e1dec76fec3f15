"""The examples' packages: they build, and their entry points lead into the registries."""

from __future__ import annotations

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from s1ray.registry import BENCHMARKS, GRADERS, MODEL_ALIASES, SOURCES, STRATEGIES, TEACHERS, Registry
from tests.support import examples

REGISTRIES: dict[str, Registry[Any]] = {
    registry.group: registry for registry in (BENCHMARKS, GRADERS, MODEL_ALIASES, SOURCES, STRATEGIES, TEACHERS)
}
POINTS = [point for package in examples.PACKAGES for point in examples.declared(package)]


def test_there_is_one_of_each_that_needs_code() -> None:
    assert {point.group for point in POINTS} == REGISTRIES.keys() - {MODEL_ALIASES.group}


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_a_registered_name_and_its_module_and_attribute_are_the_same(point: Any) -> None:
    registry = REGISTRIES[point.group]
    assert point.name in registry.names()
    assert registry.get(point.name) is registry.get(point.value) is point.load()


@pytest.mark.parametrize("package", examples.PACKAGES, ids=lambda package: package.name)
def test_a_package_builds_with_its_module_and_its_entry_points(package: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=package, check=True, capture_output=True)
    wheel = zipfile.ZipFile(next(tmp_path.glob("*.whl")))
    names = wheel.namelist()
    written = configparser.ConfigParser()
    written.read_string(wheel.read(next(name for name in names if name.endswith("entry_points.txt"))).decode())
    for point in examples.declared(package):
        assert written[point.group][point.name] == point.value
        assert f"{point.module}.py" in names
