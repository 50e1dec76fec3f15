"""What a submission is called, and which files of this machine travel with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from s1ray.pipelines import load_pipeline
from s1ray.recipes import find_recipe
from s1ray.submission.naming import attempt_of, submission
from tests.support.job_server import DONE, Head, follower


def test_a_config_of_this_machine_travels_and_decides_the_name(head: Head, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("output: /shared/run\nsources: [{kind: miniature, size: 100}]\n")
    first = submission("curate", ["--config", str(file), "--root", "/shared"])
    assert first.entrypoint == "python -m s1ray.cli curate --config config.yaml --root /shared"
    assert first.name == submission("curate", ["--config", str(file), "--root", "/shared"]).name
    assert first.name != submission("curate", ["--config", str(file), "--root", "/other"]).name
    copy = tmp_path / "copy.yaml"
    copy.write_text(file.read_text())
    assert first.name == submission("curate", ["--config", str(copy), "--root", "/shared"]).name, "wherever it lies"
    follow, _ = follower(head, "curate", "--config", str(file))
    head.script = [DONE]
    assert follow.follow() == 0
    (package,) = head.packages.values()
    assert b"config.yaml" in package
    file.write_text("output: /shared/run\nsources: [{kind: miniature, size: 101}]\n")
    assert submission("curate", ["--config", str(file), "--root", "/shared"]).name != first.name
    recipe = submission("curate", ["--config", "miniature"])
    assert recipe.entrypoint == "python -m s1ray.cli curate --config miniature"
    assert not recipe.files


@pytest.fixture
def run_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of `run` that names files, by a relative and an absolute path, and a recipe."""
    monkeypatch.chdir(tmp_path)
    for name, stage in {"mine.yaml": "curate", "config.yaml": "eval", "served.yaml": "serve"}.items():
        (tmp_path / name).write_bytes(find_recipe("miniature", stage).read_bytes())
    recipe = tmp_path / "run.yaml"
    recipe.write_text(
        "output: /shared/run\nstages:\n- {stage: curate, config: mine.yaml}\n- {stage: traces, config: miniature}\n"
        f"- {{stage: eval, name: eval_1, config: config.yaml, serve: {{config: {tmp_path / 'served.yaml'}}}}}\n"
    )
    return recipe


@pytest.mark.parametrize(
    "options", [["--output", "/shared/o", "RECIPE"], ["-sx.seed=1", "RECIPE", "-o/shared/o"], ["--force", "RECIPE"]]
)
def test_a_recipe_of_a_run_is_found_wherever_it_stands(run_recipe: Path, options: list[str]) -> None:
    given = [option.replace("RECIPE", "run.yaml").replace("x.seed", "curate.seed") for option in options]
    sent = submission("run", given)
    assert list(sent.arguments) == ["config.yaml" if argument == "run.yaml" else argument for argument in given]
    assert sent.files


def test_the_files_that_a_recipe_names_travel_with_it(run_recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = submission("run", ["run.yaml"])
    assert set(sent.files) == {
        "config.yaml",
        "config-curate.yaml",
        "config-eval_1.yaml",
        "config-eval_1-serve.yaml",
    }
    here = [config for _, config in load_pipeline("run.yaml").configs()]
    with sent.working_folder(None) as folder:
        assert folder is not None
        monkeypatch.chdir(folder)
        assert [config for _, config in load_pipeline("config.yaml").configs()] == here
        serving = load_pipeline("config.yaml").config.stages[2].serve
        assert serving is not None
        assert Path(serving.config).read_bytes() == find_recipe("miniature", "serve").read_bytes()
        monkeypatch.chdir(run_recipe.parent)
    Path("mine.yaml").write_text(Path("mine.yaml").read_text() + "# changed\n")
    assert submission("run", ["run.yaml"]).name != sent.name


def test_a_recipe_that_names_no_file_travels_as_it_is(tmp_path: Path) -> None:
    recipe = tmp_path / "run.yaml"
    recipe.write_text("# mine\noutput: /shared/run\nstages: [{stage: curate, config: miniature}]\n")
    assert submission("run", [str(recipe)]).files == {"config.yaml": recipe.read_bytes()}


def test_the_attempts_of_a_name() -> None:
    assert attempt_of("s1ray-train-0123456789", "s1ray-train-0123456789") == 1
    assert attempt_of("s1ray-train-0123456789-3", "s1ray-train-0123456789") == 3
    assert attempt_of("s1ray-train-0123456789-x", "s1ray-train-0123456789") is None
    assert attempt_of("raysubmit_1", "s1ray-train-0123456789") is None
