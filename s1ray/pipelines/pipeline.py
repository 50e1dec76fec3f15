"""Several stages in order, each reading what the one before wrote: `s1ray run RECIPE`.

A recipe lists stages, each with its own config (a stage's recipe by name, or a YAML file) and the fields that tie it to
the others. Run folders are `<output>/<stage>`. A stage that is complete is skipped, and one that was killed is resumed,
so the same command continues a run that was stopped anywhere. One Ray cluster serves all stages.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import signal
import string
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from s1ray.cluster import own_cluster
from s1ray.config import Config, ConfigError, RunFolder, StageConfig, load_config
from s1ray.recipes import find_recipe
from s1ray.runs import OtherRunError, Run, check_folder
from s1ray.stages import STAGES, Stage

if TYPE_CHECKING:
    from s1ray.evaluation.config import EvalConfig
    from s1ray.serving.config import ServingConfig

log = logging.getLogger("s1ray")


class ServeStep(Config):
    """A Serve application that is up while a stage runs."""

    config: str
    """A recipe of `serve`, or a YAML file with the application's arguments."""
    set: dict[str, JsonValue] = Field(default_factory=dict)
    """Dotted field -> value."""


class StageStep(Config):
    """One stage of the run."""

    stage: str
    """curate, traces, train or eval."""
    config: str
    """A recipe of the stage, or a YAML file."""
    set: dict[str, JsonValue] = Field(default_factory=dict)
    """Dotted field -> value; "{curate}" in a text is the run folder of that earlier stage; "{{" is a brace."""
    serve: ServeStep | None = None
    """For eval: what is served meanwhile, in place of an endpoint that is there already."""

    @field_validator("stage")
    @classmethod
    def _known(cls, stage: str) -> str:
        if stage not in STAGES:
            raise ValueError(f"must be one of {', '.join(STAGES)}")
        return stage

    @model_validator(mode="after")
    def _only_eval_is_served(self) -> Self:
        if self.serve is not None and self.stage != "eval":
            raise ValueError(f"serve: only eval asks a server, {self.stage} does not; leave it out")
        return self


