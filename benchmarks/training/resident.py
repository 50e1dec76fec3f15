"""Resident memory of this process, from /proc (Linux)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def growth(work: Callable[[], object]) -> int:
    """The largest growth of resident memory while `work` runs, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # Resets the peak.
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def resident() -> dict[str, int]:
    """Resident memory now, in bytes: the process's own (RssAnon), and files that it has mapped (RssFile)."""
    return {field: _status(field) for field in ("RssAnon", "RssFile")}


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)
