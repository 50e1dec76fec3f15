"""Plots of what several samples a question give: pass@k and maj@k."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from s1ray.evaluation.breakdowns import Repeated
from s1ray.evaluation.plots import MARKERS, PRINT, Palette, legend_label, percent_axis, style

MOST = 5
"""Arms drawn: as many as there are colours. The table has them all."""


def samples_curve(rows: Sequence[Repeated], palette: Palette = PRINT) -> Figure | None:
    """Accuracy against samples a question: solid pass@k, hollow and dashed maj@k, bars 95 % intervals.

    Returns:
        None where no arm has two samples of a question.
    """
    drawn = [row for row in rows if len(row.pass_at) > 1][-MOST:]
    if not drawn:
        return None
    with style(palette):
        figure = Figure(figsize=(5.6, 3.9), layout="constrained")
        axes = figure.add_subplot()
        ks = sorted({k for row in drawn for k, _ in row.pass_at})
        for index, row in enumerate(drawn):
            colour, marker = palette.models[index], MARKERS[index]
            name = f"{row.result.model} {row.result.arm}"
            for points, face, line, what in (
                (row.pass_at, colour, "solid", "pass@k"),
                (row.majority_at, palette.ground, (0, (2, 2)), "maj@k"),
            ):
                values = [100 * share.value for _, share in points]
                # A majority can lie outside of an interval that is cut at 0 or 1 by less than rounding.
                below = [max(0.0, 100 * (share.value - share.low)) for _, share in points]
                above = [max(0.0, 100 * (share.high - share.value)) for _, share in points]
                axes.errorbar(
                    [k for k, _ in points],
                    values,
                    yerr=[below, above],
                    elinewidth=1,
                    color=colour,
                    marker=marker,
                    markerfacecolor=face,
                    linestyle=line,
                    label=legend_label(f"{name}, {what}"),
                )
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(ks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlabel("samples a question, k (log₂ scale)")
        percent_axis(axes, "accuracy (%)")
        axes.legend(loc="best")
    return figure
