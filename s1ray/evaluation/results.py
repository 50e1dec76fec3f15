"""What eval runs measured, summed up: the series of arms, s1's metrics for each, and paired comparisons.

The report, its plots and the terminal table all read these; nothing is computed twice in two ways.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from s1ray.errors import InputError
from s1ray.evaluation import metrics
from s1ray.evaluation.arm_result import ArmResult
from s1ray.evaluation.config import EvalConfig
from s1ray.evaluation.equal_tokens import EqualTokens, compare_series
from s1ray.evaluation.metrics import Estimate, McNemar
from s1ray.evaluation.strategies.base import Strategy
from s1ray.evaluation.strategies.class_conditional import ClassConditional
from s1ray.evaluation.strategies.conditional import Conditional
from s1ray.evaluation.tasks import ArmKey
from s1ray.grading.interval import LEVEL
from s1ray.manifests import Manifest

if TYPE_CHECKING:
    import pyarrow as pa


@dataclasses.dataclass(frozen=True)
class Method:
    """A method of test-time scaling on one model: s1's three numbers over a series of arms."""

    model: str
    series: str
    arms: list[ArmResult]
    """Their tokens are `ArmResult.method_tokens`."""
    control_runs: float | None
    """Share of runs whose mean thinking tokens are within the limits: the paper's Control. Of class-conditional arms:
    share of those that think less ("short") or more ("long") than the same model without the instruction. Arms without
    a limit are left out. None: there is no other, nothing to compare with was measured, or the thinking is unknown."""
    control_samples: float | None
    """Share of single samples within the limits. None: no arm has one, the arms are class-conditional, or unknown."""
    samples: int
    """Answered samples of all arms."""
    scaling: float | None
    """Percentage points per doubling of the thinking tokens; None below two different amounts, or unknown ones."""
    scaling_raw: float | None
    """Percentage points per thinking token."""
    performance: float
    """Best accuracy of the series."""

    @property
    def kept(self) -> bool:
        """Whether the tokens are those of the kept responses alone."""
        return any(result.setting.kept_limits is not None for result in self.arms)

    @property
    def unknown(self) -> bool:
        """Whether there are thinking tokens that nobody knows."""
        return any(result.unknown for result in self.arms)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two measurements on the same questions."""

    before: ArmResult
    after: ArmResult
    difference: Estimate
    """Accuracy of `after` minus `before`, paired by question."""
    test: McNemar | None
    """None: a question has several samples."""
    p: float
    """Of that test; where there is none, of the sign-flip test on the questions' differences."""

    @property
    def direction(self) -> Literal["up", "down", ""]:
        """Where `after` is better or worse beyond chance: the interval leaves out zero, and the test agrees."""
        if self.p >= 1 - LEVEL:
            return ""
        return "up" if self.difference.low > 0 else "down" if self.difference.high < 0 else ""

    @property
    def sentence(self) -> str:
        """The outcome, in one line."""
        found, test = self.difference, self.test
        changes = f"; {test.gained} gained, {test.lost} lost" if test else ""
        sides = f"{self.before.model} {self.before.arm} → {self.after.model} {self.after.arm}"
        return (
            f"{sides}: {100 * found.value:+.1f} points ({100 * found.low:+.1f} to {100 * found.high:+.1f}), "
            f"n = {found.n}{changes}, p = {self.p:.2g}"
        )


@dataclasses.dataclass(frozen=True)
class EqualTokensComparison:
    """Two series of one model at equal tokens."""

    model: str
    first: str
    second: str
    result: EqualTokens | None
    """None: they cannot be compared."""
    problem: str = ""
    """Why not."""

    @property
    def sentence(self) -> str:
        """The outcome, in one line."""
        head = f"{self.model}: {self.second} against {self.first} at equal tokens"
        if self.result is None:
            return f"{head}: not comparable: {self.problem}"
        result, found = self.result, self.result.difference
        better = {"first": self.first, "second": self.second, "": "neither"}[result.winner]
        return (
            f"{head} ({result.low:,.0f} to {result.high:,.0f}, n = {found.n}): {100 * found.value:+.1f} points "
            f"({100 * found.low:+.1f} to {100 * found.high:+.1f}), p = {result.p:.2g}; better: {better}"
        )


