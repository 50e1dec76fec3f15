"""The report's plots, drawn with matplotlib: as SVG in the colours of the page's theme, and as files.

Functions take `EvalResults` and give a matplotlib `Figure`; nothing here touches pyplot's global state.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from s1ray.evaluation.arm_result import ArmResult
from s1ray.evaluation.results import EvalResults
from s1ray.storage import Location, writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "os^Dv<>pPX*"
"""One a model or strategy, so that the curves can be told apart without colour. More of them than colours, so that not
both come again together."""


@dataclasses.dataclass(frozen=True)
class Palette:
    """The colours of a figure."""

    ink: str
    muted: str
    grid: str
    ground: str
    models: tuple[str, ...]


PRINT = Palette("#1c2024", "#60646c", "#e4e6ea", "#ffffff", ("#b45309", "#2563eb", "#0f766e", "#9333ea", "#be123c"))
"""For files: dark on white."""

_MARKS = Palette("#010101", "#020202", "#030303", "#040404", ("#050501", "#050502", "#050503", "#050504", "#050505"))
"""Colours that stand for the page's CSS variables: `to_svg` puts the variables in their place."""
_VARIABLES = {
    _MARKS.ink: "var(--ink)",
    _MARKS.muted: "var(--muted)",
    _MARKS.grid: "var(--line)",
    _MARKS.ground: "var(--ground)",
} | {mark: f"var(--model-{index})" for index, mark in enumerate(_MARKS.models)}


Tokens = Literal["thinking", "total"]
"""What an axis of tokens counts: thinking alone, or thinking and answer."""


def accuracy_curve(results: EvalResults, palette: Palette = PRINT, tokens: Tokens = "thinking") -> Figure | None:
    """Accuracy against mean tokens, one curve per model, as in s1, figure 1.

    Solid: the arms with growing maximum. Hollow and dashed: the arms with waits. Hollow and dotted: other strategies.
    Bars: 95 % intervals of the accuracy. An arm whose tokens are unknown is left out; None: there is no other.
    """
    placed = _placed(results.arms, tokens)
    if not placed:
        return None
    with style(palette):
        figure = Figure(figsize=(5.6, 3.9), layout="constrained")
        axes = figure.add_subplot()
        looks = itertools.count(len(results.models))
        for index, model in enumerate(results.models):
            colour, marker = _look(palette, index)
            maxima = _placed(results.maxima(model), tokens)
            if maxima:
                _errorbars(axes, [_tokens(r, tokens) for r in maxima], maxima, colour, marker, label=model)
            for series in results.wait_series(model):
                line = _placed(series, tokens)
                waits = [r for r in line if r.setting.budget.waits]
                if not waits:
                    continue
                _hollow(axes, line, waits, tokens, palette, index, "dashed", f"{model}, with waits")
                for result in waits:
                    _note(axes, result, tokens, f"{result.setting.budget.waits}×", palette)
            for strategy, arms in results.other_series(model).items():
                # A method's own axis may be another, so its order is not that of this one.
                line = sorted(_placed(arms, tokens), key=lambda result: _tokens(result, tokens))
                look = next(looks)
                if line:
                    _hollow(axes, line, line, tokens, palette, look, "dotted", f"{model}, {strategy}")
        _log2_tokens(axes, [_tokens(r, tokens) for r in placed])
        what = "thinking tokens" if tokens == "thinking" else "tokens of thinking and answer"
        axes.set_xlabel(f"mean {what} (log₂ scale)")
        percent_axis(axes, "accuracy (%)")
        axes.legend(loc="best")
    return figure


