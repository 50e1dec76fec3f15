"""Several stages in order: the recipe, what ties the stages together, and resuming."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from s1ray.config import ConfigError, StageConfig
from s1ray.errors import InputError
from s1ray.manifests import RunError
from s1ray.pipelines import config, load_pipeline, pipeline
from s1ray.runs import Run
from s1ray.stages import Stage


class ToyConfig(StageConfig):
    word: str = "a"
    source: str | None = None


class ToyStages:
    """Two stages that write one file each, and remember what they did."""

    def __init__(self) -> None:
        self.planned: list[str] = []
        self.worked: list[str] = []
        self.broken = False

    def stages(self) -> dict[str, _Entry]:
        return {name: _Entry(self._stage(name)) for name in ("curate", "traces")}

    def _stage(self, name: str) -> Stage[ToyConfig]:
        def work(config: ToyConfig, run: Run) -> None:
            if self.broken and name == "traces":
                raise InputError("traces: broken")
            self.worked.append(name)
            (run.path / "result.txt").write_text(config.word)

        def inputs(config: ToyConfig) -> Mapping[str, str]:
            return {} if config.source is None else {"source": config.source}

        def plan(config: ToyConfig) -> list[str]:
            self.planned.append(name)
            return []

        return Stage(name=name, config=ToyConfig, plan=plan, inputs=inputs, work=work)


class _Entry:
    def __init__(self, stage: Stage[ToyConfig]) -> None:
        self._stage = stage

    def load(self) -> Stage[ToyConfig]:
        return self._stage


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> ToyStages:
    toys = ToyStages()
    for module in (config, pipeline):
        monkeypatch.setattr(module, "STAGES", toys.stages())
    return toys


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Two stages, the second of which reads what the first wrote."""
    (tmp_path / "toy.yaml").write_text("output: elsewhere\n")
    toy = str(tmp_path / "toy.yaml")
    stages = [
        {"stage": "curate", "config": toy},
        {"stage": "traces", "config": toy, "set": {"source": "{curate}/result.txt", "word": "b"}},
    ]
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({"output": str(tmp_path / "out"), "stages": stages}))
    return file


def run(recipe: Path, *overrides: str, force: bool = False) -> list[bool]:
    """Run all stages; which of them were complete before."""
    return [finish()[0].skipped for _, finish in load_pipeline(str(recipe), overrides=overrides).steps(force=force)]


def test_stages_read_what_the_one_before_wrote_and_complete_ones_are_skipped(
    toys: ToyStages, recipe: Path, tmp_path: Path
) -> None:
    assert run(recipe) == [False, False]
    assert (tmp_path / "out" / "traces" / "result.txt").read_text() == "b"
    assert run(recipe) == [True, True]
    assert toys.worked == ["curate", "traces"]
    # What a plan needs (a model on the Hub, say) may be out of reach by then.
    assert toys.planned == ["curate", "traces"]


def test_another_setting_runs_the_stage_again_and_those_that_read_its_result(toys: ToyStages, recipe: Path) -> None:
    run(recipe)
    assert run(recipe, "curate.word=c") == [False, False]
    assert run(recipe, "curate.word=c", "traces.word=d") == [True, False]
    assert run(recipe, "curate.word=c", "traces.word=d", force=True) == [False, False]


