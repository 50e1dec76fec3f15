"""A matrix of runs: which there are, in which order, what their texts name, resuming, and the time left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from s1ray import pipelines
from s1ray.config import ConfigError
from s1ray.errors import InputError
from s1ray.manifests import RunError
from s1ray.pipelines import Pipeline, load_pipeline
from s1ray.pipelines.matrix import Cell
from s1ray.pipelines.running import Pace
from tests.test_pipelines import ToyStages

TITLES = [
    "pool",
    "curate seed=0 data=a",
    "curate seed=0 data=b",
    "traces seed=0",
    "curate seed=1 data=a",
    "curate seed=1 data=b",
    "traces seed=1",
]


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> ToyStages:
    toys = ToyStages()
    for module in (pipelines.config, pipelines.pipeline):
        monkeypatch.setattr(module, "STAGES", toys.stages())
    return toys


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A pool, two data sets of it with two seeds each, and for each seed what reads both."""
    (tmp_path / "toy.yaml").write_text("output: elsewhere\n")
    toy = str(tmp_path / "toy.yaml")
    stages = [
        {"stage": "curate", "name": "pool", "config": toy},
        {
            "stage": "curate",
            "each": ["data", "seed"],
            "config": toy,
            "set": {"source": "{pool}/result.txt", "seed": "{seed}"},
        },
        {
            "stage": "traces",
            "each": ["seed"],
            "config": toy,
            "set": {"source": "{curate:data=b}/result.txt", "word": "{seed}-{curate:data=a}"},
        },
    ]
    matrix = {"seed": [0, 1], "data": {"a": {"curate.word": "alpha"}, "b": {"curate.word": "beta {seed}"}}}
    file = tmp_path / "recipe.yaml"
    file.write_text(
        yaml.safe_dump({"output": str(tmp_path / "out"), "matrix": matrix, "stages": stages}, sort_keys=False)
    )
    return file


def run(recipe: Path, *overrides: str) -> dict[str, bool]:
    """Run all cells; which of them were complete before."""
    return {cell.title: finish()[0].skipped for cell, finish in load_pipeline(str(recipe), overrides=overrides).steps()}


def changed(recipe: Path, path: str, value: object) -> None:
    """Set a field of the recipe, "stages.1.each"; None deletes it."""
    data: Any = yaml.safe_load(recipe.read_text())
    node: Any = data
    *keys, last = [int(key) if key.isdigit() and not isinstance(node, dict) else key for key in path.split(".")]
    for key in keys:
        node = node[int(key)] if isinstance(node, list) else node[key]
    node[last] = value
    recipe.write_text(yaml.safe_dump(data, sort_keys=False))


@pytest.mark.usefixtures("toys")
def test_every_combination_is_run_once_and_value_by_value_of_the_first_axis(recipe: Path, tmp_path: Path) -> None:
    assert list(run(recipe)) == TITLES
    out = tmp_path / "out"
    assert (out / "curate/seed=1/data=b/result.txt").read_text() == "beta 1"
    assert (out / "traces/seed=1/result.txt").read_text() == f"1-{out}/curate/seed=1/data=a"


def test_a_job_that_failed_is_resumed_without_repeating_a_finished_cell(toys: ToyStages, recipe: Path) -> None:
    toys.broken = True
    with pytest.raises(InputError, match="broken"):
        run(recipe)
    assert toys.worked == ["curate"] * 3
    toys.broken = False
    assert [title for title, skipped in run(recipe).items() if skipped] == TITLES[:3]
    assert len(toys.worked) == len(TITLES)
    assert all(run(recipe).values())


@pytest.mark.usefixtures("toys")
def test_another_value_adds_cells_and_leaves_the_others(recipe: Path) -> None:
    run(recipe)
    changed(recipe, "matrix.seed", [0, 1, 2])
    assert [title for title, skipped in run(recipe).items() if not skipped] == [
        "curate seed=2 data=a",
        "curate seed=2 data=b",
        "traces seed=2",
    ]


@pytest.mark.usefixtures("toys")
def test_an_override_holds_for_all_cells_of_a_stage(recipe: Path) -> None:
    run(recipe)
    assert [title for title, skipped in run(recipe, "curate.word=c").items() if skipped] == ["pool"]