@dataclasses.dataclass(frozen=True)
class EvalResults:
    """Everything that one or several eval runs measured on one benchmark."""

    arms: list[ArmResult]
    manifests: list[Manifest]
    configs: list[EvalConfig]
    tables: dict[ArmKey, pa.Table] = dataclasses.field(repr=False)
    """(model, arm) -> its Evaluation rows with texts, by id."""
    benchmark: str = ""
    """Its name."""
    private_text: bool = False
    """Its questions are not to be published, nor responses that may quote them."""
    questions: dict[str, str] = dataclasses.field(default_factory=dict, repr=False)
    """Question id -> the text that was asked, where the run folders have it."""

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
        """The model's arms of budget forcing that only bound the thinking, by growing maximum (no bound last)."""
        plain = [r for r in self._forced(model) if not r.setting.budget.waits and not r.setting.budget.min_tokens]
        return sorted(plain, key=lambda result: _bound(result.setting))

    def wait_series(self, model: str) -> list[list[ArmResult]]:
        """Series of arms that differ in their waits alone, from no wait up; only those with a wait somewhere."""
        groups: dict[tuple[object, ...], list[ArmResult]] = defaultdict(list)
        for result in self._forced(model):
            if result.setting.budget.waits:
                groups[(*result.setting.limits, *result.setting.budget.wait_texts)].append(result)
        series = []
        for group in groups.values():
            start = [
                result
                for result in self._forced(model)
                if not result.setting.budget.waits and result.setting.limits == group[0].setting.limits
            ]
            series.append(start[:1] + sorted(group, key=lambda result: result.setting.budget.waits))
        return series

    def other_series(self, model: str) -> dict[str, list[ArmResult]]:
        """Strategy -> its arms, for each strategy other than budget forcing, by growing thinking. Conditional control
        with forcing is a series apart from that without.
        """
        series: dict[str, list[ArmResult]] = defaultdict(list)
        for result in self.of(model):
            if not result.is_forced:
                series[_series(result.setting)].append(result)
        return {name: sorted(arms, key=_method_mean) for name, arms in series.items()}

    def methods(self) -> list[Method]:
        """s1's metrics for each model: over its maxima, over all arms of budget forcing where those are more, and over
        each other strategy.
        """
        found = []
        for model in self.models:
            maxima, forced = self.maxima(model), self._forced(model)
            if maxima:
                found.append(_method(model, "growing maximum", maxima))
            if len(forced) > len(maxima):
                found.append(_method(model, "all of budget forcing", forced))
            for name, arms in self.other_series(model).items():
                method = _method(model, name, arms)
                if any(isinstance(result.setting, ClassConditional) for result in arms):
                    method = dataclasses.replace(method, control_runs=self._class_control(arms), control_samples=None)
                found.append(method)
        return found

    def _forced(self, model: str) -> list[ArmResult]:
        return [result for result in self.of(model) if result.is_forced]

    def _class_control(self, arms: list[ArmResult]) -> float | None:
        """Control of class-conditional arms: each against the model's arm with the same maximum and no instruction,
        where the thinking of both is known.
        """
        obeyed = []
        for result in arms:
            assert isinstance(result.setting, ClassConditional)
            default = next((r for r in self.maxima(result.model) if r.setting.limits == result.setting.limits), None)
            if default is not None and not (result.unknown or default.unknown):
                means = result.thinking_tokens.value, default.thinking_tokens.value
                obeyed.append(result.setting.obeyed(*means))
        told = [each for each in obeyed if each is not None]
        return sum(told) / len(told) if told else None

    def at_equal_tokens(self) -> list[EqualTokensComparison]:
        """For each model, every series of arms that ask several times against all of budget forcing: parallel against
        sequential test-time scaling.
        """
        return [
            _at_equal_tokens(model, "budget forcing", name, self._forced(model), arms)
            for model in self.models
            if self._forced(model)
            for name, arms in self.other_series(model).items()
            if any(result.setting.requests > 1 for result in arms)
        ]

    def between_models(self) -> list[Comparison]:
        """The first model against each other one, at every arm that both were measured with."""
        first, *others = self.models
        return _comparisons(
            (before, after)
            for other in others
            for before in self.of(first)
            if (after := self.find(other, before.arm)) is not None
        )

    def between_waits(self) -> list[Comparison]:
        """Each number of waits against none, same model and limits."""
        return _comparisons(
            (series[0], result)
            for model in self.models
            for series in self.wait_series(model)
            if not series[0].setting.budget.waits
            for result in series[1:]
        )

    def between_extremes(self) -> list[Comparison]:
        """For each model, its smallest maximum against its largest."""
        return _comparisons((arms[0], arms[-1]) for model in self.models if len(arms := self.maxima(model)) > 1)

    @property
    def controlled(self) -> int:
        """Answered samples, of known thinking, of the arms that hold it to a limit: what forcing is judged by."""
        return sum(len(result.answered) - result.unknown for result in self._held)

    @property
    def obeying(self) -> int:
        """Those of them whose thinking is within their arm's limits."""
        return sum(result.obeying for result in self._held)

    @property
    def _held(self) -> list[ArmResult]:
        return [result for result in self.arms if result.is_limited and not _only_asks(result.setting)]

    @property
    def warnings(self) -> list[str]:
        """Those of all arms."""
        return [warning for result in self.arms for warning in result.warnings]

    @property
    def domains(self) -> list[str | None]:
        """Domains of the questions, by name; None (no domain) last."""
        seen = {row.domain for result in self.arms for row in result.rows}
        return sorted(seen, key=lambda domain: (domain is None, domain or ""))


