"""Config loading: every shipped YAML loads, and a mistake is named with its file and field."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import Field

from s1ray.config import Config, ConfigError, StageConfig, load_config, to_yaml
from s1ray.pipelines import PipelineConfig
from s1ray.recipes import find_recipe, recipe_names, recipe_stages
from s1ray.serving.config import ServingConfig
from s1ray.stages import STAGES

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = {name: entry.load().config for name, entry in STAGES.items()}
CONFIGS |= {"serve": ServingConfig, "run": PipelineConfig}
SHIPPED = [(stage, name) for stage in recipe_stages() for name in recipe_names(stage)]


class Inner(Config):
    rate: float = 0.5
    names: list[str] = Field(default=["a", "b"])


class Outer(StageConfig):
    size: int
    inner: Inner = Inner()


@pytest.mark.parametrize(("stage", "name"), SHIPPED)
def test_every_recipe_loads(stage: str, name: str) -> None:
    config = load_config(CONFIGS[stage], find_recipe(name, stage))
    assert yaml.safe_load(to_yaml(config)).keys() == config.model_dump().keys()


def test_each_stage_ships_a_miniature_config() -> None:
    assert set(SHIPPED) >= {(stage, "miniature") for stage in CONFIGS}


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
        (["seed=2020-13-01"], ["override 'seed=2020-13-01'", "no valid timestamp", "month must be"]),
        (["seed=" + 5000 * "9"], ["no valid int", "4300 digits"]),
        (["inner.names.²=q"], ["inner.names", "'²' is no index"]),
        (["inner={rate: 1, rate: 2}"], ["the key 'rate' is given twice"]),
        (["output=''"], ["output", "at least 1 character"]),
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
        ("output: out\nsize: 2020-13-01\n", ["not valid YAML", "no valid timestamp", "line 2"]),
        ("size: !!bool perhaps\n", ["not valid YAML", "'perhaps' is no valid bool"]),
        ("size: " + 3000 * "[", ["not valid YAML", "nested too deeply"]),
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


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/", "../train/miniature", "./miniature", "miniature/", "x" * 300, "a\0b"]
)
def test_what_is_no_file_and_no_name_of_the_stages_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"(no such file|is a folder), and no recipe of train has this name"):
        find_recipe(name, "train")


def test_a_folder_does_not_hide_a_recipe_and_a_file_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "miniature").mkdir()
    assert find_recipe("miniature", "train").parent.name == "train"
    (tmp_path / "s1-7b").touch()
    assert find_recipe("s1-7b", "train") == Path("s1-7b")


def test_a_key_that_is_given_twice_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("output: a\noutput: b\n")
    with pytest.raises(ConfigError, match="the key 'output' is given twice"):
        load_config(StageConfig, path)


@pytest.mark.parametrize("value", [".inf", ".nan"])
def test_numbers_are_finite(value: str) -> None:
    class Rate(StageConfig):
        rate: float

    with pytest.raises(ConfigError, match=r"rate: .*finite"):
        load_config(Rate, None, ["output=x", f"rate={value}"])
