"""A stage's run folder: what a dry run says of it, and when it is complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from s1ray.aside import Kept
from s1ray.config import StageConfig, load_config, validate_config
from s1ray.manifests import RunError
from s1ray.recipes import find_recipe, recipe_names
from s1ray.runs import OtherRunError, Run
from s1ray.stages import STAGES, Stage
from s1ray.storage import Location


class Toy(StageConfig):
    size: int = 1


def work(config: Toy, run: Run) -> None:
    (run.path / "result").write_text(str(config.size))
    (run.path / "paid").mkdir(exist_ok=True)


def kept(folder: Location) -> Kept | None:
    return Kept("its answers", ("paid",), "from", "answers") if (folder / "paid").exists() else None


toy = Stage(
    name="toy", config=Toy, plan=lambda config: ["plan"], inputs=lambda config: {}, work=work, results=("result",)
)
keeping = Stage(name="toy", config=Toy, plan=lambda config: ["plan"], inputs=lambda config: {}, work=work, kept=kept)


def test_a_dry_run_refuses_what_the_run_would_refuse(tmp_path: Path) -> None:
    config = Toy(output=str(tmp_path / "r"))
    assert toy.check(config) == ["plan"]
    assert not (tmp_path / "r").exists()
    toy(config)
    assert toy.check(config) == ["plan", f"{tmp_path}/r is already complete, and would be skipped"]
    other = Toy(output=config.output, size=2)
    with pytest.raises(OtherRunError, match="differs in size"):
        toy.check(other)
    assert toy.check(other, force=True) == ["plan"]
    (tmp_path / "r" / "manifest.json").write_text("{")
    with pytest.raises(RunError, match="not a readable manifest"):
        toy.check(config)
    (tmp_path / "r" / "manifest.json").unlink()
    for force in (False, True):
        with pytest.raises(RunError, match=r"holds files but no manifest\.json"):
            toy.check(config, force=force)
    assert (tmp_path / "r" / "result").read_text() == "1"


def test_a_stage_whose_result_is_gone_does_its_work_again(tmp_path: Path) -> None:
    config = Toy(output=str(tmp_path / "r"))
    toy(config)
    assert toy(config).skipped
    (tmp_path / "r" / "result").unlink()
    assert not toy(config).skipped
    assert (tmp_path / "r" / "result").exists()
    assert toy(config).skipped


def test_a_dry_run_of_force_says_what_is_kept_and_moves_nothing(tmp_path: Path) -> None:
    config = Toy(output=str(tmp_path / "r"))
    keeping(config)
    assert keeping.check(config, force=True) == ["plan", "--force sets aside its answers"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["r"]
    keeping(config, force=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["r", "r.answers-1"]


@pytest.mark.parametrize(("stage", "recipe"), [(stage, name) for stage in STAGES for name in recipe_names(stage)])
def test_a_config_is_read_again_from_the_manifest_that_has_it(stage: str, recipe: str) -> None:
    config = load_config(STAGES[stage].load().config, find_recipe(recipe, stage))
    assert validate_config(type(config), config.model_dump(mode="json"), "manifest.json") == config