def compare(before: ArmResult, after: ArmResult) -> Comparison:
    """Compare two measurements on the questions that both decided.

    Raises:
        ValueError: there is none.
    """
    sides = before.correct, after.correct
    difference = metrics.paired_difference(*sides, seed=before.seed)
    test = metrics.mcnemar(*sides)
    p = metrics.sign_flip(metrics.question_differences(*sides), seed=before.seed) if test is None else test.p
    return Comparison(before, after, difference, test, p)


def _comparisons(pairs: Iterable[tuple[ArmResult, ArmResult]]) -> list[Comparison]:
    return [compare(*pair) for pair in pairs if pair[0].correct.keys() & pair[1].correct.keys()]


def _at_equal_tokens(
    model: str, first: str, second: str, before: list[ArmResult], after: list[ArmResult]
) -> EqualTokensComparison:
    try:
        return EqualTokensComparison(model, first, second, compare_series(before, after))
    except InputError as error:
        return EqualTokensComparison(model, first, second, None, str(error))


def _method(model: str, series: str, arms: list[ArmResult]) -> Method:
    tokens = [_method_mean(result) for result in arms]
    accuracies = [result.accuracy.value for result in arms]
    limited = [result for result in arms if result.is_limited]
    limits = [result.method_limits for result in limited]
    within = [
        metrics.within(amount, *result.method_limits)
        for result in limited
        for amounts in result.method_tokens.values()
        for amount in amounts
    ]
    method = Method(
        model=model,
        series=series,
        arms=arms,
        control_runs=metrics.control([_method_mean(result) for result in limited], limits) if limited else None,
        control_samples=sum(within) / len(within) if within else None,
        samples=sum(len(result.answered) for result in arms),
        scaling=metrics.scaling(tokens, accuracies),
        scaling_raw=metrics.scaling(tokens, accuracies, "raw"),
        performance=metrics.performance(accuracies),
    )
    if not method.unknown:
        return method
    return dataclasses.replace(method, control_runs=None, control_samples=None, scaling=None, scaling_raw=None)


def _method_mean(result: ArmResult) -> float:
    return metrics.mean_estimate(result.method_tokens).value


def _only_asks(setting: Strategy) -> bool:
    return isinstance(setting, Conditional) and setting.forced_tokens is None


def _series(setting: Strategy) -> str:
    forced = isinstance(setting, Conditional) and not _only_asks(setting)
    return setting.strategy.rpartition(":")[2] + (", forced" if forced else "")


def _bound(setting: Strategy) -> float:
    most = setting.limits[1]
    return float("inf") if most is None else most
