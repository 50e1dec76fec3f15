"""The report of eval runs: one self-contained HTML file, and a picture of its main curve.

    write_report(["runs/miniature/eval"], "report.html")

Every number is measured in the given runs and stands with its interval and its n; the paper's numbers are labelled as
the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence

from s1ray.evaluation.arm_result import account
from s1ray.evaluation.config import EvalConfig
from s1ray.evaluation.loading import load_all_results
from s1ray.evaluation.published import published
from s1ray.evaluation.report.costs import arm_costs, money
from s1ray.evaluation.report.groups import group_of, overview_of
from s1ray.evaluation.report.page import browser, environment
from s1ray.evaluation.report.traces import pack_traces
from s1ray.evaluation.results import EvalResults
from s1ray.storage import AnyPath, Location, location, write_text
from s1ray.targets import check_page


def write_report(run_dirs: Sequence[AnyPath], out_html: AnyPath) -> Location:
    """Write the report of finished eval runs, and next to it the main curve as PNG and SVG, in two views.

    The curve's files are named after the report: report.html gets report.accuracy.png and .svg (against thinking
    tokens), and report.accuracy-total.png and .svg (against the tokens of thinking and answer).
    With several benchmarks each has its own curves: report.aime24.accuracy.png, and so on. Where no arm's thinking
    tokens are known there is no curve against them.

    Args:
        run_dirs: run folders of `s1ray eval`, on one or several benchmarks.
        out_html: the file to write.

    Returns:
        The report's path.

    Raises:
        RunError: no folder was given, one holds no finished eval run, the runs do not fit together, or the report
            cannot be written there.
        InputError: the page would take the place of another file of a run, or its name does not end in .html.
    """
    from s1ray.evaluation import plots

    out_html = location(out_html)
    check_page(out_html, run_dirs)
    measured = load_all_results(run_dirs)
    write_text(out_html, _render(measured))
    for results in measured:
        about = f".{results.benchmark}" if len(measured) > 1 else ""
        curves = {
            f"{about}.accuracy": plots.accuracy_curve(results),
            f"{about}.accuracy-total": plots.accuracy_curve(results, tokens="total"),
        }
        for name, curve in curves.items():
            if curve is None:
                continue
            for kind in (".png", ".svg"):
                plots.save(curve, out_html.with_suffix(name + kind))
    return out_html


def _render(measured: list[EvalResults]) -> str:
    from s1ray.config import to_yaml

    traces = pack_traces(measured)
    arms = [result for results in measured for result in results.arms]
    runs = {
        manifest["digest"]: (manifest, config)
        for r in measured
        for manifest, config in zip(r.manifests, r.configs, strict=True)
    }
    configs = [config for _, config in runs.values()]
    models = list(dict.fromkeys(result.model for result in arms))
    several = len(measured) > 1
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            **browser(traces),
            published=published(),
            costs=arm_costs(measured),
            title=f"Test-time scaling: {' and '.join(models)}",
            groups=[
                group_of(results, f"-{i}" if several else "", traces) for i, results in enumerate(measured, start=1)
            ],
            overview=overview_of(measured) if several else None,
            models=models,
            arms=arms,
            account=account(arms),
            configs=[to_yaml(config) for config in configs],
            samplings=[config.sampling for config in configs],
            temperatures=_temperatures(configs),
            manifests=[manifest for manifest, _ in runs.values()],
            money=[sentence for manifest, _ in runs.values() for sentence in money(manifest)],
            recounted=list(
                dict.fromkeys(m.label for config in configs for m in config.models if m.weights is not None)
            ),
            errors=sum(result.errors for result in arms),
            unparsable=sum(result.unparsable for result in arms),
            undecided=sum(result.undecided for result in arms),
            graders=sorted({grader for result in arms for grader in result.graders}),
        )
    )


def _temperatures(configs: Sequence[EvalConfig]) -> list[float]:
    """Those that the measured arms drew at, which need not be the run's."""
    return sorted(
        {
            arm.temperature_of(config.sampling)
            for config in configs
            for model in config.models
            for arm in config.arms_of(model)
        }
    )
