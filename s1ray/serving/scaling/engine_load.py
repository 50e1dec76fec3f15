"""An engine's load, for autoscaling.

vLLM passes the statistics of every step to its stat loggers. This one keeps the latest numbers, which the replica
reports to Serve's controller (`record_autoscaling_stats`) without a request to the engine's process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s1ray.serving.scaling.policy import ENGINE_RUNNING, ENGINE_WAITING, KV_CACHE_USAGE, REQUEST_SECONDS, SEQUENCES

if TYPE_CHECKING:
    from vllm.v1.metrics.stats import IterationStats, MultiModalCacheStats, SchedulerStats

WEIGHT = 0.05
"""Weight of the newest request in the moving averages: they cover about twenty requests."""


class EngineLoad:
    """A vLLM stat logger that keeps the latest numbers."""

    def __init__(self) -> None:
        self._running: dict[int, int] = {}
        self._waiting: dict[int, int] = {}
        self._kv_usage: dict[int, float] = {}
        self._request_s = 0.0
        self._sequences = 1.0

    def record(
        self,
        scheduler_stats: SchedulerStats | None,
        iteration_stats: IterationStats | None,
        mm_cache_stats: MultiModalCacheStats | None = None,
        engine_idx: int = 0,
    ) -> None:
        """Keep the statistics of one step of one engine core."""
        if scheduler_stats is not None:
            self._running[engine_idx] = scheduler_stats.num_running_reqs
            self._waiting[engine_idx] = scheduler_stats.num_waiting_reqs
            self._kv_usage[engine_idx] = scheduler_stats.kv_cache_usage
        for finished in iteration_stats.finished_requests if iteration_stats is not None else ():
            if self._request_s == 0:
                self._request_s = finished.e2e_latency
            self._request_s += WEIGHT * (finished.e2e_latency - self._request_s)

    def begin(self, sequences: int) -> None:
        """Count a new request for a number of responses."""
        self._sequences += WEIGHT * (sequences - self._sequences)

    def log_engine_initialized(self) -> None:
        """Nothing to log."""

    def log(self) -> None:
        """Nothing to log."""

    def record_sleep_state(self, is_awake: int, level: int) -> None:
        """Nothing to record."""

    def report(self, *, idle: bool) -> dict[str, float]:
        """The numbers for autoscaling.

        Args:
            idle: the engine has no requests. After an abort it takes no further step, so its statistics do not show it.
        """
        return {
            ENGINE_RUNNING: 0.0 if idle else float(sum(self._running.values())),
            ENGINE_WAITING: 0.0 if idle else float(sum(self._waiting.values())),
            KV_CACHE_USAGE: 0.0 if idle or not self._kv_usage else sum(self._kv_usage.values()) / len(self._kv_usage),
            REQUEST_SECONDS: self._request_s,
            SEQUENCES: self._sequences,
        }
