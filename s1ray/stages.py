"""A stage: curate, traces, train and eval, each told in the same five words.

    run = curate(load_config(CurationConfig, find_recipe("miniature", "curate")))

A stage has a name, a config class, a plan (what a run would do; checks all that it can before a cluster starts),
inputs (files whose content decides the result) and the work itself. Opening the run folder, skipping what is complete
and resuming what was killed is the same for all, and is here. Commands, jobs and `s1ray run` are loops over `STAGES`.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from s1ray.aside import Kept
from s1ray.config import StageConfig
from s1ray.manifests import is_complete
from s1ray.runs import Run, check_folder, check_replaceable
from s1ray.storage import Location, location

log = logging.getLogger("s1ray")

C = TypeVar("C", bound=StageConfig)


@dataclass(frozen=True, kw_only=True)
class Stage(Generic[C]):
    """One stage; call it to run it."""

    name: str
    config: type[C]
    plan: Callable[[C], list[str]]
    """What a run would do and cost, one line each. Reads inputs and starts nothing; raises `S1rayError` for whatever
    would keep the run from succeeding."""
    inputs: Callable[[C], Mapping[str, str]]
    """Name -> file or folder whose content decides the result."""
    work: Callable[[C, Run], None]
    """Does the work, within an open run folder that is not complete yet."""
    afterwards: Callable[[C, Run], None] | None = None
    """Done each time the stage is asked for, after the run is complete: also where it was complete before."""

    results: tuple[str, ...] = ()
    """Files of the run folder without which a run that says it is complete is finished again."""
    kept: Callable[[Location], Kept | None] | None = None
    """What of a run folder `force` sets aside instead of deleting it; None: nothing."""

    def check(self, config: C, *, force: bool = False) -> list[str]:
        """The plan of a run, whose folder can be written and holds no other run; writes nothing.

        Args:
            config: the stage's config.
            force: what the run folder holds would be replaced.

        Raises:
            S1rayError: whatever would keep the run from succeeding.
        """
        lines = self._plan(config)
        if force:
            check_replaceable(config.output)
            kept = None if self.kept is None else self.kept(location(config.output))
            return lines if kept is None else [*lines, f"--force sets aside {kept.what}"]
        run = self.open(config)
        if run.skipped:
            return [*lines, f"{run.path} is already complete, and would be skipped"]
        return lines

    def __call__(self, config: C, *, force: bool = False) -> Run:
        """Run the stage, resume it, or skip it where its run folder already holds the result.

        Args:
            config: the stage's config.
            force: replace what the run folder holds.

        Returns:
            The finished run.

        Raises:
            S1rayError: what the plan found, or what kept the run from finishing; RunError where the folder holds
                something else.
        """
        if force or not is_complete(config.output, self.results):
            for line in self._plan(config):
                log.info("%s: %s", self.name, line)
        with self.open(config, force=force) as run:
            if run.skipped:
                log.info("%s: %s is already complete, skipped", self.name, run.path)
            else:
                if run.missing:
                    log.info("%s: %s is finished again, as it lacks %s", self.name, run.path, ", ".join(run.missing))
                self.work(config, run)
        if self.afterwards is not None:
            self.afterwards(config, run)
        return run

    def open(self, config: C, *, force: bool = False) -> Run:
        """The stage's run folder, not entered yet: `skipped` and `resumed` say what it holds."""
        return Run(self.name, config, self.inputs(config), force=force, results=self.results, kept=self.kept)

    def _plan(self, config: C) -> list[str]:
        check_folder(config.output)
        return self.plan(config)


@dataclass(frozen=True)
class StageEntry:
    """Where a stage is, and what it does; its module is imported only when it is used."""

    target: str
    """"module:attribute" of the `Stage`."""
    help: str

    def load(self) -> Stage[Any]:
        """The stage."""
        module, _, attribute = self.target.partition(":")
        stage: Stage[Any] = getattr(importlib.import_module(module), attribute)
        return stage


STAGES = {
    "curate": StageEntry("s1ray.curation.pipeline:curate", "Choose questions: quality, decontamination, diversity."),
    "traces": StageEntry("s1ray.traces.pipeline:traces", "Collect a teacher's reasoning traces on the questions."),
    "train": StageEntry("s1ray.training.trainer:train", "Fine-tune a model on the traces (Ray Train, DeepSpeed)."),
    "eval": StageEntry("s1ray.evaluation.runner:evaluate", "Measure a served model at a sweep of thinking budgets."),
}
"""Every stage, in the order in which data flows."""
