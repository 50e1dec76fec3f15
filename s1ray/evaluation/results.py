"""What benchmark runs measured, read from their folders and summed up: one `ArmResult` for each model and arm.

The report, its plots and the terminal table all read these; nothing is computed twice in two ways.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1ray.config import ConfigError, validate_config
from s1ray.evaluation import metrics
from s1ray.evaluation.config import Arm, EvalConfig
from s1ray.evaluation.metrics import Estimate
from s1ray.runs import RunError, read_manifest
from s1ray.schemas import Evaluation, read_table

if TYPE_CHECKING:
    import pyarrow as pa

STAGE = "eval"
RESULTS = "evaluations.parquet"
QUESTIONS = "questions.parquet"
"""The questions that a run asked, beside its evaluations."""
TEXTS = ("thinking", "answer")
"""The heavy columns: they stay in Arrow until a sample is shown."""


@dataclasses.dataclass(frozen=True)
class ArmResult:
    """One model measured with one arm."""

    model: str
    setting: Arm
    rows: list[dict[str, Any]]
    """The Evaluation rows without their texts, by id."""
    seed: int = 0

    @property
    def arm(self) -> str:
        """The arm's label."""
        return self.setting.name

    def by_question(self, column: str) -> dict[str, list[Any]]:
        """Question id -> the column's value for each sample."""
        return _by_question(self.rows, column)

    @cached_property
    def correct(self) -> dict[str, list[bool]]:
        """Question id -> verdicts; failed requests and unreadable answers count as wrong."""
        return self.by_question("correct")

    @cached_property
    def accuracy(self) -> Estimate:
        """Over questions."""
        return metrics.accuracy(self.correct, seed=self.seed)

    @cached_property
    def thinking_tokens(self) -> Estimate:
        """Mean thinking tokens a question; failed requests are left out."""
        return metrics.mean_estimate(_by_question(self.answered, "thinking_tokens"))

    @cached_property
    def answer_tokens(self) -> Estimate:
        """Mean answer tokens a question; failed requests are left out."""
        return metrics.mean_estimate(_by_question(self.answered, "answer_tokens"))

    @property
    def longest(self) -> int:
        """Thinking tokens of the longest sample."""
        return max(row["thinking_tokens"] for row in self.rows)

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """Fewest and most thinking tokens that the arm allows."""
        return (self.setting.min_tokens or None, self.setting.max_tokens)

    @cached_property
    def answered(self) -> list[dict[str, Any]]:
        """Rows whose request did not fail."""
        return [row for row in self.rows if row["error"] is None]

    @property
    def obeying(self) -> int:
        """Answered samples whose thinking is within the arm's limits."""
        return sum(metrics.within(row["thinking_tokens"], *self.limits) for row in self.answered)

    @property
    def waits(self) -> float:
        """Waits inserted, mean over answered samples."""
        return sum(row["waits"] for row in self.answered) / len(self.answered)

    @property
    def ends(self) -> Counter[str]:
        """Samples by how their thinking ended: "own" or the reason why the end was forced."""
        return Counter(row["end_forced"] or "own" for row in self.answered)

    @property
    def errors(self) -> int:
        """Samples whose request failed for good."""
        return len(self.rows) - len(self.answered)

    @property
    def unread(self) -> int:
        """Answered samples from which no answer could be read."""
        return sum(row["extracted"] is None for row in self.answered)

    @property
    def graders(self) -> Counter[str]:
        """Samples by what graded them."""
        return Counter(row["graded_by"] for row in self.answered)

    @property
    def samples(self) -> int:
        """Most samples of any question."""
        return max(len(verdicts) for verdicts in self.correct.values())

    def accuracy_of_domain(self, domain: str | None) -> Estimate | None:
        """Accuracy over the questions of one domain; None where there are none."""
        questions = {row["question_id"] for row in self.rows if row["domain"] == domain}
        if not questions:
            return None
        return metrics.accuracy({key: self.correct[key] for key in questions}, seed=self.seed)


@dataclasses.dataclass(frozen=True)
class Method:
    """Budget forcing as a method on one model: s1's three numbers over a series of its arms."""

    model: str
    series: str
    arms: list[ArmResult]
    control_runs: float
    """Share of runs whose mean thinking tokens are within the limits: the paper's Control."""
    control_samples: float
    """Share of single samples within the limits."""
    samples: int
    scaling: float | None
    """Percentage points a doubling of the thinking tokens; None below two different amounts."""
    scaling_raw: float | None
    """Percentage points a thinking token."""
    performance: float
    """Best accuracy of the series."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two measurements on the same questions."""

    before: ArmResult
    after: ArmResult
    difference: Estimate
    """Accuracy of `after` minus `before`, paired by question."""


