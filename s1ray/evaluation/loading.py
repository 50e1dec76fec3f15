"""Reads the results of eval runs from their folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s1ray.config import ConfigError, validate_config
from s1ray.evaluation.arm_result import ArmResult, raw_markers
from s1ray.evaluation.config import EvalConfig
from s1ray.evaluation.results import EvalResults
from s1ray.evaluation.strategies.base import Strategy
from s1ray.evaluation.tasks import ArmKey, stored_row
from s1ray.runs import Manifest, RunError, read_manifest
from s1ray.schemas import Evaluation, read_table

if TYPE_CHECKING:
    import pyarrow as pa

STAGE = "eval"
RESULTS = "evaluations.parquet"
TIMINGS = "timings.parquet"
"""How long each answer took, in a run's folder."""
QUESTIONS = "questions.parquet"
"""The questions that a run asked, in its folder."""
TEXTS = ("thinking", "answer")
"""The heavy columns: they stay in Arrow until a sample is shown."""


def load_results(run_dirs: Sequence[str | os.PathLike[str]]) -> EvalResults:
    """Read finished eval runs.

    Raises:
        RunError: a folder holds no finished eval run, two runs disagree about an arm, or no folder was given.
    """
    if not run_dirs:
        raise RunError("no run to report; give the run folders of `s1ray eval`")
    arms: list[ArmResult] = []
    manifests, configs = [], []
    tables: dict[ArmKey, pa.Table] = {}
    settings: dict[str, Strategy] = {}
    for run_dir in map(Path, run_dirs):
        manifest, config = _open(run_dir)
        table = read_table(run_dir / RESULTS, Evaluation)
        for model in config.models:
            for setting in config.arms_of(model):
                key = (model.label, setting.name)
                if key in tables:
                    raise RunError(f"{run_dir}: {key[0]!r} with arm {key[1]!r} is in another given run too; drop one")
                if settings.setdefault(setting.name, setting) != setting:
                    raise RunError(f"{run_dir}: arm {key[1]!r} has other settings than in another given run")
                tables[key] = _select(table, *key)
                if not tables[key].num_rows:
                    raise RunError(f"{run_dir / RESULTS}: no row of model {key[0]!r} with arm {key[1]!r}")
                rows = evaluations(tables[key].drop_columns(list(TEXTS)))
                answers = (answer.as_py() for answer in tables[key]["answer"])
                markers = raw_markers(answers, model.thinking_format)
                result = ArmResult(model.label, setting, rows, config.seed, markers)
                if not result.answered:
                    raise RunError(
                        f"{run_dir}: every request of {key[0]!r} with arm {key[1]!r} failed; nothing to report"
                    )
                if not result.correct:
                    raise RunError(
                        f"{run_dir}: no answer of {key[0]!r} with arm {key[1]!r} could be decided; nothing to report"
                    )
                if arms and result.questions != arms[0].questions:
                    raise RunError(f"{run_dir}: asked other questions than {run_dirs[0]}; report them apart")
                arms.append(result)
        manifests.append(manifest)
        configs.append(config)
    return EvalResults(arms, manifests, configs, tables)


def _open(run_dir: Path) -> tuple[Manifest, EvalConfig]:
    manifest = read_manifest(run_dir)
    if manifest is None:
        raise RunError(f"{run_dir}: no run folder (it has no manifest.json); give the output folder of `s1ray eval`")
    if manifest.get("stage") != STAGE:
        raise RunError(
            f"{run_dir}: holds a {manifest.get('stage')!r} run, not one of eval; give the output folder of `s1ray eval`"
        )
    if manifest.get("status") != "complete":
        raise RunError(f"{run_dir}: the run is unfinished; run `s1ray eval` again with the same config to resume it")
    try:
        return manifest, validate_config(EvalConfig, manifest.get("config", {}), str(run_dir / "manifest.json"))
    except ConfigError as error:
        raise RunError(f"{error}\n(the run was made by another version of s1ray; measure it again)") from None


def evaluations(table: pa.Table) -> list[Evaluation]:
    """The rows of a table; a text column that it lacks is empty."""
    return [stored_row(dict.fromkeys(TEXTS, "") | row) for row in table.to_pylist()]


def _select(table: pa.Table, model: str, arm: str) -> pa.Table:
    import pyarrow.compute as pc

    chosen = table.filter(pc.and_(pc.equal(table["model"], model), pc.equal(table["arm"], arm)))
    return chosen.sort_by([("question_id", "ascending"), ("sample", "ascending")])
