"""The plot of how long reading an answer takes over the length of the text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

STEEPEST = 6
"""Kinds that are drawn in colour, the slowest at the greatest length; the others are grey."""


def plot_extraction(extraction: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw seconds over characters, both logarithmic, with a line of slope 1 for comparison.

    Args:
        extraction: what `extraction_times` gave.
        path: of the PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    curves = {kind: {int(n): s for n, s in found["seconds"].items()} for kind, found in extraction.items()}
    slowest = sorted(curves, key=lambda kind: max(curves[kind].values()), reverse=True)
    for place, kind in enumerate(slowest):
        points = sorted(curves[kind].items())
        coloured = place < STEEPEST
        axes.loglog(
            *zip(*points, strict=True),
            marker="." if coloured else None,
            color=f"C{place}" if coloured else "0.8",
            zorder=2 if coloured else 1,
            label=kind if coloured else f"{len(slowest) - STEEPEST} other kinds" if place == STEEPEST else None,
        )
    lengths = sorted({length for points in curves.values() for length in points})
    top = max(curves[slowest[0]].values())
    axes.loglog(lengths, [top * n / lengths[-1] for n in lengths], "k--", linewidth=1, label="linear (slope 1)")
    axes.set_xlabel("characters of the text")
    axes.set_ylabel("seconds of processor time to find the answer")
    axes.set_title("Texts that repeat what is hard to read")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize="small")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
