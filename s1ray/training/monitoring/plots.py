"""A plot of the loss over the steps of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from s1ray.training.monitoring.metrics import StepMetrics

INK, MUTED, TRAIN, HELD_OUT = "#1c2024", "#60646c", "#2563eb", "#b45309"


def plot_loss(lines: Sequence[StepMetrics], path: Path) -> None:
    """Draw loss, validation loss and gradient norm against the steps; skipped steps are marked.

    Args:
        lines: the run's metrics, at least one.
        path: an .svg or .png file.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with mpl.rc_context({"svg.hashsalt": "s1ray", "svg.fonttype": "none", "font.size": 9, "axes.edgecolor": MUTED}):
        figure = Figure(figsize=(6.4, 4.6), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        top.plot(*_points(lines, "loss"), color=TRAIN, linewidth=1, label="training")
        steps, losses = _points(lines, "validation_loss")
        if steps:
            top.plot(steps, losses, color=HELD_OUT, linewidth=1, marker="o", markersize=3, label="held out")
        for number, line in enumerate(line for line in lines if "skipped" in line):
            label = None if number else "skipped"
            top.axvline(line["step"], color=MUTED, linewidth=0.6, linestyle=":", label=label)
        top.set_ylabel("loss per trained token")
        top.legend(frameon=False, labelcolor=INK)
        bottom.plot(*_points(lines, "grad_norm"), color=MUTED, linewidth=0.8)
        bottom.set_ylabel("gradient norm")
        bottom.set_xlabel("optimizer step")
        bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in (top, bottom):
            axes.spines[["top", "right"]].set_visible(False)
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, metadata=metadata)


def _points(
    lines: Sequence[StepMetrics], name: Literal["loss", "validation_loss", "grad_norm"]
) -> tuple[list[int], list[float]]:
    """Steps and values of the lines that have one."""
    found = [(line["step"], value) for line in lines if (value := line.get(name)) is not None]
    return [step for step, _ in found], [value for _, value in found]
