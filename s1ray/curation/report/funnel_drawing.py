"""The funnel as a drawing: a band for each stage, as wide as its rows, with what it dropped beside it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from s1ray.pages import percent

WIDTH, CENTRE, WIDEST = 1000, 375, 330
"""Of the drawing, of the funnel's middle, and of its widest place."""
TEXT_X, REASON_X = 0, 590
LINE, PAD, LEAST_HEIGHT = 19, 14, 58
REASONS_SHOWN, REASON_CHARACTERS = 6, 56
"""Of a stage, and of a reason: as many as there is room for."""
THINNEST = 2.0
"""A funnel never vanishes."""


@dataclass(frozen=True)
class Step:
    """A stage: rows into it and out of it, and drops by reason, most first."""

    stage: str
    rows_in: int
    rows_out: int
    reasons: list[tuple[str, int]]

    @property
    def dropped(self) -> int:
        """Rows that go here."""
        return self.rows_in - self.rows_out


@dataclass(frozen=True)
class Label:
    """A line of text."""

    x: float
    y: float
    text: str
    kind: str
    """"name", "count" or "reason"."""


@dataclass(frozen=True)
class Band:
    """A stage's part of the drawing; `points` and `gone` are polygons, in SVG's notation."""

    step: Step
    y: float
    height: float
    points: str
    """What stays."""
    gone: list[str]
    """What is dropped, on both sides."""
    labels: list[Label]


@dataclass(frozen=True)
class Drawing:
    """All bands."""

    bands: list[Band]
    width: float
    height: float


def steps(rows: Mapping[str, int], drops: Mapping[str, int]) -> list[Step]:
    """The stages of a funnel.

    Args:
        rows: "in", "after <stage>" ..., as in the manifest.
        drops: "<stage>: <reason>" -> rows.
    """
    found, before = [], rows.get("in", 0)
    for name, after in rows.items():
        if name.startswith("after "):
            stage = name.removeprefix("after ")
            own = [(key.partition(": ")[2], count) for key, count in drops.items() if key.startswith(f"{stage}: ")]
            found.append(Step(stage, before, after, sorted(own, key=lambda pair: (-pair[1], pair[0]))))
            before = after
    return found


def draw(funnel: list[Step]) -> Drawing:
    """The drawing of a funnel; widths are in proportion to rows."""
    most = max((step.rows_in for step in funnel), default=0) or 1
    bands, y = [], 4.0
    for step in funnel:
        shown = _reason_lines(step)
        height = max(LEAST_HEIGHT, LINE * len(shown) + PAD)
        top, bottom = (max(THINNEST, WIDEST * count / most) / 2 for count in (step.rows_in, step.rows_out))
        left = CENTRE - top, CENTRE - bottom
        right = CENTRE + bottom, CENTRE + top
        low = y + height
        middle = y + height / 2
        share = f"{percent(step.rows_out / step.rows_in)} % stay" if step.rows_in else ""
        labels = [
            Label(TEXT_X, middle - 5, step.stage, "name"),
            Label(TEXT_X, middle + 15, f"{step.rows_out:,} left" + (f", {share}" if share else ""), "count"),
        ]
        start = middle - LINE * (len(shown) - 1) / 2 + 5
        labels += [Label(REASON_X, start + LINE * place, text, "reason") for place, text in enumerate(shown)]
        stays = _polygon((left[0], y), (right[1], y), (right[0], low), (left[1], low))
        sides = [_polygon((left[0], y), (left[1], low), (left[0], low))]
        sides += [_polygon((right[1], y), (right[0], low), (right[1], low))]
        bands.append(Band(step, y, height, stays, sides if step.dropped else [], labels))
        y = low + 3
    return Drawing(bands, WIDTH, y + 4)


def _reason_lines(step: Step) -> list[str]:
    if not step.reasons:
        return ["nothing dropped"]
    shown = step.reasons if len(step.reasons) <= REASONS_SHOWN else step.reasons[: REASONS_SHOWN - 1]
    lines = [textwrap.shorten(f"−{count:,} {reason}", REASON_CHARACTERS, placeholder=" …") for reason, count in shown]
    if len(shown) < len(step.reasons):
        others = step.reasons[len(shown) :]
        lines.append(f"−{sum(count for _, count in others):,}  for {len(others)} other reasons")
    return lines


def _polygon(*points: tuple[float, float]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
