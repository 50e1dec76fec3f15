"""Measures the accuracy of a run's snapshots while the run goes on, from the process that started it.

Each measurement is a Ray task with an engine of its own: on GPUs that no worker has, or beside the workers on CPUs. A
measurement that fails is a warning, never the end of the training.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Sequence
from typing import Self

from s1ray.schemas import Question
from s1ray.storage import Location, local_copy, writing
from s1ray.training.accuracy.measure import engine_config, measure
from s1ray.training.accuracy.questions import choose_questions
from s1ray.training.accuracy.snapshots import Accuracy, Snapshots, not_measured
from s1ray.training.config import TrainingConfig

log = logging.getLogger("s1ray")

POLL_SECONDS = 0.5
PATIENCE = 60.0
"""Seconds between two lines about a measurement that takes long."""
MAX_MESSAGE = 500
"""Characters of an error that are kept."""


class AccuracyWatch:
    """Follows a run's snapshots; use it as a context manager around the run, which must be connected to Ray."""

    def __init__(self, config: TrainingConfig, output: Location, questions: Sequence[Question]):
        assert config.accuracy is not None
        self._config = config
        self._settings = config.accuracy
        self._snapshots = Snapshots(output)
        self._questions = list(questions)
        self._ending = threading.Event()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="training-accuracy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Measure what is left, unless the run failed."""
        if kind is not None:
            self._abandoned.set()
        self._ending.set()
        self._thread.join()

    def measure(self, step: int, model: Location) -> None:
        """Measure a model, and keep the result; does nothing where the step is measured already."""
        if self._snapshots.is_measured(step):
            return
        try:
            found = self._answer(step, model)
        except Exception as error:
            # A fault here must neither end the training nor let it wait for ever.
            log.warning("train: measuring the accuracy after step %d failed", step, exc_info=error)
            found = not_measured(step, repr(error)[:MAX_MESSAGE])
        if found is None:
            return
        self._snapshots.record(found)
        if found["error"] is None:
            log.info("train: after step %d %s", step, describe(found))
        else:
            log.warning("train: the accuracy after step %d could not be measured: %s", step, found["error"])

    def _follow(self) -> None:
        while True:
            ending = self._ending.is_set()
            pause = POLL_SECONDS
            try:
                self._measure_all()
            except Exception as error:
                # Workers would wait for ever for a thread that has ended: a full disk, say, may be over later.
                log.warning("train: a measured snapshot could not be recorded or deleted", exc_info=error)
                pause = PATIENCE
            if ending:
                return
            self._ending.wait(pause)

    def _measure_all(self) -> None:
        for step in self._snapshots.waiting():
            if not self._abandoned.is_set():
                self.measure(step, self._snapshots.model(step))
        if not self._abandoned.is_set():
            self._snapshots.tidy(keep_best=self._settings.export == "best")

    def _answer(self, step: int, model: Location) -> Accuracy | None:
        """What was measured; None if the run failed meanwhile."""
        import ray

        options = _resources(self._config, model)
        where = {} if self._settings.node_labels is None else {"label_selector": self._settings.node_labels}
        settings = self._config.model_dump(mode="json")
        # A process for each: what an engine leaves behind ends with it.
        task = ray.remote(max_retries=1, max_calls=1, **options, **where)(measure)
        running = task.remote(settings, str(model), step, self._questions)
        started = said = time.monotonic()
        while True:
            done, _ = ray.wait([running], timeout=POLL_SECONDS)
            if done:
                break
            if self._abandoned.is_set():
                ray.cancel(running, force=True)
                return None
            if time.monotonic() - said > PATIENCE:
                said = time.monotonic()
                log.info(
                    "train: measuring the accuracy after step %d (%.0f s; needs %s beside the workers)",
                    step,
                    said - started,
                    ", ".join(f"{number} {name.removeprefix('num_')}" for name, number in options.items()),
                )
        try:
            found: Accuracy = ray.get(running)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            lines = str(cause).strip().splitlines() or [type(cause).__name__]
            return not_measured(step, lines[-1][:MAX_MESSAGE])
        return found


def finish(config: TrainingConfig, output: Location, model: Location, exported_step: int) -> dict[str, object]:
    """Measure the exported model, and put the best one in its place where the config asks for it.

    It can be called again, after a kill, as long as the snapshots' models are there.

    Args:
        output: the run folder.
        model: the exported model.
        exported_step: its finished steps.

    Returns:
        Figures for the manifest.
    """
    assert config.accuracy is not None
    snapshots = Snapshots(output)
    AccuracyWatch(config, output, choose_questions(config.accuracy, config.seed)).measure(exported_step, model)
    best = snapshots.best()
    exported = exported_step
    if config.accuracy.export == "best" and best is None:
        log.warning("train: no accuracy could be measured; exporting the last model")
    if config.accuracy.export == "best" and best is not None and best["step"] != exported_step:
        exported = best["step"]
        with writing(model) as temporary:
            shutil.copytree(local_copy(snapshots.model(exported)), temporary)
        log.info("train: exported the model after step %d, the one with the highest accuracy", exported)
    return {"accuracies": snapshots.results(), "exported_step": exported}


def _resources(config: TrainingConfig, model: Location) -> dict[str, float]:
    """Ray options of a measurement: GPUs of its own, or on CPUs a place beside the workers."""
    from s1ray.generation.engine import engine_actor_options

    assert config.accuracy is not None
    labels = config.accuracy.node_labels
    options: dict[str, float] = dict(engine_actor_options(engine_config(config, local_copy(model)), labels))
    return options if options.get("num_gpus") else {"num_cpus": 0}


def describe(found: Accuracy) -> str:
    """A measurement in a few words."""
    text = (
        f"{100 * found['accuracy']:.1f} % of {found['questions'] - found['undecided']} questions are right "
        f"({100 * found['low']:.0f} to {100 * found['high']:.0f} %), "
        f"{found['thinking_tokens']:.0f} thinking tokens each"
    )
    if found["without_answer"]:
        text += f", {found['without_answer']} without an answer"
    if found["cut"]:
        text += f", {found['cut']} cut"
    if found["undecided"]:
        text += f", {found['undecided']} more undecided"
    if found["failed"]:
        text += f", {found['failed']} without a response"
    return text
