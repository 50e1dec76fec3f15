"""Reads the results of eval runs from their folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from s1ray.benchmarks import Benchmark, find_benchmark, is_file
from s1ray.config import ConfigError, validate_config
from s1ray.errors import InputError
from s1ray.evaluation.arm_result import ArmResult, raw_markers
from s1ray.evaluation.benchmarks import KeptQuestion
from s1ray.evaluation.conditions import Conditions
from s1ray.evaluation.config import EvalConfig, ServedModel
from s1ray.evaluation.results import EvalResults
from s1ray.evaluation.strategies.base import Strategy
from s1ray.evaluation.tasks import ArmKey, stored_row
from s1ray.manifests import Manifest, RunError, read_manifest
from s1ray.reading.files import label_of
from s1ray.schemas import Evaluation, read_table
from s1ray.storage import AnyPath, Location, location

if TYPE_CHECKING:
    import pyarrow as pa

STAGE = "eval"
RESULTS = "evaluations.parquet"
TIMINGS = "timings.parquet"
"""How long each answer took, in a run's folder."""
QUESTIONS = "questions.parquet"
"""The questions that a run asked, in its folder."""
TEXTS = ("thinking", "answer")
"""The heavy columns: they stay in Arrow until a sample is shown."""


def load_results(run_dirs: Sequence[AnyPath], benchmark: str | None = None) -> EvalResults:
    """Read finished eval runs, and of them one benchmark.

    Args:
        run_dirs: run folders of `s1ray eval`.
        benchmark: its name. None: the only one.

    Raises:
        RunError: a folder holds no finished eval run, two runs disagree about an arm, no folder was given, or the runs
            have no such benchmark, or several.
    """
    found = load_all_results(run_dirs)
    chosen = [results for results in found if benchmark in (None, results.benchmark)]
    if len(chosen) == 1:
        return chosen[0]
    names = ", ".join(results.benchmark for results in found)
    wanted = "one benchmark is asked for" if benchmark is None else f"there is no benchmark {benchmark!r}"
    raise RunError(f"{', '.join(str(each) for each in run_dirs)}: {wanted}; the runs have {names}")


def load_all_results(run_dirs: Sequence[AnyPath]) -> list[EvalResults]:
    """Read finished eval runs, benchmark by benchmark.

    Several runs that asked one benchmark's questions, or the same questions from files of different names, belong
    together.

    Raises:
        RunError: a folder holds no finished eval run, two runs disagree about an arm, or no folder was given.
    """
    if not run_dirs:
        raise RunError("no run to report; give the run folders of `s1ray eval`")
    measured: dict[str, _Measured] = {}
    for run_dir in map(location, run_dirs):
        manifest, config = _open(run_dir)
        table = read_table(run_dir / RESULTS, Evaluation)
        questions = _questions(run_dir)
        names = table["benchmark"].unique().to_pylist() or [""]
        for name in names:
            own = table if len(names) == 1 else _where(table, benchmark=name)
            label = name or _only_name(config)
            definition = definition_of(config, label)
            conditions = Conditions.of(definition, config.grader, _golds(own))
            joined = _joined(measured, label, own, conditions) if len(names) == 1 else label
            group = measured.setdefault(joined, _Measured(joined, run_dir, conditions))
            is_private = definition is not None and definition.private_text
            group.add(run_dir, manifest, config, own, conditions, questions.get(name, {}), is_private=is_private)
    return [group.results() for group in measured.values()]


class _Measured:
    """What runs measured on one benchmark, as it is read.

    Attributes:
        asked: ids of its questions.
    """

    def __init__(self, name: str, first: Location, conditions: Conditions) -> None:
        self._name, self._first, self._conditions = name, first, conditions
        self._arms: list[ArmResult] = []
        self._manifests: list[Manifest] = []
        self._configs: list[EvalConfig] = []
        self._tables: dict[ArmKey, pa.Table] = {}
        self._settings: dict[str, Strategy] = {}
        self._questions: dict[str, str] = {}
        self._private = False
        self.asked: set[str] = set()

    def conflict(self, conditions: Conditions) -> str | None:
        """Why a run under other conditions does not belong here; None: it does."""
        return self._conditions.conflict(conditions, self._first)

    def add(
        self,
        run_dir: Location,
        manifest: Manifest,
        config: EvalConfig,
        table: pa.Table,
        conditions: Conditions,
        questions: Mapping[str, str],
        *,
        is_private: bool,
    ) -> None:
        """Take what a run measured on it."""
        if (conflict := self.conflict(conditions)) is not None:
            raise RunError(f"{run_dir}: {conflict}; report them apart")
        self._private |= is_private
        for model in config.models:
            for setting in config.arms_of(model):
                self._add_arm(run_dir, model, setting, config.seed, table)
        self._manifests.append(manifest)
        self._configs.append(config)
        self._questions |= questions

    def _add_arm(self, run_dir: Location, model: ServedModel, setting: Strategy, seed: int, table: pa.Table) -> None:
        key = (model.label, setting.name)
        if key in self._tables:
            raise RunError(f"{run_dir}: {key[0]!r} with arm {key[1]!r} is in another given run too; drop one")
        if self._settings.setdefault(setting.name, setting) != setting:
            raise RunError(f"{run_dir}: arm {key[1]!r} has other settings than in another given run")
        order = [(column, "ascending") for column in ("question_id", "repeat", "sample")]
        own = _where(table, model=key[0], arm=key[1]).sort_by(order)
        self._tables[key] = own
        if not own.num_rows:
            raise RunError(f"{run_dir / RESULTS}: no row of model {key[0]!r} with arm {key[1]!r}")
        if (different := own.group_by([column for column, _ in order]).aggregate([]).num_rows) < own.num_rows:
            raise RunError(
                f"{run_dir / RESULTS}: {own.num_rows - different} rows of model {key[0]!r} with arm {key[1]!r} are "
                "there more than once; measure it again"
            )
        rows = evaluations(own.drop_columns(list(TEXTS)))
        markers = raw_markers((answer.as_py() for answer in own["answer"]), model.thinking_format)
        result = ArmResult(model.label, setting, rows, seed, markers)
        if not result.answered:
            raise RunError(f"{run_dir}: every request of {key[0]!r} with arm {key[1]!r} failed; nothing to report")
        if not result.correct:
            raise RunError(
                f"{run_dir}: no answer of {key[0]!r} with arm {key[1]!r} could be decided; nothing to report"
            )
        if self._arms and result.questions != self.asked:
            raise RunError(f"{run_dir}: asked other questions than {self._first}; report them apart")
        self.asked = result.questions
        self._arms.append(result)

    def results(self) -> EvalResults:
        """All of it."""
        # Without its definition a private benchmark is known by texts that are not there.
        private = self._private or (bool(self._questions) and not any(self._questions.values()))
        questions = {} if private else self._questions
        return EvalResults(self._arms, self._manifests, self._configs, self._tables, self._name, private, questions)


