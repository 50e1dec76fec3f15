"""Two runs side by side: what was gained and lost, question by question, and what differs between their settings.

write_comparison("runs/before/eval", "runs/after/eval", "comparison.html")
"""

from __future__ import annotations

import dataclasses

from s1ray.evaluation.arm_result import ArmResult, by_question
from s1ray.evaluation.loading import load_all_results
from s1ray.evaluation.report.page import browser, environment
from s1ray.evaluation.report.sides import check_comparable, differences, labelled, pairs
from s1ray.evaluation.report.traces import link, pack_traces
from s1ray.evaluation.results import Comparison, EvalResults, compare
from s1ray.manifests import RunError
from s1ray.schemas import Evaluation
from s1ray.storage import AnyPath, location, real_place, write_text
from s1ray.targets import check_page

LISTED = 200
"""Questions of a list, at most; how many there are more is said."""


@dataclasses.dataclass(frozen=True)
class Changed:
    """A question that one side answers better."""

    question_id: str
    text: str
    before: float
    """Share of right answers."""
    after: float
    link: str
    """To both responses; "": the page does not hold them."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two measurements."""

    comparison: Comparison
    gained: list[Changed]
    lost: list[Changed]


def write_comparison(
    first: AnyPath,
    second: AnyPath,
    out_html: AnyPath,
    *,
    models: tuple[str, str] | None = None,
    arms: tuple[str, str] | None = None,
) -> list[Comparison]:
    """Write the comparison of two finished eval runs, or of two models or arms of one.

    Args:
        first: a run folder of `s1ray eval`.
        second: another, or the same.
        out_html: the file to write.
        models: the label of the first run's model and that of the second's. None: those that both have.
        arms: likewise.

    Returns:
        The comparisons that the page shows.

    Raises:
        RunError: a folder holds no finished eval run, the two cannot be compared, or the page cannot be written there.
        InputError: the page would take the place of another file of a run, or its name does not end in .html.
    """
    out_html = location(out_html)
    check_page(out_html, (first, second))
    named = any(each is not None and each[0] != each[1] for each in (models, arms))
    if not named and real_place(first) == real_place(second):
        raise RunError("the two runs are the same; name two models with --models, or two arms with --arms")
    matched = _matched(load_all_results([first]), load_all_results([second]))
    chosen = [_chosen(*sides, models, arms) for sides in matched]
    write_text(out_html, _render(matched, chosen, (str(first), str(second))))
    return [compare(*pair) for each in chosen for pair in each]


def _matched(first: list[EvalResults], second: list[EvalResults]) -> list[tuple[EvalResults, EvalResults]]:
    by_name = {results.benchmark: results for results in second}
    matched = [(results, by_name[results.benchmark]) for results in first if results.benchmark in by_name]
    if not matched and len(first) == len(second) == 1:
        matched = [(first[0], second[0])]
    if not matched:
        names = " and ".join(", ".join(results.benchmark for results in side) for side in (first, second))
        raise RunError(f"not comparable: the runs have no benchmark in common ({names})")
    for sides in matched:
        check_comparable(*sides)
    return [
        (labelled(before, "A"), labelled(dataclasses.replace(after, benchmark=before.benchmark), "B"))
        for before, after in matched
    ]


def _chosen(
    first: EvalResults, second: EvalResults, models: tuple[str, str] | None, arms: tuple[str, str] | None
) -> list[tuple[ArmResult, ArmResult]]:
    """The pairs, looked up by the labels that the runs have."""
    plain = [
        dataclasses.replace(
            side, arms=[dataclasses.replace(result, model=result.model[len("A: ") :]) for result in side.arms]
        )
        for side in (first, second)
    ]
    found = []
    for before, after in pairs(plain[0], plain[1], models, arms):
        sides = first.find(f"A: {before.model}", before.arm), second.find(f"B: {after.model}", after.arm)
        assert sides[0] is not None
        assert sides[1] is not None
        found.append((sides[0], sides[1]))
    return found


def _render(
    matched: list[tuple[EvalResults, EvalResults]],
    chosen: list[list[tuple[ArmResult, ArmResult]]],
    names: tuple[str, str],
) -> str:
    joined = [
        dataclasses.replace(
            first,
            arms=_once([before for before, _ in found] + [after for _, after in found]),
            configs=[*first.configs, *second.configs],
            tables=first.tables | second.tables,
            questions=first.questions | second.questions,
            private_text=first.private_text or second.private_text,
        )
        for (first, second), found in zip(matched, chosen, strict=True)
    ]
    traces = pack_traces(joined)
    held = traces.ids if traces is not None else {}
    groups = [
        {
            "results": results,
            "n": len(results.arms[0].questions),
            "pairs": [_pair(results, *pair, held.get(results.benchmark, set())) for pair in found],
        }
        for results, found in zip(joined, chosen, strict=True)
    ]
    manifests = matched[0][0].manifests[0], matched[0][1].manifests[0]
    return (
        environment()
        .get_template("compare.html.j2")
        .render(
            title="Two evaluations compared",
            names=names,
            groups=groups,
            manifests=manifests,
            differences=differences(*manifests),
            listed=LISTED,
            **browser(traces),
        )
    )


def _pair(results: EvalResults, before: ArmResult, after: ArmResult, held: set[str]) -> Pair:
    rows = [by_question(result.rows, lambda row: row) for result in (before, after)]
    changed = [
        Changed(
            question,
            "" if results.private_text else results.questions.get(question, ""),
            old,
            new,
            _link(results.benchmark, rows[0][question], rows[1][question], new > old) if question in held else "",
        )
        for question in sorted(before.correct.keys() & after.correct.keys())
        if (old := _share(before, question)) != (new := _share(after, question))
    ]
    changed.sort(key=lambda each: (-abs(each.after - each.before), each.question_id))
    return Pair(
        compare(before, after),
        [each for each in changed if each.after > each.before],
        [each for each in changed if each.after < each.before],
    )


def _once(results: list[ArmResult]) -> list[ArmResult]:
    return list({(result.model, result.arm): result for result in results}.values())


def _share(result: ArmResult, question: str) -> float:
    verdicts = result.correct[question]
    return sum(verdicts) / len(verdicts)


def _link(benchmark: str, first: list[Evaluation], second: list[Evaluation], better: bool) -> str:
    """To a response of each side: one right and one wrong, where there are such."""
    before = next((row for row in first if row.correct is not better), first[0])
    after = next((row for row in second if row.correct is better), second[0])
    return link(benchmark, before, after)
