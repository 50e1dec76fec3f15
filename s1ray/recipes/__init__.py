"""The configs that come with s1ray: one folder a stage, one YAML file a recipe.

s1ray recipes                    lists them
s1ray train --config s1-32b      uses one by its name
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from s1ray.config import ConfigError

FOLDER = Path(__file__).parent


def find_recipe(name: str | Path, stage: str) -> Path:
    """The file that a `--config` means: a path, or the name of a stage's recipe.

    Raises:
        ConfigError: there is no such file and no such recipe.
    """
    if os.path.isfile(name):
        return Path(name)
    if str(name) in recipe_names(stage):
        return FOLDER / stage / f"{name}.yaml"
    names = ", ".join(recipe_names(stage)) or "none"
    what = "is a folder" if os.path.isdir(name) else "no such file"
    raise ConfigError(f"{name or repr(name)}: {what}, and no recipe of {stage} has this name; its recipes are {names}")


def recipe_names(stage: str) -> list[str]:
    """The names of a stage's recipes."""
    return sorted(file.stem for file in (FOLDER / stage).glob("*.yaml"))


def recipe_stages() -> list[str]:
    """The stages that have recipes; "serve" and "run" among them."""
    return sorted(folder.name for folder in FOLDER.iterdir() if any(folder.glob("*.yaml")))


def summary(stage: str, name: str) -> str:
    """The first sentence of the comment that a recipe begins with."""
    lines = []
    for line in (FOLDER / stage / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("# ") or line.startswith("#   "):
            break
        lines.append(line.removeprefix("# ").strip())
    return re.split(r"[.;:](?: |$)", " ".join(lines))[0]