def test_a_run_that_failed_is_resumed_at_the_stage_that_failed(toys: ToyStages, recipe: Path) -> None:
    toys.broken = True
    with pytest.raises(InputError, match="broken"):
        run(recipe)
    toys.broken = False
    assert run(recipe) == [True, False]
    assert toys.worked == ["curate", "traces"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": []}, "stages: List should have at least 1 item"),
        ({"stages": [{"stage": "cook", "config": "x"}]}, "stages.0.stage: must be one of curate, traces"),
        ({"stages": [{"stage": "curate", "config": "x"}] * 2}, "curate is given more than once"),
        ({"stages": [{"stage": "curate", "config": "x", "serve": {"config": "x"}}]}, "only eval asks a server"),
        ({"report": "report.html"}, "there is no eval stage to report on"),
        ({"report": "eval"}, "report: must be the name of an .html file"),
        ({"report": "../report.html"}, "report: must be the name of an .html file"),
        ({"output": ""}, "output: String should have at least 1 character"),
        ({"stages": [{"stage": "curate", "config": "absent"}]}, "no recipe of curate has this name"),
    ],
)
@pytest.mark.usefixtures("toys")
def test_a_wrong_recipe_is_refused_before_any_stage(recipe: Path, change: dict[str, object], message: str) -> None:
    recipe.write_text(yaml.safe_dump(yaml.safe_load(recipe.read_text()) | change))
    with pytest.raises(ConfigError, match=message):
        load_pipeline(str(recipe)).check()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("word=c", "write it as stage.field=value"),
        ("train.word=c", "train: the recipe has no such stage"),
        ("traces.wrod=c", "wrod: unknown field"),
        ("traces.output=x", "traces: output: 'x' cannot be set"),
    ],
)
@pytest.mark.usefixtures("toys")
def test_a_wrong_override_is_refused(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_pipeline(str(recipe), overrides=[override]).check()


@pytest.mark.usefixtures("toys")
def test_a_reference_to_no_stage_is_named(recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace("{curate}", "{cure}"))
    with pytest.raises(ConfigError, match=r"stages: traces.set.source: .* names no earlier stage of the recipe"):
        load_pipeline(str(recipe)).check()


@pytest.mark.parametrize(
    "value",
    [
        "{train}",
        "{traces}",  # of itself
        "{0}",
        "{}",
        "{curate.__class__}",
        "{curate[0]}",
        "{curate!r}",
        "{curate:>999999999}",
        "{curate",
        "curate}",
        ["{train}"],
        {"deep": ["{train}"]},
    ],
)
@pytest.mark.usefixtures("toys")
def test_braces_hold_the_name_of_an_earlier_stage_and_nothing_else(recipe: Path, value: object) -> None:
    set_traces(recipe, "source", value)
    with pytest.raises(ConfigError, match=r"stages: traces.set.source.*brace of the text itself is written twice"):
        load_pipeline(str(recipe)).check()


@pytest.mark.parametrize("word", ["x #y", "a: b", "'", "null", "3", "1e-5", "", "2020-13-01", "a\nb", "{{x}}"])
@pytest.mark.usefixtures("toys")
def test_a_text_of_a_recipe_reaches_the_stage_as_it_is(recipe: Path, tmp_path: Path, word: str) -> None:
    set_traces(recipe, "word", word)
    run(recipe)
    assert (tmp_path / "out" / "traces" / "result.txt").read_text() == word.replace("{{x}}", "{x}")


def set_traces(recipe: Path, field: str, value: object) -> None:
    """Set a field of the second stage."""
    data = yaml.safe_load(recipe.read_text())
    data["stages"][1]["set"][field] = value
    recipe.write_text(yaml.safe_dump(data))


@pytest.mark.parametrize("folder", ["a b #c", "a: b", "a{b}c", "'q", "[1]"])
@pytest.mark.usefixtures("toys")
def test_an_output_folder_may_have_any_name(recipe: Path, tmp_path: Path, folder: str) -> None:
    """Cut off at a "#", it would be one folder for all stages."""
    pipeline = load_pipeline(str(recipe), output=tmp_path / folder)
    assert pipeline.check() == [f"{stage}: {tmp_path}/{folder}/{stage}" for stage in ("curate", "traces")]
    for _, finish in pipeline.steps():
        finish()
    assert sorted(entry.name for entry in (tmp_path / folder).iterdir()) == ["curate", "traces"]


@pytest.mark.usefixtures("toys")
def test_an_output_that_is_a_file_is_refused_before_any_stage(recipe: Path) -> None:
    with pytest.raises(RunError, match="cannot be a folder"):
        load_pipeline(str(recipe), output=recipe).check()


def test_the_demo_is_a_recipe_whose_configs_all_load(tmp_path: Path) -> None:
    lines = load_pipeline("miniature", output=tmp_path, overrides=["eval.limit=20"]).check()
    assert [line.partition(":")[0] for line in lines] == ["curate", "traces", "train", "eval"]
    assert not any(tmp_path.iterdir())
