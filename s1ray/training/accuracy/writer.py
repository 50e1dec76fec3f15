"""Writes the models whose accuracy is measured, on the training workers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from s1ray.storage import Location
from s1ray.training.accuracy.snapshots import Snapshots, not_measured
from s1ray.training.config import AccuracyConfig

log = logging.getLogger("s1ray")

POLL_SECONDS = 0.5


class SnapshotWriter:
    """Writes a snapshot where one is due; every worker has one, and all must make the same calls."""

    def __init__(
        self, config: AccuracyConfig, output: Location, export_to: Callable[[Location], str | None], *, rank: int
    ) -> None:
        """Prepare to write.

        Args:
            output: the run folder.
            export_to: writes the model to a folder; every worker must call it. Gives all of them the reason why it
                could not be written.
        """
        self._config = config
        self._snapshots = Snapshots(output)
        self._export_to = export_to
        self._rank = rank

    def after_step(self, finished_steps: int) -> None:
        """Write the model if it is due; with `pause` also wait until it is measured."""
        if finished_steps % self._config.every:
            return
        # At most one model waits: a measurement that takes longer than its interval must not fill the disk.
        self._wait_until_measured()
        problem = self._export_to(self._snapshots.model(finished_steps))
        if problem is not None and self._rank == 0:
            self._snapshots.record(not_measured(finished_steps, problem))
            log.warning("train: the accuracy after step %d is not measured: %s", finished_steps, problem)
        if self._config.pause:
            self._wait_until_measured()

    def _wait_until_measured(self) -> None:
        """Wait for the process that started the run; a file is there for all workers, so no collective can time out."""
        while self._snapshots.waiting():
            time.sleep(POLL_SECONDS)