def waits_plot(results: EvalResults, palette: Palette = PRINT) -> Figure | None:
    """Accuracy and mean thinking tokens against the number of waits; None where no arm waits."""
    series = [(index, s) for index, model in enumerate(results.models) for s in results.wait_series(model)]
    if not series:
        return None
    with style(palette):
        figure = Figure(figsize=(5.6, 3.9), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        waits = sorted({r.setting.budget.waits for _, s in series for r in s})
        for index, results_of_series in series:
            colour, marker = _look(palette, index)
            positions = [waits.index(r.setting.budget.waits) for r in results_of_series]
            longest = results_of_series[-1].setting
            most = longest.limits[1]
            label = f"{results_of_series[0].model}, max {'none' if most is None else most}"
            if longest.budget.wait_text != "Wait":
                label += f", {' '.join(longest.budget.wait_texts) or 'no text'}"
            _errorbars(upper, positions, results_of_series, colour, marker, label=label)
            known = [(x, r) for x, r in zip(positions, results_of_series, strict=True) if not r.unknown]
            lower.plot([x for x, _ in known], [_tokens(r, "thinking") for _, r in known], color=colour, marker=marker)
        percent_axis(upper, "accuracy (%)")
        upper.legend(loc="best")
        lower.set_ylabel("mean thinking\ntokens")
        lower.margins(y=0.2)
        lower.set_ylim(bottom=0)
        lower.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        lower.set_xticks(range(len(waits)), [str(n) for n in waits])
        lower.set_xlabel("waits asked for")
    return figure


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an inline SVG element; drawn with `THEMED`, its colours are the page's CSS variables.

    Args:
        figure: the figure.
        name: unique on the page; it keeps the figure's internal ids apart from those of other figures.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Ids that are referred to carry the salt; the others ("axes_1") would come twice on a page with two figures.
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", svg)
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg role="img" aria-labelledby="{name}" \1>', svg, count=1)
    for mark, variable in _VARIABLES.items():
        svg = svg.replace(mark, variable)
    return svg.strip()


def save(figure: Figure, path: Location) -> None:
    """Write the figure as a file, PNG or SVG by its ending; the same figure gives the same bytes."""
    kind = path.suffix.removeprefix(".")
    with mpl.rc_context({"svg.hashsalt": "s1ray"}), writing(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=200, metadata={"Date" if kind == "svg" else "Software": None})


THEMED = _MARKS
"""The palette to draw with for `to_svg`."""


def style(palette: Palette) -> AbstractContextManager[None]:
    """The look of a figure that is drawn within the block."""
    return mpl.rc_context(
        {
            "font.family": "sans-serif",
            "font.size": 10.5,
            # Labels are the user's: two dollar signs in one are no formula.
            "text.parse_math": False,
            "text.color": palette.ink,
            "axes.labelcolor": palette.ink,
            "axes.edgecolor": palette.muted,
            "axes.facecolor": "none",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": palette.grid,
            "grid.linewidth": 0.8,
            "xtick.color": palette.muted,
            "ytick.color": palette.muted,
            "xtick.labelcolor": palette.ink,
            "ytick.labelcolor": palette.ink,
            "figure.facecolor": palette.ground,
            "legend.frameon": False,
            "legend.fontsize": 9.5,
            "lines.linewidth": 1.8,
            "lines.markersize": 5.5,
            "errorbar.capsize": 2.5,
        }
    )


def legend_label(label: str) -> str:
    """A label as the legend shows it: matplotlib leaves out one that begins with an underscore."""
    return f" {label}" if label.startswith("_") else label


def _look(palette: Palette, index: int) -> tuple[str, str]:
    return palette.models[index % len(palette.models)], MARKERS[index % len(MARKERS)]


def _errorbars(
    axes: Axes,
    x: Sequence[float],
    results: list[ArmResult],
    colour: str,
    marker: str,
    *,
    label: str,
    face: str | None = None,
    line: Literal["solid", "none"] = "solid",
) -> None:
    y = [_percent(r) for r in results]
    below = [value - 100 * r.accuracy.low for value, r in zip(y, results, strict=True)]
    above = [100 * r.accuracy.high - value for value, r in zip(y, results, strict=True)]
    axes.errorbar(
        x,
        y,
        yerr=[below, above],
        elinewidth=1,
        zorder=2,
        color=colour,
        marker=marker,
        markerfacecolor=face or colour,
        linestyle=line,
        label=legend_label(label),
    )


def _hollow(
    axes: Axes,
    line: list[ArmResult],
    points: list[ArmResult],
    tokens: Tokens,
    palette: Palette,
    index: int,
    style: Literal["dashed", "dotted"],
    label: str,
) -> None:
    """A thin broken line, and hollow markers at some of its points."""
    colour, marker = _look(palette, index)
    dashes = (0, (2, 2)) if style == "dashed" else (0, (1, 2))
    path = [_tokens(r, tokens) for r in line], [_percent(r) for r in line]
    axes.plot(*path, color=colour, ls=dashes, linewidth=1, zorder=1)
    x = [_tokens(r, tokens) for r in points]
    _errorbars(axes, x, points, colour, marker, label=label, face=palette.ground, line="none")


def _note(axes: Axes, result: ArmResult, tokens: Tokens, text: str, palette: Palette) -> None:
    axes.annotate(
        text,
        (_tokens(result, tokens), 100 * result.accuracy.high),
        xytext=(0, 4),
        textcoords="offset points",
        horizontalalignment="center",
        color=palette.muted,
        fontsize=9,
    )


def _percent(result: ArmResult) -> float:
    return 100 * result.accuracy.value


def _placed(results: Sequence[ArmResult], tokens: Tokens) -> list[ArmResult]:
    """Those that have a place on an axis of tokens."""
    return [result for result in results if tokens == "total" or not result.unknown]


def _tokens(result: ArmResult, tokens: Tokens) -> float:
    return (result.thinking_tokens if tokens == "thinking" else result.total_tokens).value


def percent_axis(axes: Axes, label: str) -> None:
    """A vertical axis of percent, within 0 and little more than 100."""
    axes.set_ylabel(label)
    axes.margins(y=0.12)
    low, high = axes.get_ylim()
    axes.set_ylim(max(0.0, low), min(103.0, high))


def _log2_tokens(axes: Axes, tokens: list[float]) -> None:
    """Log2 axis with powers of two as ticks; zero thinking, which has no logarithm, stands left of them."""
    positive = [t for t in tokens if t > 0] or [1.0]
    first = 1
    while first * 2 <= min(positive):
        first *= 2
    has_zero = min(tokens) <= 0
    axes.set_xscale("symlog", base=2, linthresh=first, linscale=0.6) if has_zero else axes.set_xscale("log", base=2)
    ticks = [0] if has_zero else []
    tick = first
    while tick < 2 * max(positive):
        ticks.append(tick)
        tick *= 2
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlim(-0.25 * first if has_zero else min(positive) / 1.25, max(positive) * 1.35)
