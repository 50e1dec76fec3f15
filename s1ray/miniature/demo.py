"""The demo: every stage of s1ray after the other, at laptop size, on a Ray cluster of its own.

    s1ray demo          # or: make demo

It is the recipe `run/miniature`, and a last screen that says what was seen. A stage that is complete is skipped; a
killed one is resumed. Whatever it starts (Ray, the training workers, the served models) it stops, also on Ctrl-C and
SIGTERM.
"""

from __future__ import annotations

from pathlib import Path

from s1ray.pipelines import load_pipeline, run_pipeline


def run_demo(output: Path, *, fresh: bool = False, questions: int = 500, dry_run: bool = False) -> None:
    """Run the system end to end.

    Args:
        output: folder of the runs and the report.
        fresh: run complete stages again.
        questions: held-out questions to measure on.
        dry_run: load every stage's config and say what would be run, and nothing else.
    """
    pipeline = load_pipeline("miniature", output=output, overrides=[f"eval.limit={questions}"])
    if dry_run:
        for line in pipeline.check():
            print(line)
        return
    run_pipeline(pipeline, force=fresh)
