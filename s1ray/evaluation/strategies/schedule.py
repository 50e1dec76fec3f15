"""AlphaOne's schedule of slow and fast thinking (arXiv 2505.24863), which our server carries out."""

from __future__ import annotations

from pydantic import BaseModel

from s1ray.evaluation.strategies.server_option import ServerOption
from s1ray.thinking.schedule import Schedule


class ScheduleArm(ServerOption):
    """One request with `thinking.strategy.schedule`."""

    strategy: str = "schedule"
    schedule: Schedule
    """The fields of the server's option; `phase_tokens` is the mean length of the model's thinking on the benchmark."""

    @property
    def option(self) -> tuple[str, BaseModel]:
        """As the server reads it."""
        return "schedule", self.schedule

    def describe(self) -> str:
        """For example "alpha1 phase=120 alpha=1.4 max=256"."""
        schedule = self.schedule
        parts = [f"alpha1 phase={schedule.phase_tokens} alpha={schedule.alpha:g}"]
        if (schedule.p_start, schedule.p_end) != (1.0, 0.0):
            parts.append(f"p={schedule.p_start:g}-{schedule.p_end:g}")
        return self.labelled(*parts)
