"""Models that differ in one thing, each trained several times: a table of all of them against one, as s1's table 2.

    found = ablation([location("runs/ablation/eval/seed=0"), ...], baseline="curated")

An eval run's seed tells the repetition: models of one label in runs of different seeds are repetitions of one
experiment. Differences are paired by question and by seed, and their intervals hold for other questions and other seeds
(`crossed`). The paper trains each model once, so its intervals hold for other questions alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from s1ray.errors import InputError
from s1ray.evaluation.arm_result import ArmResult
from s1ray.evaluation.conditions import Conditions, golds_of
from s1ray.evaluation.crossed import crossed_mean
from s1ray.evaluation.loading import definition_of, load_all_results
from s1ray.evaluation.metrics import Estimate
from s1ray.grading.interval import clustered_interval
from s1ray.manifests import read_manifest
from s1ray.storage import Location, location

Repetitions = Mapping[int, ArmResult]
"""Seed -> what was measured."""


@dataclasses.dataclass(frozen=True)
class AblationRow:
    """One model, over all its repetitions."""

    model: str
    accuracy: Estimate
    """Over seeds and questions; a fraction."""
    by_seed: dict[int, float]
    """Accuracy of each repetition."""
    difference: Estimate | None
    """Accuracy minus that of the baseline, over the seeds and questions that both have; None: it is the baseline."""
    thinking_tokens: float | None
    """Mean of an answer; None: not known of each."""
    answer_tokens: float
    """Mean of an answer."""
    cut_share: float
    """Of the answers."""
    examples: list[int]
    """Rows that each repetition was trained on; empty where the weights are not those of a training run."""
    steps: list[int]
    """Optimizer steps of each."""


@dataclasses.dataclass(frozen=True)
class AblationTable:
    """All models with one arm on one benchmark."""

    benchmark: str
    arm: str
    baseline: str
    questions: int
    seeds: list[int]
    rows: list[AblationRow]
    """In the order of the config."""


def ablation(run_dirs: Sequence[Location], baseline: str) -> list[AblationTable]:
    """Compare the models of eval runs with one of them, for each benchmark and each arm that it was measured with.

    Args:
        run_dirs: of eval runs, which have seeds of their own where they measured models of one label.
        baseline: label of a model.

    Raises:
        InputError: no run has the baseline, two runs with one seed measured models of one label, or two runs asked or
            graded in different ways.
        RunError: as `load_all_results`.
    """
    asked: dict[str, tuple[Location, Conditions]] = {}
    measured: dict[tuple[str, str], dict[str, dict[int, ArmResult]]] = {}
    weights: dict[tuple[str, int], str | None] = {}
    for run_dir in run_dirs:
        for results in load_all_results([run_dir]):
            (config,) = results.configs
            definition = definition_of(config, results.benchmark)
            conditions = Conditions.of(definition, config.grader, golds_of(results.arms[0].rows))
            where, first = asked.setdefault(results.benchmark, (run_dir, conditions))
            if (conflict := first.conflict(conditions, where)) is not None:
                raise InputError(f"{run_dir}: {conflict}; measure all models of an ablation alike")
            weights |= {(model.label, config.seed): model.weights for model in config.models}
            for arm in results.arms:
                models = measured.setdefault((results.benchmark, arm.arm), {})
                seeds = models.setdefault(arm.model, {})
                if config.seed in seeds:
                    raise InputError(
                        f"{run_dir}: {arm.model!r} with {arm.arm!r} was measured in another run of seed {config.seed} "
                        "too; the seed of an eval run tells repetitions apart, so give each its own"
                    )
                seeds[config.seed] = arm
    tables = [
        _table(*key, baseline, models, weights) for key, models in measured.items() if baseline in models and models
    ]
    if not tables:
        known = ", ".join(sorted({model for models in measured.values() for model in models})) or "none"
        raise InputError(f"ablation: no run measured the baseline {baseline!r}; there are {known}")
    return tables


def _table(
    benchmark: str,
    arm: str,
    baseline: str,
    models: Mapping[str, Repetitions],
    weights: Mapping[tuple[str, int], str | None],
) -> AblationTable:
    first = models[baseline]
    rows = [
        _row(model, seeds, None if model == baseline else first, weights)
        for model, seeds in models.items()
        if model == baseline or first.keys() & seeds.keys()
    ]
    seeds = sorted({seed for each in models.values() for seed in each})
    questions = len(set.union(*(result.questions for each in models.values() for result in each.values())))
    return AblationTable(benchmark, arm, baseline, questions, seeds, rows)


def _row(
    model: str, seeds: Repetitions, baseline: Repetitions | None, weights: Mapping[tuple[str, int], str | None]
) -> AblationRow:
    results = [seeds[seed] for seed in sorted(seeds)]
    trained = [found for seed in sorted(seeds) if (found := _training(weights.get((model, seed)))) is not None]
    return AblationRow(
        model=model,
        accuracy=_accuracy(_shares(results)),
        by_seed={seed: seeds[seed].accuracy.value for seed in sorted(seeds)},
        difference=None if baseline is None else paired_difference(baseline, seeds),
        thinking_tokens=None
        if any(result.unknown for result in results)
        else float(np.mean([result.thinking_tokens.value for result in results])),
        answer_tokens=float(np.mean([result.answer_tokens.value for result in results])),
        cut_share=sum(result.cut for result in results) / sum(len(result.answered) for result in results),
        examples=[examples for examples, _ in trained],
        steps=[steps for _, steps in trained],
    )


def paired_difference(first: Repetitions, second: Repetitions) -> Estimate:
    """Accuracy of `second` minus accuracy of `first`, over the seeds that both have and the questions that all decided.

    Raises:
        InputError: they share no seed, or no question.
    """
    seeds = sorted(first.keys() & second.keys())
    sides = [first[seed] for seed in seeds], [second[seed] for seed in seeds]
    shares = _shares([*sides[0], *sides[1]])
    return crossed_mean(shares[len(seeds) :] - shares[: len(seeds)], low=-1.0, high=1.0)


def _shares(results: Sequence[ArmResult]) -> np.ndarray:
    """Share of right answers: a row for each result, a column for each question that all of them decided."""
    shared = sorted(set.intersection(*(set(result.correct) for result in results))) if results else []
    if not shared:
        raise InputError("ablation: the models to compare share no question that all of them decided")
    return np.array([[np.mean(result.correct[question]) for question in shared] for result in results])


def _accuracy(shares_RQ: np.ndarray) -> Estimate:
    """Where nothing varies, all answers being right or all wrong, the interval is that of the questions alone."""
    found = crossed_mean(shares_RQ, low=0.0, high=1.0)
    if shares_RQ.size > 1 and found.low < found.high:
        return found
    low, high = clustered_interval(shares_RQ.mean(axis=0).tolist(), len(shares_RQ))
    return dataclasses.replace(found, low=low, high=high)


def _training(weights: str | None) -> tuple[int, int] | None:
    """Rows and optimizer steps of the training run that a model's folder is of; None: of none."""
    manifest = None if weights is None else read_manifest(location(weights).parent)
    if manifest is None or manifest.get("stage") != "train":
        return None
    rows, figures = manifest.get("rows", {}), manifest.get("figures", {})
    return int(rows.get("examples", 0)), int(figures.get("steps", 0))


def as_json(tables: Sequence[AblationTable]) -> list[dict[str, Any]]:
    """The tables as plain values."""
    return [dataclasses.asdict(table) for table in tables]
