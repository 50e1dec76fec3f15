"""The results as JSON, as tables for the terminal, and as a plot."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from benchmarks.budget_forcing.statistics import Spread, ratios, spread
from benchmarks.training.arms import FSDP, OURS_PACKED, OURS_PADDED, PLAIN_LOSS, PLAIN_PACKED, PLAIN_PADDED
from benchmarks.training.cross_entropy import LossPeak
from benchmarks.training.libraries import TRAINER_ROWS, TRL_PACKED, TRL_PADDED, trainer_arm

PACKAGES = ("torch", "deepspeed", "transformers", "accelerate", "trl", "s1ray")

COMPARISONS = (
    (OURS_PACKED, PLAIN_PACKED),
    (OURS_PACKED, FSDP),
    (OURS_PACKED, PLAIN_LOSS),
    (OURS_PADDED, PLAIN_PADDED),
    (OURS_PACKED, TRL_PACKED),
    (OURS_PACKED, TRL_PADDED),
    *((OURS_PACKED, trainer_arm(rows)) for rows in TRAINER_ROWS),
)
"""Throughputs to compare, round by round."""

GOALS = {
    (OURS_PACKED, PLAIN_PACKED): 0.9,
    (OURS_PADDED, PLAIN_PADDED): 0.9,
    (OURS_PACKED, FSDP): 0.9,
    (OURS_PACKED, TRL_PACKED): 1.0,
    (OURS_PACKED, TRL_PADDED): 1.0,
}

MASK = "torch's scaled dot product attention, with a mask"
ATTENTION = {
    **dict.fromkeys(
        (OURS_PACKED, PLAIN_PACKED, FSDP, PLAIN_LOSS), "torch's scaled dot product attention, example by example"
    ),
    OURS_PADDED: "torch's scaled dot product attention, causal, padding on the right",
    **dict.fromkeys((PLAIN_PADDED, TRL_PACKED, TRL_PADDED, *map(trainer_arm, TRAINER_ROWS)), MASK),
}
"""The kernel of each arm (SDPA: scaled_dot_product_attention)."""


@dataclass(frozen=True)
class Speed:
    """The arms' seconds for the same optimizer steps."""

    tokens: int
    """In the rows of the timed steps, without padding; the same in every arm."""
    seconds: Mapping[str, list[float]]
    """By arm, round by round."""

    def tokens_per_second(self, arm: str) -> Spread:
        """Of an arm."""
        return spread([self.tokens / taken for taken in self.seconds[arm]])

    def ratio(self, arm: str, other: str) -> Spread:
        """Throughput by that of another arm in the same round."""
        return spread(ratios(self.seconds[arm], self.seconds[other]))

    def describe(self) -> dict[str, object]:
        """For the results file."""
        return {
            "tokens": self.tokens,
            "arms": {
                arm: {
                    "attention": ATTENTION[arm],
                    "tokens_per_second": asdict(self.tokens_per_second(arm)),
                    "seconds": [round(value, 4) for value in taken],
                }
                for arm, taken in self.seconds.items()
            },
            "throughput_ratios": {f"{arm} / {other}": asdict(self.ratio(arm, other)) for arm, other in COMPARISONS},
        }


def results(speed: Speed, peaks: Sequence[LossPeak], settings: Mapping[str, JsonValue]) -> dict[str, Any]:
    """Everything that was measured, for the results file."""
    return {
        "machine": _machine(),
        "settings": dict(settings),
        "goals": {
            f"{arm} / {other}": {
                "goal": goal,
                "found": round(speed.ratio(arm, other).median, 3),
                "reached": speed.ratio(arm, other).median >= goal,
            }
            for (arm, other), goal in GOALS.items()
        },
        "speed": speed.describe(),
        "cross_entropy_peaks": [peak.describe() for peak in peaks],
    }


def print_tables(console: Console, speed: Speed, peaks: Sequence[LossPeak]) -> None:
    """Print both measurements."""
    table = Table(title="Tokens of rows a second, padding not counted (median, quartiles)")
    for column in ("arm", "tokens/s", "quartiles"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm in speed.seconds:
        found = speed.tokens_per_second(arm)
        table.add_row(arm, f"{found.median:,.0f}", f"{found.low:,.0f} to {found.high:,.0f}")
    console.print(table)
    table = Table(title="Throughput ratios within a round (median, quartiles)")
    for column in ("of", "to", "ratio", "quartiles", "goal"):
        table.add_column(column, justify="left" if column in ("of", "to") else "right")
    for arm, other in COMPARISONS:
        found = speed.ratio(arm, other)
        goal = GOALS.get((arm, other))
        table.add_row(
            arm, other, f"{found.median:.2f}", f"{found.low:.2f} to {found.high:.2f}", f"{goal:.1f}" if goal else ""
        )
    console.print(table)
    table = Table(title="Peak memory of loss and gradients, MiB")
    for column in ("tokens", "vocabulary", "in chunks", "all logits at once", "ratio"):
        table.add_column(column, justify="right")
    for peak in peaks:
        table.add_row(
            f"{peak.tokens:,}",
            f"{peak.vocabulary:,}",
            f"{peak.chunked_bytes / 2**20:,.0f}",
            f"{peak.plain_bytes / 2**20:,.0f}",
            f"{peak.ratio:.1f}",
        )
    console.print(table)


def write_plot(path: Path, speed: Speed, peaks: Sequence[LossPeak]) -> None:
    """Throughput of the arms, and memory of the loss over the row's length."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    arms = list(speed.seconds)[::-1]
    found = [speed.tokens_per_second(arm) for arm in arms]
    left.barh(
        arms,
        [one.median for one in found],
        xerr=[[one.median - one.low for one in found], [one.high - one.median for one in found]],
        color=["tab:blue" if arm in (OURS_PACKED, OURS_PADDED) else "tab:gray" for arm in arms],
        capsize=3,
    )
    left.set_xlabel("tokens of rows a second, padding not counted (median, quartiles)")
    left.set_title("Rows as long, in proportion, as s1K's")
    tokens = [peak.tokens for peak in peaks]
    for label, colour, sizes in (
        ("all logits at once", "tab:gray", [peak.plain_bytes for peak in peaks]),
        ("in chunks (s1ray)", "tab:blue", [peak.chunked_bytes for peak in peaks]),
    ):
        right.plot(tokens, [size / 2**20 for size in sizes], "o-", color=colour, label=label)
    right.set_xlabel(f"tokens in the row ({peaks[0].vocabulary:,} in the vocabulary)")
    right.set_ylabel("peak memory of forward and backward pass, MiB")
    right.set_ylim(bottom=0)
    right.set_title("Cross-entropy")
    right.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _machine() -> dict[str, object]:
    """What the numbers depend on; nothing that identifies the machine."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu_cores": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "threads": 1,
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
    }
