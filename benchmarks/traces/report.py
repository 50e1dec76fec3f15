"""Runs of the arms as JSON, and their ratios as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.budget_forcing.statistics import Spread, spread
from benchmarks.traces.arms import GENERATE, TRACES, Timing
from s1ray.storage import write_json

GOAL = 0.95
"""Throughput of the traces stage by that of `LLM.generate`, at least."""


@dataclass(frozen=True)
class Run:
    """One arm in one round."""

    workload: str
    round: int
    arm: str
    timing: Timing
    load_average: float
    """Of the machine, over a minute, when the turn began: what others did on it."""
    idle_cpu_seconds: float
    """Processor seconds of the arms whose turn it was not."""


def read_runs(path: Path) -> list[Run]:
    """The runs of a results file; none where there is no file."""
    if not path.exists():
        return []
    rows = json.loads(path.read_text())["runs"]
    return [Run(**{**row, "timing": Timing(**row["timing"])}) for row in rows]


def write_runs(path: Path, runs: Sequence[Run], about: Mapping[str, object]) -> None:
    """Write all runs with what they say."""
    write_json(path, {**about, "compared": compare(runs), "runs": [asdict(run) for run in runs]})


def compare(runs: Sequence[Run]) -> dict[str, object]:
    """By workload: tokens a second of each arm, and the traces stage's by those of `LLM.generate` in the same round.

    The ratio of tokens a processor second depends less on what others did on the machine.
    """
    found: dict[str, object] = {}
    for workload in dict.fromkeys(run.workload for run in runs):
        of = [run for run in runs if run.workload == workload]
        throughput = spread(ratios(of, "seconds"))
        found[workload] = {
            "tokens_per_second": {
                arm: _rounded(spread([run.timing.tokens / run.timing.seconds for run in of if run.arm == arm]), 1)
                for arm in dict.fromkeys(run.arm for run in of)
            },
            "throughput_ratio": _rounded(throughput, 3),
            "tokens_per_processor_second_ratio": _rounded(spread(ratios(of, "cpu_seconds")), 3),
            "goal": GOAL,
            "reached": throughput.median >= GOAL,
        }
    return found


def ratios(runs: Sequence[Run], what: str) -> list[float]:
    """Tokens of the traces stage by those of `LLM.generate`, a second of either kind, in rounds that have both.

    Args:
        runs: of one workload.
        what: "seconds" or "cpu_seconds".
    """
    rates = {(run.round, run.arm): run.timing.tokens / getattr(run.timing, what) for run in runs}
    rounds = sorted({number for number, arm in rates if arm == TRACES} & {n for n, arm in rates if arm == GENERATE})
    return [rates[number, TRACES] / rates[number, GENERATE] for number in rounds]


def _rounded(found: Spread, digits: int) -> dict[str, float]:
    return {name: round(value, digits) for name, value in asdict(found).items()}


def markdown(runs: Sequence[Run]) -> str:
    """A row a workload: the ratios' medians and ranges."""
    lines = ["| model | throughput (range) | tokens per processor second (range) | rounds |", "|---|---|---|---|"]
    for workload in dict.fromkeys(run.workload for run in runs):
        of = [run for run in runs if run.workload == workload]
        found = [ratios(of, what) for what in ("seconds", "cpu_seconds")]
        lines.append(f"| {workload} | {_cell(found[0])} | {_cell(found[1])} | {len(found[0])} |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    found = spread(values)
    return f"{found.median:.2f} ({found.smallest:.2f} to {found.largest:.2f})"
