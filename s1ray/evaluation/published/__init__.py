"""Figures that others published, as labelled data: what the s1 paper printed, and what was measured again elsewhere.

Nothing here was measured by s1ray; the report shows it beside what was, with its source.
"""

from __future__ import annotations

import functools
from importlib import resources

from s1ray.config import Config
from s1ray.evaluation import metrics


class PublishedAccuracy(Config):
    """Accuracies of one model, in percent, in the order of the benchmarks."""

    model: str
    source: str
    """Key of `Published.sources`."""
    table: str | None = None
    """The source's."""
    values: list[float | None]
    """None: not given."""
    note: str | None = None


class DataAblation(Config):
    """A row of the paper's table 2."""

    data: str
    values: list[float]
    intervals: list[tuple[float, float]]
    """Of the differences to s1K, in points."""


class PublishedMethod(Config):
    """A row of the paper's table 3, and the runs behind it."""

    method: str
    control: float
    """Percent, as printed."""
    scaling: float
    """As printed."""
    performance: float
    """Percent, as printed."""
    tokens: list[float]
    """Mean thinking tokens of each run."""
    solved: list[int]
    """Questions solved, of 30."""
    limits: list[float] | None = None
    """Thinking tokens that each run was asked for at most. None: kept to by construction, or not asked for."""
    note: str | None = None

    @property
    def control_of_runs(self) -> float | None:
        """Control as the runs come out, in percent; None where no limits are known."""
        if self.limits is None:
            return None
        return 100 * metrics.control(self.tokens, [(None, limit) for limit in self.limits])

    @property
    def scaling_of_runs(self) -> float | None:
        """Scaling as the runs come out: points per doubling of the thinking tokens."""
        return metrics.scaling(self.tokens, [solved / 30 for solved in self.solved])

    @property
    def scaling_as_written(self) -> float | None:
        """By the paper's formula, over tokens: points per 1,000 of them."""
        slope = metrics.scaling(self.tokens, [solved / 30 for solved in self.solved], "raw")
        return None if slope is None else 1000 * slope

    @property
    def performance_of_runs(self) -> float:
        """The best accuracy of the runs, in percent."""
        return 100 * metrics.performance([solved / 30 for solved in self.solved])


class Published(Config):
    """All of it."""

    benchmarks: list[str]
    accuracy: list[PublishedAccuracy]
    sources: dict[str, str]
    data_ablation: list[DataAblation]
    methods: list[PublishedMethod]
    figure_1: dict[str, list[tuple[float, float]]]
    figure_4_majority: list[float]


@functools.cache
def published() -> Published:
    """The figures of `s1.yaml`."""
    import yaml

    text = resources.files(__package__).joinpath("s1.yaml").read_text("utf-8")
    return Published.model_validate(yaml.safe_load(text))
