"""What the report says of each benchmark, and of several together."""

from __future__ import annotations

from s1ray.errors import InputError
from s1ray.evaluation.arm_result import ArmResult, account
from s1ray.evaluation.breakdowns import domains, repeated
from s1ray.evaluation.head_to_head import head_to_head
from s1ray.evaluation.method_table import MethodRow, method_row
from s1ray.evaluation.report.formats import points, points_interval
from s1ray.evaluation.report.traces import Traces
from s1ray.evaluation.results import Comparison, EvalResults, Method
from s1ray.evaluation.samples import choose_samples
from s1ray.pages import percent


def group_of(results: EvalResults, suffix: str, traces: Traces | None) -> dict[str, object]:
    """What the page says of one benchmark.

    Args:
        results: what was measured on it.
        suffix: keeps its ids apart from those of the others.
        traces: the responses that the page holds.
    """
    from s1ray.evaluation import plots
    from s1ray.evaluation.sample_plots import samples_curve

    waits = plots.waits_plot(results, plots.THEMED)
    curve, total = (plots.accuracy_curve(results, plots.THEMED, tokens=axis) for axis in ("thinking", "total"))
    between_models, between_waits = results.between_models(), results.between_waits()
    return {
        "results": results,
        "suffix": suffix,
        "n": len(results.arms[0].questions),
        "account": account(results.arms),
        "samples_a_question": max(result.samples for result in results.arms),
        "headlines": _headlines(results, between_models, between_waits),
        "unknown": any(result.unknown for result in results.arms),
        "accuracy_svg": plots.to_svg(curve, f"plot-accuracy{suffix}") if curve else None,
        "total_svg": plots.to_svg(total, f"plot-total{suffix}") if total else None,
        "waits_svg": plots.to_svg(waits, f"plot-waits{suffix}") if waits else None,
        "methods": (methods := results.methods()),
        "slopes": {(method.model, method.series): _slope(method) for method in methods},
        "equal_tokens": results.at_equal_tokens(),
        "several_calls": any(row.calls > 1 for result in results.arms for row in result.rows),
        "between_models": between_models,
        "between_waits": between_waits,
        "domains": domains(results),
        "repeated": (several := repeated(results)),
        "samples_svg": plots.to_svg(drawn, f"plot-samples{suffix}")
        if (drawn := samples_curve(several, plots.THEMED))
        else None,
        "best": {model: max(results.of(model), key=lambda arm: arm.accuracy.value) for model in results.models},
        "head_to_head": head_to_head(results.arms),
        "judged": sum(result.judged for result in results.arms),
        "samples": choose_samples(results, traces.ids[results.benchmark])
        if traces and not results.private_text
        else [],
        "ends": sorted(
            {reason for r in results.arms for reason in r.ends}, key=lambda reason: (reason != "own", reason)
        ),
        "finishes": sorted({reason for r in results.arms for reason in r.finishes}, reverse=True),
        "errors": sum(result.errors for result in results.arms),
        "undecided": sum(result.undecided for result in results.arms),
    }


def _slope(method: Method) -> MethodRow | None:
    """Scaling with its interval; None where the method's arms share no question that all of them decided."""
    try:
        return method_row(method)
    except InputError:
        return None


def overview_of(measured: list[EvalResults]) -> list[tuple[str, str, list[ArmResult | None]]]:
    """Model, arm, and its measurement on each benchmark."""
    keys = dict.fromkeys((result.model, result.arm) for results in measured for result in results.arms)
    return [(model, arm, [results.find(model, arm) for results in measured]) for model, arm in keys]


def _headlines(
    results: EvalResults, between_models: list[Comparison], between_waits: list[Comparison]
) -> list[dict[str, str]]:
    """The few numbers that most readers open the report for."""
    tiles = []
    last = results.models[-1]
    for comparison in results.between_extremes():
        if comparison.after.model == last:
            tiles.append(_tile(f"{last}: {comparison.before.arm} to {comparison.after.arm}", comparison))
    maxima = [c for c in between_models if c.after.model == last and not c.after.setting.budget.waits]
    if maxima:
        widest = max(maxima, key=lambda c: c.after.thinking_tokens.value)
        tiles.append(_tile(f"{results.models[0]} to {last}, both at {widest.after.arm}", widest))
    waits = [c for c in between_waits if c.after.model == last]
    if waits:
        tiles.append(_tile(f"{last}: {waits[-1].after.setting.budget.waits} waits against none", waits[-1]))
    if results.controlled:
        control = {
            "label": "Control: thinking within its limits",
            "value": f"{percent(results.obeying / results.controlled)} %",
            "detail": f"{results.obeying:,} of {results.controlled:,} samples, {_counted_by(results)}",
        }
        tiles.append(control)
    return tiles


def _tile(label: str, comparison: Comparison) -> dict[str, str]:
    difference = comparison.difference
    before, after = percent(comparison.before.accuracy.value), percent(comparison.after.accuracy.value)
    return {
        "label": label,
        "value": f"{points(difference.value)} points",
        "detail": f"{before} % to {after} %; interval {points_interval(difference)}, n = {difference.n}",
    }


def _counted_by(results: EvalResults) -> str:
    """Who has counted the thinking tokens."""
    models = [model for config in results.configs for model in config.models]
    recounted = [model.weights is not None for model in models]
    if all(recounted):
        return "counted from token ids by the evaluation"
    return (
        "counted by the evaluation for some models, else by the server" if any(recounted) else "counted by the server"
    )
