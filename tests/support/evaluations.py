"""Evaluations in tests: without an endpoint."""

from __future__ import annotations

import dataclasses
import functools

from s1ray.evaluation.config import EvalConfig
from s1ray.evaluation.runner import Engines, evaluate, work
from s1ray.runs import Run


def run_eval(config: EvalConfig, *, force: bool = False, engines: Engines | None = None) -> Run:
    """The eval stage, answered by generators of a test."""
    stage = dataclasses.replace(evaluate, work=functools.partial(work, engines=engines))
    return stage(config, force=force)
