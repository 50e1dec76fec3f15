from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import s1ray
from s1ray.serving import ray_llm

PACKAGE = Path(s1ray.__file__).parent
LIBRARIES = ("ray", "starlette", "fastapi")


def private_imports(path: Path) -> Iterator[str]:
    """What a file imports of these libraries from behind an underscore."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            library, *parts = name.split(".")
            if library in LIBRARIES and any(part.startswith("_") for part in parts):
                yield name


def test_two_files_alone_import_private_modules_of_ray() -> None:
    found = {path.relative_to(PACKAGE).as_posix(): list(private_imports(path)) for path in PACKAGE.rglob("*.py")}
    assert found.pop("serving/ray_llm.py")
    assert found.pop("ray_private.py")
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize("name", ray_llm.__all__)
def test_every_name_is_there_in_the_pinned_ray(name: str) -> None:
    assert getattr(ray_llm, name) is not None


@pytest.mark.parametrize("module", ["s1ray.serving.local", "s1ray.serving.scaling.router", "s1ray.serving.check"])
def test_vllm_is_not_imported_before_it_is_needed(module: str) -> None:
    code = f"import sys, {module}; sys.exit('vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
