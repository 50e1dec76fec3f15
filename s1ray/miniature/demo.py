"""The demo: every stage of s1ray after the other, at laptop size, on a Ray cluster of its own.

    s1ray demo          # or: make demo

It calls the same entry functions as the command line and the jobs, with the miniature's YAML files. A stage that is
complete is skipped; a killed one goes on where it was. Whatever it starts (Ray, the training workers, the served
models) it stops, also on Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from s1ray.cluster import own_cluster
from s1ray.config import Config, StageConfig, load_config
from s1ray.runs import OtherRunError, Run, read_manifest

log = logging.getLogger("s1ray")

LOGICAL_CPUS = 8
"""CPUs that the demo's Ray offers, whatever the machine has: two training workers, or two engines, their controllers
and an ingress must be placed at the same time; they share the real cores."""

ConfigT = TypeVar("ConfigT", bound=Config)


def run_demo(output: Path, *, fresh: bool = False, questions: int = 500) -> Path:
    """Run the system end to end and return the report's path.

    Args:
        output: folder of the runs and the report.
        fresh: run complete stages again.
        questions: held-out questions to measure on.
    """
    output = output.absolute()
    console = Console()
    times: dict[str, float | None] = {}
    with stopped_by_signals(), own_cluster(LOGICAL_CPUS):
        stages = _Stages(output, fresh, questions)
        for name, stage in (
            ("curate", stages.curate),
            ("traces", stages.traces),
            ("train", stages.train),
            ("benchmark", stages.benchmark),
        ):
            console.rule(f"[bold]{name}")
            started = time.monotonic()
            run = stage()
            times[name] = None if run.skipped else time.monotonic() - started
    return _report(console, output, times)


class _Stages:
    """The four stages, each reading what the one before wrote."""

    def __init__(self, output: Path, fresh: bool, questions: int) -> None:
        self._output = output
        self._fresh = fresh
        self._questions = questions

    def curate(self) -> Run:
        from s1ray.curation.config import CurationConfig
        from s1ray.curation.pipeline import curate

        config = self._config(CurationConfig, "curate", {"output": self._output / "curate"})
        return self._run(curate, config)

    def traces(self) -> Run:
        from s1ray.traces.config import TracesConfig
        from s1ray.traces.pipeline import generate_traces

        paths = {"output": self._output / "traces", "questions": self._output / "curate" / "questions.parquet"}
        return self._run(generate_traces, self._config(TracesConfig, "traces", paths))

    def train(self) -> Run:
        from s1ray.training.config import TrainingConfig
        from s1ray.training.trainer import train

        paths = {"output": self._output / "train", "traces": self._output / "traces" / "traces.parquet"}
        return self._run(train, self._config(TrainingConfig, "train", paths))

    def benchmark(self) -> Run:
        from s1ray.evaluation.config import BenchmarkConfig
        from s1ray.evaluation.runner import run_benchmark
        from s1ray.serving.config import ServingConfig
        from s1ray.serving.local import serve_locally

        weights = self._output / "train" / "model"
        values = {"output": self._output / "benchmark", "limit": self._questions, "models.1.weights": weights}
        config = self._config(BenchmarkConfig, "benchmark", values)
        serving = self._config(ServingConfig, "serve", {"models.1.model": weights})

        def serve_and_measure(config: BenchmarkConfig, *, force: bool) -> Run:
            if not force and _is_complete(config.output):
                return run_benchmark(config)
            with serve_locally(serving) as served:
                endpoint = config.endpoint.model_copy(update={"base_url": f"{served.url}/v1"})
                return run_benchmark(config.model_copy(update={"endpoint": endpoint}), force=force)

        return self._run(serve_and_measure, config)

    def _run(self, stage: Callable[..., Run], config: StageConfig) -> Run:
        """Run a stage; whatever other run its folder holds is replaced, for the folder is the demo's own."""
        try:
            return stage(config, force=self._fresh)
        except OtherRunError:
            log.info("%s: holds a run of other settings or inputs, which is replaced", config.output)
            return stage(config, force=True)

    def _config(self, model: type[ConfigT], name: str, values: Mapping[str, object]) -> ConfigT:
        return load_config(model, miniature_config(name), [f"{field}={value}" for field, value in values.items()])


def miniature_config(name: str) -> Path:
    """The path of a stage's YAML for the miniature: in the checkout, or in the installed package."""
    for folder in (Path(__file__).parents[2] / "jobs" / "configs", Path(__file__).parent / "configs"):
        file = folder / f"{name}.miniature.yaml"
        if file.is_file():
            return file
    raise FileNotFoundError(f"{name}.miniature.yaml: not found in the checkout's jobs/configs nor in the package")


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C inside the block, so that whatever was started is stopped in order."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _report(console: Console, output: Path, times: dict[str, float | None]) -> Path:
    from s1ray.evaluation.report import summary_table, write_report

    report = write_report([output / "benchmark"], output / "report.html")
    console.rule("[bold]report")
    console.print(summary_table([output / "benchmark"]))
    table = Table("stage", "seconds", "folder", title="stages", title_justify="left")
    for name, seconds in times.items():
        table.add_row(name, "complete before" if seconds is None else f"{seconds:.0f}", str(output / name))
    console.print(table)
    console.print(f"\n[bold]report:[/bold] {report}")
    return report


def _is_complete(folder: str) -> bool:
    manifest = read_manifest(folder)
    return manifest is not None and manifest.get("status") == "complete"
