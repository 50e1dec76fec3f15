"""Config loading: every shipped YAML loads, and a mistake is named with its file and field."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml
from pydantic import Field

from s1ray.cli import STAGES
from s1ray.config import Config, ConfigError, StageConfig, load_config, to_yaml

ROOT = Path(__file__).resolve().parent.parent
CLASS_OF_PREFIX = {
    "curate": STAGES["curate"][0],
    "traces": STAGES["traces"][0],
    "train": STAGES["train"][0],
    "benchmark": STAGES["eval"][0],
    "serve": "s1ray.serving.config:ServingConfig",
}
SHIPPED = sorted((ROOT / "jobs" / "configs").glob("*.yaml"))


class Inner(Config):
    rate: float = 0.5
    names: list[str] = Field(default=["a", "b"])


class Outer(StageConfig):
    size: int
    inner: Inner = Inner()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.name)
def test_every_shipped_job_config_loads(path: Path) -> None:
    module, _, name = CLASS_OF_PREFIX[path.name.split(".")[0]].partition(":")
    config = load_config(getattr(importlib.import_module(module), name), path)
    assert yaml.safe_load(to_yaml(config)).keys() == config.model_dump().keys()


def test_each_stage_ships_a_miniature_config() -> None:
    assert {p.name for p in SHIPPED} >= {f"{prefix}.miniature.yaml" for prefix in CLASS_OF_PREFIX}


def test_overrides_reach_nested_fields_list_elements_and_numbers(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("output: out\nsize: 3\ninner: {names: [x, y]}\n")
    config = load_config(Outer, file, ["inner.rate=1e-3", "inner.names.1=z", "size=4"])
    assert (config.inner.rate, config.inner.names, config.size) == (1e-3, ["x", "z"], 4)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["inner.rat=1"], ["inner.rat", "unknown field", "rate, names"]),
        (["size=big"], ["size", "integer", "'big'"]),
        (["size"], ["write it as field=value"]),
        (["inner.names.7=q"], ["inner.names", "2 elements", "7"]),
        (["output.deeper=1"], ["output", "single value"]),
        (["seed=-1"], ["seed", "greater than or equal to 0"]),
    ],
)
def test_a_mistake_names_the_file_and_the_field(tmp_path: Path, overrides: list[str], words: list[str]) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("output: out\nsize: 3\ninner: {names: [x, y]}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(Outer, file, overrides)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("size: [1", ["not valid YAML"]),
        ("- 1\n- 2\n", ["top level must be a mapping"]),
        ("output: out\n", ["size", "required"]),
        ("\0", ["not valid YAML"]),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(Outer, file)
    assert all(word in str(caught.value) for word in ["broken.yaml", *words]), caught.value


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
        load_config(Outer, tmp_path / "nowhere.yaml")


def test_a_key_that_is_given_twice_is_an_error(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("output: a\noutput: b\n")
    with pytest.raises(ConfigError, match="the key 'output' is given twice"):
        load_config(StageConfig, path)


@pytest.mark.parametrize("value", [".inf", ".nan"])
def test_numbers_are_finite(value):
    class Rate(StageConfig):
        rate: float

    with pytest.raises(ConfigError, match=r"rate: .*finite"):
        load_config(Rate, None, ["output=x", f"rate={value}"])
