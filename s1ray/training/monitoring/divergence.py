"""When a step's update should not be applied: a loss or gradient norm that is no finite number, or a spike.

A spike is told by the running median of the steps before it, which a few bad ones do not move (a mean they would). The
values judged are those of the whole global batch, the same on every worker, so all workers come to the same verdict.
Steps that were left out do not enter the median.
"""

from __future__ import annotations

import collections
import math
import statistics
from collections.abc import Iterable

from s1ray.training.config import DivergenceConfig


class DivergenceMonitor:
    """Judges steps by the ones before them.

    Attributes:
        losses: of the last `config.window` applied steps, oldest first.
        norms: their gradient norms.
        skipped: steps that were left out so far.
    """

    def __init__(
        self, config: DivergenceConfig, *, losses: Iterable[float] = (), norms: Iterable[float] = (), skipped: int = 0
    ):
        self.losses = collections.deque(losses, maxlen=config.window)
        self.norms = collections.deque(norms, maxlen=config.window)
        self.skipped = skipped
        self._config = config

    def judge_loss(self, loss: float) -> str | None:
        """What is wrong with a loss; None: nothing."""
        return self._judge("loss", loss, self.losses, self._config.loss_factor)

    def judge_norm(self, norm: float) -> str | None:
        """What is wrong with a gradient norm; None: nothing."""
        # DeepSpeed writes norms that are no finite number as -1.
        norm = norm if norm >= 0 else math.nan
        return self._judge("gradient norm", norm, self.norms, self._config.gradient_factor)

    def accept(self, loss: float, norm: float) -> None:
        """Take note of a step that was applied."""
        self.losses.append(loss)
        self.norms.append(norm)

    @property
    def exhausted(self) -> bool:
        """Whether more steps were left out than the config allows."""
        return self.skipped > self._config.max_skips

    def _judge(self, name: str, value: float, before: collections.deque[float], factor: float | None) -> str | None:
        if not math.isfinite(value):
            return f"the {name} is {value}"
        if factor is None or len(before) < self._config.window:
            return None
        median = statistics.median(before)
        if value <= factor * median:
            return None
        return f"the {name} is {value:.4g}, over {factor:g} times the median {median:.4g} of {len(before)} steps"
