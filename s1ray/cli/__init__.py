"""The `s1ray` command: one subcommand a stage, each a recipe or a YAML file, and overrides.

    s1ray curate --config miniature --set selection.size=500 --dry-run

Nothing heavy is imported here or at help time. The scripts in jobs/ call the same commands, so `ray job submit` and a
laptop do the same thing.
"""

from __future__ import annotations

import sys

from s1ray.cli import cluster, exports, grading, serving, several, stages
from s1ray.cli.app import app

__all__ = ["app", "cluster", "exports", "grading", "job", "serving", "several", "stages"]


def job(stage: str) -> None:
    """Run one stage, or `run`, as a script of its own (jobs/*.py)."""
    app([stage, *sys.argv[1:]])
