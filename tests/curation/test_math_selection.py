"""Two-model difficulty and selection on MATH: what is chosen is hard, and spread over the subjects."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from s1ray.config import validate_config
from s1ray.curation.config import CurationConfig
from s1ray.curation.filters import difficulty_filter
from s1ray.curation.funnel import Funnel
from s1ray.curation.selection import Candidate, select
from tests.support.curation import filtered

if TYPE_CHECKING:
    import pyarrow as pa

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
                    "unsolved_by": {"qwen7b": "qwen7b_zero_correct", "tulu8b": "tulu8b_zero_of_70"},
                },
            }
        ],
        "decontamination": {"benchmarks": [{"path": str(SHARED / "math500.parquet"), "question": "problem"}]},
        "difficulty": {"kind": "given"},
        "selection": {"size": 200, "uniform_share": 1.0},
    }
    return validate_config(CurationConfig, data | changes, "test")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[pa.Table, list[int], Funnel]:
    """The features, the rows before the difficulty filter, and the funnel after it."""
    features, funnel = filtered(math_config(), tmp_path_factory.mktemp("staged"))
    easy_and_hard = funnel.alive
    difficulty_filter(funnel, dict(enumerate(features.column("solved_by").to_pylist())))
    return features, easy_and_hard, funnel


def candidates(features: pa.Table, rows: Sequence[int]) -> list[Candidate]:
    table = features.select(["id", "domain", "length", "source", "metadata"]).take(rows).to_pylist()
    return [Candidate(**{**row, "metadata": json.loads(row["metadata"])}) for row in table]


def level_and_entropy(rows: Sequence[Candidate], chosen: Collection[str]) -> tuple[float, float]:
    picked = [row for row in rows if row.id in chosen]
    subjects = Counter(row.domain for row in picked)
    shares = [count / len(picked) for count in subjects.values()]
    levels = [row.metadata["level"] for row in picked]
    mean = sum(level for level in levels if isinstance(level, int)) / len(picked)
    return mean, -sum(p * math.log(p) for p in shares)


def test_the_funnel_loses_figures_leaks_and_what_small_models_solve(
    outcome: tuple[pa.Table, list[int], Funnel],
) -> None:
    features, _, funnel = outcome
    assert len(features) == 7500
    reasons = funnel.reasons()
    assert reasons["quality: figure in Asymptote code"] > 300
    assert 0.06 < sum(n for why, n in reasons.items() if why.startswith("decontamination")) / 7500 < 0.09
    assert 400 < len(funnel.alive) < 905
    assert reasons["difficulty: too easy"] > 4000


def test_hard_and_spread_against_the_ablations(outcome: tuple[pa.Table, list[int], Funnel]) -> None:
    features, easy_and_hard, funnel = outcome
    hard, everything = candidates(features, funnel.alive), candidates(features, easy_and_hard)
    of_s1 = [level_and_entropy(hard, select(hard, math_config().selection, seed)) for seed in range(3)]
    by = {
        method: level_and_entropy(
            everything, select(everything, math_config(selection={"method": method, "size": 200}).selection, 0)
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