@dataclasses.dataclass(frozen=True)
class BenchmarkResults:
    """Everything that one or several benchmark runs measured."""

    arms: list[ArmResult]
    manifests: list[dict[str, Any]]
    configs: list[EvalConfig]
    tables: dict[tuple[str, str], pa.Table] = dataclasses.field(repr=False)
    """(model, arm) -> its Evaluation rows with texts, by id."""

    @property
    def models(self) -> list[str]:
        """Labels, in the order of the configs: the first is what the others are compared with."""
        return list(dict.fromkeys(result.model for result in self.arms))

    def of(self, model: str) -> list[ArmResult]:
        """The arms of a model."""
        return [result for result in self.arms if result.model == model]

    def find(self, model: str, arm: str) -> ArmResult | None:
        """One measurement, or None where it was not made."""
        return next((result for result in self.of(model) if result.arm == arm), None)

    def maxima(self, model: str) -> list[ArmResult]:
        """The model's arms that only bound the thinking, by growing maximum (no bound last)."""
        plain = [result for result in self.of(model) if not result.setting.waits and not result.setting.min_tokens]
        return sorted(plain, key=lambda result: _bound(result.setting))

    def wait_series(self, model: str) -> list[list[ArmResult]]:
        """Series of arms that differ in their waits alone, from no wait up; only those with a wait somewhere."""
        groups: dict[Any, list[ArmResult]] = defaultdict(list)
        for result in self.of(model):
            if result.setting.waits:
                groups[_wait_group(result.setting)].append(result)
        series = []
        for group in groups.values():
            first = group[0].setting
            start = [
                result
                for result in self.of(model)
                if not result.setting.waits
                and (result.setting.max_tokens, result.setting.min_tokens) == (first.max_tokens, first.min_tokens)
            ]
            series.append(start[:1] + sorted(group, key=lambda result: result.setting.waits))
        return series

    def methods(self) -> list[Method]:
        """s1's metrics for each model: over its maxima, and over all of its arms where those are more."""
        found = []
        for model in self.models:
            maxima, everything = self.maxima(model), self.of(model)
            if maxima:
                found.append(_method(model, "growing maximum", maxima))
            if len(everything) > len(maxima):
                found.append(_method(model, "all arms", everything))
        return found

    def between_models(self) -> list[Comparison]:
        """The first model against each other one, at every arm that both were measured with."""
        first, *others = self.models
        return [
            compare(before, after)
            for other in others
            for before in self.of(first)
            if (after := self.find(other, before.arm)) is not None
        ]

    def between_waits(self) -> list[Comparison]:
        """Each number of waits against none, same model and limits."""
        return [
            compare(series[0], result)
            for model in self.models
            for series in self.wait_series(model)
            if not series[0].setting.waits
            for result in series[1:]
        ]

    def between_extremes(self) -> list[Comparison]:
        """For each model, its smallest maximum against its largest."""
        return [compare(arms[0], arms[-1]) for model in self.models if len(arms := self.maxima(model)) > 1]

    @property
    def domains(self) -> list[str | None]:
        """Domains of the questions, by name; None (no domain) last."""
        seen = {row["domain"] for result in self.arms for row in result.rows}
        return sorted(seen, key=lambda domain: (domain is None, domain or ""))


def compare(before: ArmResult, after: ArmResult) -> Comparison:
    """Compare two measurements on the questions that both have."""
    return Comparison(before, after, metrics.paired_difference(before.correct, after.correct, seed=before.seed))


def load_results(run_dirs: Sequence[str | os.PathLike[str]]) -> BenchmarkResults:
    """Read finished benchmark runs.

    Raises:
        RunError: a folder is no finished benchmark run, or two runs disagree about an arm.
        ValueError: no folder was given.
    """
    if not run_dirs:
        raise ValueError("no benchmark run to report; give the run folders of `s1ray eval`")
    arms: list[ArmResult] = []
    manifests, configs, tables = [], [], {}
    settings: dict[str, Arm] = {}
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
                rows = tables[key].drop_columns(list(TEXTS)).to_pylist()
                result = ArmResult(model.label, setting, rows, config.seed)
                if not result.answered:
                    raise RunError(
                        f"{run_dir}: every request of {key[0]!r} with arm {key[1]!r} failed; nothing to report"
                    )
                if arms and result.correct.keys() != arms[0].correct.keys():
                    raise RunError(f"{run_dir}: asked other questions than {run_dirs[0]}; report them apart")
                arms.append(result)
        manifests.append(manifest)
        configs.append(config)
    return BenchmarkResults(arms, manifests, configs, tables)


def _open(run_dir: Path) -> tuple[dict[str, Any], EvalConfig]:
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
        return manifest, validate_config(EvalConfig, manifest["config"], str(run_dir / "manifest.json"))
    except ConfigError as error:
        raise RunError(f"{error}\n(the run was made by another version of s1ray; measure it again)") from None


def _select(table: pa.Table, model: str, arm: str) -> pa.Table:
    import pyarrow.compute as pc

    chosen = table.filter(pc.and_(pc.equal(table["model"], model), pc.equal(table["arm"], arm)))
    return chosen.sort_by([("question_id", "ascending"), ("sample", "ascending")])


def _by_question(rows: list[dict[str, Any]], column: str) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        values[row["question_id"]].append(row[column])
    return dict(values)


def _method(model: str, series: str, arms: list[ArmResult]) -> Method:
    tokens = [result.thinking_tokens.value for result in arms]
    accuracies = [result.accuracy.value for result in arms]
    answered = sum(len(result.answered) for result in arms)
    return Method(
        model=model,
        series=series,
        arms=arms,
        control_runs=metrics.control(tokens, [result.limits for result in arms]),
        control_samples=sum(result.obeying for result in arms) / answered if answered else 0.0,
        samples=answered,
        scaling=metrics.scaling(tokens, accuracies),
        scaling_raw=metrics.scaling(tokens, accuracies, "raw"),
        performance=metrics.performance(accuracies),
    )


def _bound(setting: Arm) -> float:
    return float("inf") if setting.max_tokens is None else setting.max_tokens


def _wait_group(setting: Arm) -> tuple[Any, ...]:
    text = tuple(setting.wait_text) if isinstance(setting.wait_text, list) else setting.wait_text
    return (setting.max_tokens, setting.min_tokens, text)