@pytest.mark.usefixtures("toys")
def test_an_axis_is_set_on_the_command_line(recipe: Path) -> None:
    assert list(run(recipe, "matrix.seed=[1]")) == [
        "pool",
        "curate seed=1 data=a",
        "curate seed=1 data=b",
        "traces seed=1",
    ]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("matrix.seed", [0, 0], "matrix: seed: 0 is given more than once"),
        ("matrix.seed", [], "matrix: seed: has no value"),
        ("matrix.seed", ["a/b"], "matrix: seed: 'a/b' cannot be part of a folder's name"),
        ("matrix.seed", [[1]], r"matrix: seed: \[1\] cannot be part of a folder's name"),
        ("matrix.seed", [0.5], "matrix: seed: 0.5 cannot be part of a folder's name"),
        ("matrix.seed", 5, "matrix: seed: must be a list of values, or a mapping .* not 5"),
        ("matrix.seed", {0: None, "0": None}, "matrix: seed: 0 is given more than once"),
        ("matrix.data", {"a": [1]}, r"matrix: data: a: must be a mapping of stage.field to a value, not \[1\]"),
        ("matrix.other", ["a"], "matrix: other: no stage has it in its `each`"),
        ("matrix.pool", ["a"], "matrix: pool: a stage has this name too"),
        ("matrix.data", {"a": {"traces.word": "x"}}, "write it as stage.field, of a stage with data in its `each`"),
        ("matrix.data", {"a": {"word": "x"}}, "write it as stage.field"),
        ("stages.0.name", "matrix", "no stage can be called matrix"),
        ("stages.1.each", ["sead"], "'sead' is no axis of the matrix; it has seed, data"),
        ("stages.1.each", ["data", "seed", "data"], "each: data is given more than once"),
        ("stages.0.name", "curate", "curate is given more than once; each has one run folder"),
        ("stages.2.set", {"word": "{curate}"}, r"\{curate\} is run for each data.*write \{curate:data=a\}"),
        ("stages.2.set", {"word": "{curate:data=c}"}, "'data=c' is no axis and value of curate"),
        ("stages.2.set", {"word": "{data}"}, "names no earlier stage of the recipe; there are"),
        ("stages.0.set", {"seed": "{seed}"}, "names no earlier stage"),
    ],
)
@pytest.mark.usefixtures("toys")
def test_a_matrix_that_does_not_fit_is_refused_before_any_run(
    recipe: Path, path: str, value: object, message: str
) -> None:
    changed(recipe, path, value)
    with pytest.raises(ConfigError, match=message):
        load_pipeline(str(recipe)).check()


def test_the_time_left_is_that_of_earlier_repetitions(recipe: Path, toys: ToyStages) -> None:
    cells = load_pipeline(str(recipe)).cells
    pace = Pace(cells)
    assert pace.where(cells[0]) == " (1 of 7)"
    for cell, seconds in zip(cells[:4], [None, 60.0, 180.0, 30.0], strict=True):
        pace.finished(cell, seconds)
    assert pace.left(cells[4:]) == (270.0, 0)
    assert pace.where(cells[5]) == " (6 of 7, about 4 min left)"
    assert not toys.worked


def test_without_a_matrix_nothing_is_said_of_it() -> None:
    step = pipelines.StageStep(stage="curate", config="miniature")
    assert Pace([Cell(step, {})]).where(Cell(step, {})) == ""


@pytest.mark.parametrize("name", ["ablation-data", "ablation-methods", "ablation-scaling", "strategies", "early_exit"])
def test_the_recipes_load(name: str, tmp_path: Path) -> None:
    pipeline: Pipeline = load_pipeline(name, output=tmp_path)
    assert len(pipeline.check()) == len(pipeline.cells)
    assert not any(tmp_path.iterdir())


def test_what_would_only_show_at_the_end_is_told_at_the_start(tmp_path: Path) -> None:
    """A baseline that nobody measures, and a file where a run folder will be."""
    recipe = tmp_path / "recipe.yaml"
    stage = {"stage": "eval", "each": ["seed"], "config": "miniature", "set": {"seed": "{seed}"}}
    data = {"output": str(tmp_path / "run"), "matrix": {"seed": [0, 1]}, "stages": [stage]}
    recipe.write_text(yaml.safe_dump(data | {"ablation": {"baseline": "nobody"}}))
    with pytest.raises(ConfigError, match=r"ablation\.baseline: no eval stage measures .* 'nobody'; they measure"):
        load_pipeline(str(recipe)).check()
    recipe.write_text(yaml.safe_dump(data))
    assert len(load_pipeline(str(recipe)).check()) == 2
    (tmp_path / "run" / "eval").mkdir(parents=True)
    (tmp_path / "run" / "eval" / "seed=1").write_text("")
    with pytest.raises(RunError, match="seed=1: cannot be a folder"):
        load_pipeline(str(recipe)).check()
