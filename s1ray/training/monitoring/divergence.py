"""Detects divergence: a step whose loss or gradient norm is not finite, or is a spike, should not be applied.

A spike is measured against the running median of earlier steps, which a few bad ones do not move as they would a mean.
The values are those of the whole global batch, the same on every worker, so all workers reach the same verdict. Skipped
steps do not enter the median.
"""

from __future__ import annotations

import collections
import math
import statistics
from collections.abc import Iterable

from s1ray.training.config import DivergenceConfig


class DivergenceMonitor:
    """Compares steps with the ones before them.

    Attributes:
        losses: of the last `config.window` applied steps, oldest first.
        norms: their gradient norms.
        skipped: steps skipped so far.
    """

    def __init__(
        self, config: DivergenceConfig, *, losses: Iterable[float] = (), norms: Iterable[float] = (), skipped: int = 0
    ):
        self.losses = collections.deque(losses, maxlen=config.window)
        self.norms = collections.deque(norms, maxlen=config.window)
        self.skipped = skipped
        self._config = config

    def check_loss(self, loss: float) -> str | None:
        """What is wrong with a loss; None: nothing."""
        return self._check("loss", loss, self.losses, self._config.loss_factor)

    def check_norm(self, norm: float) -> str | None:
        """What is wrong with a gradient norm; None: nothing."""
        # DeepSpeed reports a norm that is not finite as -1.
        norm = norm if norm >= 0 else math.nan
        return self._check("gradient norm", norm, self.norms, self._config.gradient_factor)

    def accept(self, loss: float, norm: float) -> None:
        """Record a step that was applied."""
        self.losses.append(loss)
        self.norms.append(norm)

    @property
    def exhausted(self) -> bool:
        """Whether more steps were skipped than the config allows."""
        return self.skipped > self._config.max_skips

    def _check(self, name: str, value: float, before: collections.deque[float], factor: float | None) -> str | None:
        if not math.isfinite(value):
            return f"the {name} is {value}"
        if factor is None or len(before) < self._config.window:
            return None
        median = statistics.median(before)
        if value <= factor * median:
            return None
        return f"the {name} is {value:.4g}, over {factor:g} times the median {median:.4g} of {len(before)} steps"
