"""A recipe, bound to its output folder: checks all of its configs, then runs them one after the other."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s1ray.cluster import own_cluster
from s1ray.config import ConfigError, StageConfig, load_config
from s1ray.pipelines.config import Fields, PipelineConfig
from s1ray.pipelines.filling import Filling
from s1ray.pipelines.matrix import Cell, cells, settings
from s1ray.recipes import find_recipe
from s1ray.runs import OtherRunError, Run, check_folder
from s1ray.stages import STAGES, Stage
from s1ray.storage import Location, location

if TYPE_CHECKING:
    from s1ray.evaluation.config import EvalConfig
    from s1ray.serving.config import ServingConfig

log = logging.getLogger("s1ray")


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
        output: Location | None = None,
        overrides: Mapping[str, list[str]] | None = None,
    ) -> None:
        self.config = config
        self.output = (output or location(config.output)).absolute()
        self.cells = list(cells(config))
        self._overrides = overrides or {}
        labels = [step.label for step in config.stages]
        for name in self._overrides.keys() - set(labels):
            raise ConfigError(f"{name}: the recipe has no such stage; it has {', '.join(labels)}")

    @property
    def evaluations(self) -> list[Location]:
        """The run folders of all eval stages."""
        return [cell.folder(self.output) for cell in self.cells if cell.step.stage == "eval"]

    def configs(self) -> list[tuple[Cell, StageConfig]]:
        """Load the config of every run. Looks at no run folder, so that another machine's may be meant.

        Raises:
            ConfigError: one of them is wrong.
        """
        loaded = [(cell, self._prepare(cell).config) for cell in self.cells]
        labels = dict[str, None]()
        for cell, config in loaded:
            if cell.step.stage == "eval":
                labels |= dict.fromkeys(model.label for model in getattr(config, "models", ()))
        ablation = self.config.ablation
        if ablation is not None and labels and ablation.baseline not in labels:
            raise ConfigError(
                f"ablation.baseline: no eval stage measures a model with the label {ablation.baseline!r}; they measure "
                f"{', '.join(labels)}"
            )
        return loaded

    def check(self) -> list[str]:
        """Load every stage's config, and look at the run folders, without running anything; one line a run.

        Raises:
            ConfigError: one of them is wrong.
            RunError: the output cannot be a folder.
        """
        check_folder(self.output)
        lines = []
        for cell, config in self.configs():
            check_folder(config.output)
            lines.append(f"{cell.title}: {config.output}")
        return lines

    def steps(self, *, force: bool = False) -> Iterator[tuple[Cell, Callable[[], tuple[Run, float | None]]]]:
        """The runs in order: each one's cell, and a function that runs it.

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
            for cell in self.cells:
                yield cell, functools.partial(self._timed, cell, force=force)

    def _timed(self, cell: Cell, *, force: bool) -> tuple[Run, float | None]:
        started = time.monotonic()
        run = self._run(cell, force=force)
        return run, None if run.skipped else time.monotonic() - started

    def _run(self, cell: Cell, *, force: bool) -> Run:
        prepared = self._prepare(cell)
        try:
            return _run_stage(prepared, force=force)
        except OtherRunError:
            log.info("%s: holds a run of other settings or inputs, which is replaced", prepared.config.output)
            return _run_stage(prepared, force=True)

    def _prepare(self, cell: Cell) -> _Prepared:
        step, filling = cell.step, Filling.of(self.config, cell, self.output)
        stage = STAGES[step.stage].load()
        folder = str(cell.folder(self.output))
        fields = {"output": folder} | _filled(filling, step.set | settings(self.config, cell), f"{step.label}.set")
        file = find_recipe(step.config, step.stage)
        config = load_config(stage.config, file, self._overrides.get(step.label, ()), fields=fields)
        if config.output != folder:
            raise ConfigError(
                f"stages: {step.label}: output: {config.output!r} cannot be set, as other stages read {folder}; move "
                "the whole run with its own `output` (--output)"
            )
        serving = None
        if step.serve is not None:
            from s1ray.serving.config import ServingConfig

            fields = _filled(filling, step.serve.set, f"{step.label}.serve.set")
            serving = load_config(ServingConfig, find_recipe(step.serve.config, "serve"), fields=fields)
        return _Prepared(stage, config, serving)


def _filled(filling: Filling, values: Fields, where: str) -> Fields:
    return {field: filling.fill(value, f"{where}.{field}") for field, value in values.items()}


def _run_stage(prepared: _Prepared, *, force: bool) -> Run:
    stage, config = prepared.stage, prepared.config
    if prepared.serving is None or (not force and stage.open(config).skipped):
        return stage(config, force=force)
    from s1ray.serving.local import serve_locally

    with serve_locally(prepared.serving) as served:
        return stage(_at(config, f"{served.url}/v1"), force=force)


def _at(config: Any, base_url: str) -> EvalConfig:
    """The config with another address; of several endpoints the first one gets it."""
    first, *others = config.all_endpoints()
    moved = first.model_copy(update={"base_url": base_url})
    changed: EvalConfig = config.model_copy(
        update={"endpoints": [moved, *others]} if config.endpoints else {"endpoint": moved}
    )
    return changed


def load_pipeline(recipe: str, *, output: Location | None = None, overrides: Sequence[str] = ()) -> Pipeline:
    """Read a recipe of `run`, or a YAML file of the same form.

    Args:
        recipe: name or file.
        output: another folder than the recipe's.
        overrides: "stage.field=value", or "matrix.axis=[values]".

    Raises:
        ConfigError: it is not there, or wrong.
    """
    by_stage: dict[str, list[str]] = {}
    of_matrix = [override for override in overrides if override.startswith("matrix.")]
    for override in overrides:
        if override in of_matrix:
            continue
        stage, dot, rest = override.partition(".")
        if not dot:
            raise ConfigError(f"override {override!r}: write it as stage.field=value")
        by_stage.setdefault(stage, []).append(rest)
    config = load_config(PipelineConfig, find_recipe(recipe, "run"), of_matrix)
    return Pipeline(config, output=output, overrides=by_stage)
