"""The report of eval runs: one self-contained HTML file, and a picture of its main curve.

    write_report(["runs/miniature/eval"], "report.html")

Every number is measured in the given runs and stands with its interval and its n; the paper's numbers are labelled as
the paper's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from s1ray.evaluation.arm_result import ArmResult, account
from s1ray.evaluation.breakdowns import domains, repeated
from s1ray.evaluation.loading import load_all_results
from s1ray.evaluation.metrics import Estimate
from s1ray.evaluation.results import Comparison, EvalResults
from s1ray.pages import page_environment, percent
from s1ray.runs import RunError, check_folder
from s1ray.storage import write_text
from s1ray.targets import check_target


def write_report(run_dirs: Sequence[str | os.PathLike[str]], out_html: str | os.PathLike[str]) -> Path:
    """Write the report of finished eval runs, and next to it the main curve as PNG and SVG, in two views.

    The curve's files are named after the report: report.html gets report.accuracy.png and .svg (against thinking
    tokens), and report.accuracy-total.png and .svg (against the tokens of thinking and answer).
    With several benchmarks each has its own curves: report.aime24.accuracy.png, and so on.

    Args:
        run_dirs: run folders of `s1ray eval`, on one or several benchmarks.
        out_html: the file to write.

    Returns:
        The report's path.

    Raises:
        RunError: no folder was given, one holds no finished eval run, the runs do not fit together, or the report
            cannot be written there.
    """
    from s1ray.evaluation import plots

    out_html = Path(out_html)
    if out_html.is_dir():
        raise RunError(f"{out_html}: is a folder; give the HTML file to write")
    check_folder(out_html.absolute().parent)
    for run in run_dirs:
        check_target(out_html, [path for path in Path(run).glob("*") if path.suffix != out_html.suffix], in_runs=True)
    measured = load_all_results(run_dirs)
    write_text(out_html, _render(measured))
    for results in measured:
        about = f".{results.benchmark}" if len(measured) > 1 else ""
        curves = {
            f"{about}.accuracy": plots.accuracy_curve(results),
            f"{about}.accuracy-total": plots.accuracy_curve(results, tokens="total"),
        }
        for name, curve in curves.items():
            for kind in (".png", ".svg"):
                plots.save(curve, out_html.with_suffix(name + kind))
    return out_html


def interval(estimate: Estimate) -> str:
    """A share's interval in percent."""
    return f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f}"


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * value:+.1f}".replace("-", "−")


def points_interval(estimate: Estimate) -> str:
    """A difference's interval in percentage points."""
    return f"{points(estimate.low)} to {points(estimate.high)}"


def _render(measured: list[EvalResults]) -> str:
    from s1ray.config import to_yaml

    environment = page_environment("s1ray.evaluation")
    environment.filters |= {
        "interval": interval,
        "points": points,
        "points_interval": points_interval,
    }
    arms = [result for results in measured for result in results.arms]
    runs = {
        manifest["digest"]: (manifest, config)
        for r in measured
        for manifest, config in zip(r.manifests, r.configs, strict=True)
    }
    configs = [config for _, config in runs.values()]
    models = list(dict.fromkeys(result.model for result in arms))
    several = len(measured) > 1
    return environment.get_template("report.html.j2").render(
        title=f"Test-time scaling: {' and '.join(models)}",
        groups=[_group(results, f"-{i}" if several else "") for i, results in enumerate(measured, start=1)],
        overview=_overview(measured) if several else None,
        models=models,
        arms=arms,
        account=account(arms),
        configs=[to_yaml(config) for config in configs],
        samplings=[config.sampling for config in configs],
        manifests=[manifest for manifest, _ in runs.values()],
        recounted=list(dict.fromkeys(m.label for config in configs for m in config.models if m.weights is not None)),
        errors=sum(result.errors for result in arms),
        unparsable=sum(result.unparsable for result in arms),
        undecided=sum(result.undecided for result in arms),
        graders=sorted({grader for result in arms for grader in result.graders}),
    )


def _group(results: EvalResults, suffix: str) -> dict[str, object]:
    """What the page says of one benchmark; `suffix` keeps its ids apart from those of the others."""
    from s1ray.evaluation import plots
    from s1ray.evaluation.samples import choose_samples

    waits = plots.waits_plot(results, plots.THEMED)
    between_models, between_waits = results.between_models(), results.between_waits()
    return {
        "results": results,
        "suffix": suffix,
        "n": len(results.arms[0].questions),
        "account": account(results.arms),
        "samples_a_question": max(result.samples for result in results.arms),
        "headlines": _headlines(results, between_models, between_waits),
        "accuracy_svg": plots.to_svg(plots.accuracy_curve(results, plots.THEMED), f"plot-accuracy{suffix}"),
        "total_svg": plots.to_svg(plots.accuracy_curve(results, plots.THEMED, tokens="total"), f"plot-total{suffix}"),
        "waits_svg": plots.to_svg(waits, f"plot-waits{suffix}") if waits else None,
        "methods": results.methods(),
        "equal_tokens": results.at_equal_tokens(),
        "several_calls": any(row.calls > 1 for result in results.arms for row in result.rows),
        "between_models": between_models,
        "between_waits": between_waits,
        "domains": domains(results),
        "repeated": repeated(results),
        "samples": [] if results.private_text else choose_samples(results, results.questions),
        "ends": sorted(
            {reason for r in results.arms for reason in r.ends}, key=lambda reason: (reason != "own", reason)
        ),
        "finishes": sorted({reason for r in results.arms for reason in r.finishes}, reverse=True),
        "errors": sum(result.errors for result in results.arms),
        "undecided": sum(result.undecided for result in results.arms),
    }


def _overview(measured: list[EvalResults]) -> list[tuple[str, str, list[ArmResult | None]]]:
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
            "detail": f"{results.obeying:,} of {results.controlled:,} samples, counted from token ids",
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
