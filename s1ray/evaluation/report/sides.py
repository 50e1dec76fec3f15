"""Two runs to be compared: which of their measurements belong together, and what differs between their settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from s1ray.evaluation.arm_result import ArmResult
from s1ray.evaluation.conditions import changed_golds, golds_of
from s1ray.evaluation.results import EvalResults
from s1ray.manifests import Manifest, RunError

IGNORED = ("output",)
"""Settings that change nothing about what is measured."""


def labelled(results: EvalResults, side: str) -> EvalResults:
    """The results with "A: " or the like before each model's label, so that two runs fit on one page."""

    def renamed(label: str) -> str:
        return f"{side}: {label}"

    arms = [
        dataclasses.replace(
            result,
            model=renamed(result.model),
            rows=[dataclasses.replace(row, model=renamed(row.model)) for row in result.rows],
        )
        for result in results.arms
    ]
    configs = [
        config.model_copy(
            update={"models": [model.model_copy(update={"label": renamed(model.label)}) for model in config.models]}
        )
        for config in results.configs
    ]
    tables = {(renamed(model), arm): table for (model, arm), table in results.tables.items()}
    return dataclasses.replace(results, arms=arms, configs=configs, tables=tables)


def pairs(
    first: EvalResults,
    second: EvalResults,
    models: tuple[str, str] | None = None,
    arms: tuple[str, str] | None = None,
) -> list[tuple[ArmResult, ArmResult]]:
    """The measurements that belong together: of the models and arms that are named, else of those with equal labels; of
    runs with one model each also where the labels differ.

    Raises:
        RunError: there are none, or two share no question that both decided.
    """
    chosen = [
        (before, after)
        for model in _both("model", first.models, second.models, models)
        for arm in _both("arm", _arms(first), _arms(second), arms)
        if (before := first.find(model[0], arm[0])) is not None and (after := second.find(model[1], arm[1])) is not None
    ]
    if not chosen:
        raise RunError(f"{first.benchmark}: no model was measured with an arm of both runs; nothing to compare")
    for before, after in chosen:
        if not before.correct.keys() & after.correct.keys():
            raise RunError(
                f"{first.benchmark}: no question was decided by both {before.model!r} with {before.arm!r} and "
                f"{after.model!r} with {after.arm!r}; name others with --models and --arms"
            )
    return chosen


def check_comparable(first: EvalResults, second: EvalResults) -> None:
    """Refuse what no difference can be taken of.

    Raises:
        RunError: other questions, other reference answers or another grader.
    """
    where = f"{first.benchmark}: not comparable: "
    asked = [results.arms[0].questions for results in (first, second)]
    if asked[0] != asked[1]:
        shared = len(asked[0] & asked[1])
        raise RunError(
            f"{where}the runs asked other questions ({len(asked[0])} and {len(asked[1])}, {shared} of them shared); "
            "measure both on the same"
        )
    golds = [golds_of(results.arms[0].rows) for results in (first, second)]
    if changed := changed_golds(*golds):
        raise RunError(
            f"{where}{len(changed)} question(s) have another reference answer, {changed[0]} first: "
            f"{golds[0][changed[0]]!r} and {golds[1][changed[0]]!r}; grade both runs with the same"
        )
    graders = [sorted({config.grader for config in results.configs}) for results in (first, second)]
    if graders[0] != graders[1]:
        raise RunError(
            f"{where}the first was graded by {', '.join(graders[0])}, the second by {', '.join(graders[1])}; "
            "grade both by the same"
        )


def differences(first: Manifest, second: Manifest) -> list[tuple[str, str, str]]:
    """Settings, versions and inputs in which two runs differ: name, value of the first, value of the second."""
    sides = [dict(_flat(_about(manifest))) for manifest in (first, second)]
    names = sorted(sides[0].keys() | sides[1].keys())
    values = [(name, sides[0].get(name, "–"), sides[1].get(name, "–")) for name in names]
    return [each for each in values if each[1] != each[2]]


def _about(manifest: Manifest) -> dict[str, object]:
    config = {name: value for name, value in manifest["config"].items() if name not in IGNORED}
    inputs = {name: entry.get("digest") for name, entry in manifest.get("inputs", {}).items()}
    return {"config": config, "versions": manifest.get("versions", {}), "inputs": inputs, "seed": manifest.get("seed")}


def _flat(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _flat(each, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        for number, each in enumerate(value):
            label = each.get("label") or each.get("name") if isinstance(each, Mapping) else None
            yield from _flat(each, f"{name}[{label or number}]")
    else:
        yield name, str(value)


def _arms(results: EvalResults) -> list[str]:
    return list(dict.fromkeys(result.arm for result in results.arms))


def _both(
    what: str, first: Sequence[str], second: Sequence[str], named: tuple[str, str] | None
) -> list[tuple[str, str]]:
    if named is not None:
        for wanted, known in zip(named, (first, second), strict=True):
            if wanted not in known:
                raise RunError(f"there is no {what} {wanted!r}; there are {', '.join(map(repr, known))}")
        return [named]
    shared = [(label, label) for label in first if label in second]
    if not shared and len(first) == len(second) == 1:
        return [(first[0], second[0])]
    if not shared:
        raise RunError(
            f"the runs have no {what} in common ({', '.join(map(repr, first))} and {', '.join(map(repr, second))}); "
            f"name two with --{what}s"
        )
    return shared
