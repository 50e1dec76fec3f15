"""The step of the stage that drops what is too easy or too hard."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from s1ray.config import ConfigError
from s1ray.curation.config import CurationConfig
from s1ray.curation.difficulty.attempts import Asked, Texts
from s1ray.curation.difficulty.config import GivenDifficulty, ModelDifficulty
from s1ray.curation.difficulty.measuring import Measured, measure
from s1ray.curation.difficulty.rates import judged
from s1ray.curation.features import Features, question_name
from s1ray.curation.filters import difficulty_filter
from s1ray.curation.funnel import Funnel, Rows
from s1ray.runs import Run
from s1ray.storage import Location

log = logging.getLogger("s1ray")


def find_difficulty(
    config: CurationConfig, run: Run, work: Location, parts: Sequence[Location], features: Features, funnel: Funnel
) -> Measured | None:
    """Read or measure difficulty, and drop rows for it. Ray is connected.

    Args:
        config: the stage's.
        run: gets figures and the attempts.
        work: for what a finished run does not keep.
        parts: of the rows.
        features: of the rows.
        funnel: after the filters before.

    Returns:
        What was measured. None: nothing was.

    Raises:
        ConfigError: no row has a reference answer.
        UnreachableError: too many requests failed.
        RunError: a model could not be asked, or a worker failed; what is answered stays.
    """
    if isinstance(config.difficulty, GivenDifficulty):
        difficulty_filter(funnel, features.column("difficulty"))
    if not isinstance(config.difficulty, ModelDifficulty):
        return None
    rows = with_answer(features, funnel.left)
    asked = Asked(Texts(parts, features.starts), rows, [*map(question_name, features.column("id", rows).tolist())])
    measured = measure(asked, config.difficulty, run.path, work, seed=config.seed)
    run.figures["difficulty"] = measured.figures
    codes = np.repeat(judged(np.zeros(1), np.ones(1), config.difficulty), len(features))
    codes[rows] = measured.rates.judged(config.difficulty)
    difficulty_filter(funnel, codes)
    return measured


def with_answer(features: Features, rows: Rows) -> Rows:
    """Those of some rows that have a reference answer: attempts at others could not be graded.

    Raises:
        ConfigError: none has.
    """
    asked: Rows = rows[features.column("answer_key", rows) != 0]
    if not len(asked):
        raise ConfigError(
            f"difficulty.models: none of the {len(rows):,} questions that are left has a reference answer, so no "
            "attempt could be graded; name the sources' columns.answer, or leave `difficulty` out"
        )
    if without := len(rows) - len(asked):
        log.warning("difficulty: %d questions have no reference answer, and are not asked", without)
    return asked