def _joined(measured: Mapping[str, _Measured], name: str, table: pa.Table, conditions: Conditions) -> str:
    """The name under which a run of one benchmark goes: that of an earlier one with its questions and conditions."""
    if name in measured:
        return name
    asked = set(table["question_id"].unique().to_pylist())
    same = (known for known, group in measured.items() if group.asked == asked and group.conflict(conditions) is None)
    return next(same, name)


def _golds(table: pa.Table) -> dict[str, str]:
    """Question id -> reference answer."""
    pairs = table.group_by(["question_id", "gold"]).aggregate([])
    return dict(zip(pairs["question_id"].to_pylist(), pairs["gold"].to_pylist(), strict=True))


def _only_name(config: EvalConfig) -> str:
    """The benchmark's name in a run whose rows do not say it."""
    if config.benchmark is None:
        return config.benchmarks[0].name
    return label_of(config.benchmark) if is_file(config.benchmark) else config.benchmark.rpartition(":")[2]


def definition_of(config: EvalConfig, name: str) -> Benchmark | None:
    """The definition that a run went by; None where it cannot be found any more."""
    if config.benchmark is None:
        return next((each for each in config.benchmarks if each.name == name), None)
    try:
        return None if is_file(config.benchmark) else find_benchmark(config.benchmark)
    except InputError:
        return None


def _questions(run_dir: Location) -> dict[str, dict[str, str]]:
    """Benchmark -> question id -> text; nothing where the run folder has no questions."""
    texts: dict[str, dict[str, str]] = {}
    if (run_dir / QUESTIONS).is_file():
        for row in read_table(run_dir / QUESTIONS, KeptQuestion).select(["benchmark", "id", "question"]).to_pylist():
            texts.setdefault(row["benchmark"], {})[row["id"]] = row["question"]
    return texts


def _open(run_dir: Location) -> tuple[Manifest, EvalConfig]:
    manifest = read_manifest(run_dir)
    if manifest is None:
        raise RunError(f"{run_dir}: no run folder (it has no manifest.json); give the output folder of `s1ray eval`")
    if manifest.get("stage") != STAGE:
        raise RunError(
            f"{run_dir}: holds a {manifest.get('stage')!r} run, not one of eval; give the output folder of `s1ray eval`"
        )
    if manifest.get("status") != "complete":
        raise RunError(f"{run_dir}: the run is unfinished; run `s1ray eval` again with the same config to resume it")
    _check_facts(run_dir, manifest)
    resolved = manifest.get("config", {})
    try:
        config = validate_config(EvalConfig, resolved, str(run_dir / "manifest.json"))
    except ConfigError as error:
        raise RunError(f"{error}\n(the run was made by another version of s1ray; measure it again)") from None
    if config.benchmark != resolved.get("benchmark"):
        # An earlier version wrote the name alone, and what it means now is nothing that the run has said.
        config = config.model_copy(update={"benchmark": resolved["benchmark"], "benchmarks": []})
    return manifest, config


def _check_facts(run_dir: Location, manifest: Manifest) -> None:
    """Refuse a manifest that does not say what every finished run's does, before anything is written from it."""
    wrong = [
        *(["digest"] if not isinstance(manifest.get("digest"), str) else []),
        *(["seconds"] if not isinstance(manifest.get("seconds"), int | float) else []),
    ]
    try:
        datetime.fromisoformat(manifest["finished"])
    except (KeyError, TypeError, ValueError):
        wrong.append("finished")
    if wrong:
        raise RunError(f"{run_dir}/manifest.json: damaged in {', '.join(wrong)}; measure it again")


def evaluations(table: pa.Table) -> list[Evaluation]:
    """The rows of a table; a text column that it lacks is empty."""
    return [stored_row(dict.fromkeys(TEXTS, "") | row) for row in table.to_pylist()]


def _where(table: pa.Table, **wanted: str) -> pa.Table:
    import pyarrow.compute as pc

    for column, value in wanted.items():
        table = table.filter(pc.equal(table[column], value))
    return table