class PipelineConfig(Config):
    """A run of several stages."""

    output: RunFolder
    """Folder of the run folders."""
    stages: list[StageStep] = Field(min_length=1)
    ray_cpus: int | None = Field(default=None, ge=1)
    """Logical CPUs of a Ray cluster of the run's own. None: the cluster that there is, by Ray's rules."""
    report: str | None = None
    """HTML report of the eval stage, within `output`. None: none is written."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        twice = [stage for stage, times in Counter(step.stage for step in self.stages).items() if times > 1]
        if twice:
            raise ValueError(f"stages: {twice[0]} is given more than once; each has one run folder")
        if self.report is not None and (Path(self.report).name != self.report or not self.report.endswith(".html")):
            raise ValueError(f"report: must be the name of an .html file within `output`, not {self.report!r}")
        if self.report is not None and all(step.stage != "eval" for step in self.stages):
            raise ValueError("report: there is no eval stage to report on; leave it out")
        return self


@dataclass(frozen=True)
class _Prepared:
    """A stage with its config, and what is served meanwhile."""

    stage: Stage[Any]
    config: StageConfig
    serving: ServingConfig | None


class Pipeline:
    """A recipe, bound to its output folder.

    Args:
        config: the recipe.
        output: another folder than the recipe's.
        overrides: stage -> "field=value" overrides of its config, after the recipe's own.
    """

    def __init__(
        self,
        config: PipelineConfig,
        *,
        output: Path | None = None,
        overrides: Mapping[str, list[str]] | None = None,
    ) -> None:
        self.config = config
        self.output = (output or Path(config.output)).absolute()
        self._overrides = overrides or {}
        for name in self._overrides.keys() - {step.stage for step in config.stages}:
            raise ConfigError(
                f"{name}: the recipe has no such stage; it has {', '.join(s.stage for s in config.stages)}"
            )

    def check(self) -> list[str]:
        """Load every stage's config, without running anything; one line a stage.

        Raises:
            ConfigError: one of them is wrong.
            RunError: the output cannot be a folder.
        """
        check_folder(self.output)
        prepared = [self._prepare(step) for step in self.config.stages]
        return [f"{each.stage.name}: {each.config.output}" for each in prepared]

    def steps(self, *, force: bool = False) -> Iterator[tuple[str, Callable[[], tuple[Run, float | None]]]]:
        """The stages in order: each one's name, and a function that runs it.

        The function gives the finished run, and how many seconds it took (None: it was complete before). Run folders
        are the recipe's own: a run of other settings or inputs in one of them is replaced. Whatever was started stops
        when the iteration ends.

        Args:
            force: run complete stages again.

        Raises:
            S1rayError: as the stages do.
        """
        self.check()
        cpus = self.config.ray_cpus
        with own_cluster(cpus) if cpus is not None else contextlib.nullcontext():
            for step in self.config.stages:
                yield step.stage, functools.partial(self._timed, step, force=force)

    def _timed(self, step: StageStep, *, force: bool) -> tuple[Run, float | None]:
        started = time.monotonic()
        run = self._run(step, force=force)
        return run, None if run.skipped else time.monotonic() - started

    def _run(self, step: StageStep, *, force: bool) -> Run:
        prepared = self._prepare(step)
        try:
            return _run_stage(prepared, force=force)
        except OtherRunError:
            log.info("%s: holds a run of other settings or inputs, which is replaced", prepared.config.output)
            return _run_stage(prepared, force=True)

    def _prepare(self, step: StageStep) -> _Prepared:
        stage = STAGES[step.stage].load()
        folder = str(self.output / step.stage)
        fields = {"output": folder} | self._fields(step.set, step.stage, "set")
        file = find_recipe(step.config, step.stage)
        config = load_config(stage.config, file, self._overrides.get(step.stage, ()), fields=fields)
        if config.output != folder:
            raise ConfigError(
                f"stages: {step.stage}: output: {config.output!r} cannot be set, as other stages read {folder}; move "
                "the whole run with its own `output` (--output)"
            )
        serving = None
        if step.serve is not None:
            from s1ray.serving.config import ServingConfig

            fields = self._fields(step.serve.set, step.stage, "serve.set")
            serving = load_config(ServingConfig, find_recipe(step.serve.config, "serve"), fields=fields)
        return _Prepared(stage, config, serving)

    def _fields(self, values: Mapping[str, JsonValue], stage: str, where: str) -> dict[str, JsonValue]:
        """Dotted field -> value, with the folders of earlier stages put in."""
        names = [step.stage for step in self.config.stages]
        folders = {name: str(self.output / name) for name in names[: names.index(stage)]}
        return {field: _filled(value, folders, f"{stage}.{where}.{field}") for field, value in values.items()}


def _filled(value: JsonValue, folders: Mapping[str, str], where: str) -> JsonValue:
    """A value with "{stage}" in its texts replaced.

    Raises:
        ConfigError: braces hold something else than an earlier stage, or do not match.
    """
    if isinstance(value, dict):
        return {key: _filled(inner, folders, f"{where}.{key}") for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, folders, f"{where}.{index}") for index, inner in enumerate(value)]
    if not isinstance(value, str):
        return value
    try:
        parts = list(string.Formatter().parse(value))
    except ValueError as error:
        raise ConfigError(f"stages: {where}: {value!r}: {error}; a brace of the text itself is written twice") from None
    text = ""
    for literal, name, form, conversion in parts:
        text += literal
        if name is not None:
            if name not in folders or form or conversion:
                known = ", ".join(f"{{{stage}}}" for stage in folders) or "none"
                raise ConfigError(
                    f"stages: {where}: {value!r} names no earlier stage of the recipe; there are {known} (a brace of "
                    "the text itself is written twice)"
                )
            text += folders[name]
    return text


def _run_stage(prepared: _Prepared, *, force: bool) -> Run:
    stage, config = prepared.stage, prepared.config
    if prepared.serving is None or (not force and stage.open(config).skipped):
        return stage(config, force=force)
    from s1ray.serving.local import serve_locally

    with serve_locally(prepared.serving) as served:
        return stage(_at(config, f"{served.url}/v1"), force=force)


def _at(config: Any, base_url: str) -> EvalConfig:
    """The config with another endpoint."""
    moved: EvalConfig = config.model_copy(
        update={"endpoint": config.endpoint.model_copy(update={"base_url": base_url})}
    )
    return moved


def load_pipeline(recipe: str, *, output: Path | None = None, overrides: Sequence[str] = ()) -> Pipeline:
    """Read a recipe of `run`, or a YAML file of the same form.

    Args:
        recipe: name or file.
        output: another folder than the recipe's.
        overrides: "stage.field=value".

    Raises:
        ConfigError: it is not there, or wrong.
    """
    by_stage: dict[str, list[str]] = {}
    for override in overrides:
        stage, dot, rest = override.partition(".")
        if not dot:
            raise ConfigError(f"override {override!r}: write it as stage.field=value")
        by_stage.setdefault(stage, []).append(rest)
    return Pipeline(load_config(PipelineConfig, find_recipe(recipe, "run")), output=output, overrides=by_stage)


def run_pipeline(pipeline: Pipeline, *, force: bool = False) -> None:
    """Run a pipeline in a terminal: a heading for each stage, and at the end the report's table and the times.

    SIGTERM is treated like Ctrl-C, so that whatever was started is stopped in order.

    Args:
        pipeline: what to run.
        force: run complete stages again.

    Raises:
        S1rayError: as the stages do.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console()
    times = Table("stage", "seconds", "folder", title="stages", title_justify="left")
    with _stopped_by_sigterm():
        for name, finish in pipeline.steps(force=force):
            console.rule(f"[bold]{name}")
            run, seconds = finish()
            times.add_row(name, "complete before" if seconds is None else f"{seconds:.0f}", str(run.path))
    if pipeline.config.report is not None:
        from s1ray.evaluation.report import write_report
        from s1ray.evaluation.summary import summary_table

        folder = pipeline.output / "eval"
        report = write_report([folder], pipeline.output / pipeline.config.report)
        console.rule("[bold]report")
        console.print(summary_table([folder]))
        console.print(times)
        console.print(f"\n[bold]report:[/bold] {report}")
    else:
        console.print(times)


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
