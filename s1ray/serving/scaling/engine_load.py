"""What autoscaling must know of an engine, kept from its steps as they happen.

vLLM hands its statistics of every step to loggers. This one keeps the last numbers, for a replica to report to Serve's
controller (`record_autoscaling_stats`): no request to the engine's process, no Prometheus text to parse.
"""

from __future__ import annotations

from typing import Any

from s1ray.serving.scaling.policy import ENGINE_RUNNING, ENGINE_WAITING, KV_CACHE_USAGE, REQUEST_SECONDS, SEQUENCES

MEMORY = 0.05
"""Weight of each request in the means: some twenty of them are remembered."""


class EngineLoad:
    """A stat logger of vLLM that only remembers."""

    def __init__(self) -> None:
        self._running: dict[int, int] = {}
        self._waiting: dict[int, int] = {}
        self._kv_usage: dict[int, float] = {}
        self._request_s = 0.0
        self._sequences = 1.0

    def record(
        self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
    ) -> None:
        """Take the statistics of one step of one engine core."""
        if scheduler_stats is not None:
            self._running[engine_idx] = scheduler_stats.num_running_reqs
            self._waiting[engine_idx] = scheduler_stats.num_waiting_reqs
            self._kv_usage[engine_idx] = scheduler_stats.kv_cache_usage
        for finished in iteration_stats.finished_requests if iteration_stats is not None else ():
            if self._request_s == 0:
                self._request_s = finished.e2e_latency
            self._request_s += MEMORY * (finished.e2e_latency - self._request_s)

    def begin(self, sequences: int) -> None:
        """A request for so many responses came in."""
        self._sequences += MEMORY * (sequences - self._sequences)

    def log_engine_initialized(self) -> None:
        """Nothing to log."""

    def log(self) -> None:
        """Nothing to log."""

    def record_sleep_state(self, is_awake: int, level: int) -> None:
        """Nothing to record."""

    def report(self, *, idle: bool) -> dict[str, float]:
        """The numbers for autoscaling. An engine that became idle by an abort takes no further step to say so."""
        return {
            ENGINE_RUNNING: 0.0 if idle else float(sum(self._running.values())),
            ENGINE_WAITING: 0.0 if idle else float(sum(self._waiting.values())),
            KV_CACHE_USAGE: 0.0 if idle or not self._kv_usage else sum(self._kv_usage.values()) / len(self._kv_usage),
            REQUEST_SECONDS: self._request_s,
            SEQUENCES: self._sequences,
        }
