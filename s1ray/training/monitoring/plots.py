"""A plot of the loss over the steps of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from s1ray.storage import Location, writing
from s1ray.training.accuracy.snapshots import Accuracy
from s1ray.training.monitoring.metrics import StepMetrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, TRAIN, HELD_OUT = "#1c2024", "#60646c", "#2563eb", "#b45309"


def plot_loss(lines: Sequence[StepMetrics], path: Location, accuracies: Sequence[Accuracy] = ()) -> None:
    """Draw loss, validation loss and gradient norm against the steps, and accuracies; skipped steps are marked.

    Args:
        lines: the run's metrics, at least one.
        path: an .svg or .png file.
        accuracies: what was measured on held-out questions.
    """
    measured = [found for found in accuracies if found["error"] is None]
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with mpl.rc_context({"svg.hashsalt": "s1ray", "svg.fonttype": "none", "font.size": 9, "axes.edgecolor": MUTED}):
        figure = Figure(figsize=(6.4, 4.6 if not measured else 6.2), layout="constrained")
        ratios = (3, 1) if not measured else (3, 2, 1)
        top, *middle, bottom = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios)
        for axes in middle:
            _draw_accuracies(axes, measured)
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
        for axes in (top, *middle, bottom):
            axes.spines[["top", "right"]].set_visible(False)
        metadata = {"Date": None} if path.suffix == ".svg" else None
        with writing(path) as temporary:
            figure.savefig(temporary, format=path.suffix.removeprefix("."), metadata=metadata)


def _draw_accuracies(axes: Axes, measured: Sequence[Accuracy]) -> None:
    steps = [found["step"] for found in measured]
    low, high = ([100 * found[edge] for found in measured] for edge in ("low", "high"))
    axes.fill_between(steps, low, high, color=HELD_OUT, alpha=0.15, linewidth=0, label="95 % interval")
    values = [100 * found["accuracy"] for found in measured]
    axes.plot(steps, values, color=HELD_OUT, linewidth=1, marker="o", markersize=3, label="right answers")
    axes.set_ylabel(f"% of {measured[-1]['questions']} questions")
    axes.legend(frameon=False, labelcolor=INK)


def _points(
    lines: Sequence[StepMetrics], name: Literal["loss", "validation_loss", "grad_norm"]
) -> tuple[list[int], list[float]]:
    """Steps and values of the lines that have one."""
    found = [(line["step"], value) for line in lines if (value := line.get(name)) is not None]
    return [step for step, _ in found], [value for _, value in found]
