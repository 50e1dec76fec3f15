"""Two-model difficulty and selection on MATH: what is chosen is hard, and spread over the subjects."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from s1ray.config import validate_config
from s1ray.curation.config import CurationConfig, SelectionConfig
from s1ray.curation.filters import difficulty_filter
from s1ray.curation.funnel import Rows
from s1ray.curation.selection import pool_of, select
from tests.support.curation import Filtered, filtered

SHARED = Path(os.environ.get("S1RAY_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
MATH = SHARED / "math_12500.parquet"

pytestmark = pytest.mark.skipif(not MATH.exists(), reason=f"{MATH} is not here")


def math_config(**changes: object) -> CurationConfig:
    data: dict[str, object] = {
        "output": "unused",
        "sources": [
            {
                "kind": "files",
                "path": str(MATH),
                "where": {"split": "train"},
                "columns": {
                    "question": "problem",
                    "solution": "solution",
                    "answer": "answer",
                    "domain": "subject",
                    "metadata": ["level"],
                    "unsolved_by": {"qwen7b": "qwen7b_zero_correct", "tulu8b": "tulu8b_zero_of_70"},
                },
            }
        ],
        "decontamination": {
            "recipe": "s1_code",
            "benchmarks": [{"path": str(SHARED / "math500.parquet"), "question": "problem"}],
        },
        "difficulty": {"kind": "given"},
        "selection": {"size": 200, "uniform_share": 1.0},
    }
    return validate_config(CurationConfig, data | changes, "test")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[Filtered, Rows]:
    """The pool after the difficulty filter, and the rows before it."""
    pool = filtered(math_config(), tmp_path_factory.mktemp("staged"))
    easy_and_hard = pool.funnel.left
    difficulty_filter(pool.funnel, pool.features.column("difficulty"))
    return pool, easy_and_hard


@pytest.fixture(scope="module")
def levels(outcome: tuple[Filtered, Rows]) -> list[float]:
    """MATH's level of every row; a few have none."""
    found = [json.loads(str(row["metadata"]))["level"] for row in outcome[0].rows(["metadata"])]
    return [float("nan") if level is None else float(level) for level in found]


def level_and_entropy(
    pool: Filtered, rows: Rows, levels: Sequence[float], config: SelectionConfig, seed: int
) -> tuple[float, float]:
    """Mean level, and entropy of the subjects, of what a config chooses from some rows."""
    chosen = rows[select(pool_of(pool.features, rows, config), config, seed).rows]
    subjects = np.bincount(pool.features.codes("domain")[0][chosen])
    shares = subjects[subjects > 0] / len(chosen)
    return float(np.nanmean(np.array(levels)[chosen])), float(-np.sum(shares * np.log(shares)))


def test_the_funnel_loses_figures_leaks_and_what_small_models_solve(outcome: tuple[Filtered, Rows]) -> None:
    pool, _ = outcome
    assert len(pool.features) == 7500
    reasons = pool.funnel.reasons()
    assert reasons["quality: asymptote figure"] > 300
    assert 0.06 < sum(n for why, n in reasons.items() if why.startswith("decontamination")) / 7500 < 0.09
    assert 400 < len(pool.funnel.left) < 905
    assert reasons["difficulty: too easy"] > 4000


def test_hard_and_spread_against_the_ablations(outcome: tuple[Filtered, Rows], levels: list[float]) -> None:
    pool, everything = outcome
    of_s1 = [level_and_entropy(pool, pool.funnel.left, levels, math_config().selection, seed) for seed in range(3)]
    by = {
        method: level_and_entropy(
            pool, everything, levels, math_config(selection={"method": method, "size": 200}).selection, 0
        )
        for method in ("random", "longest", "diverse")
    }
    for level, entropy in of_s1:
        assert 4.5 < level < 4.75
        assert entropy > 1.88
        assert level > by["random"][0] + 0.7
        assert level > by["diverse"][0] + 0.7
        assert entropy > by["longest"][1] + 0.1
    assert by["longest"][0] > by["random"][0] + 0.5
