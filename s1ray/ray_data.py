"""Ray Data as a stage uses it: quiet, and patient."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

RESTARTS = "has constructor arguments in the object store and max_restarts > 0"
"""What Ray prints about every actor of Ray Data; harmless, because the driver holds the arguments."""


@contextlib.contextmanager
def quiet_ray_data() -> Iterator[None]:
    """Without Ray Data's progress bars and notes, and without a limit on the time between two blocks."""
    import ray

    context, logger = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    settings = {
        "enable_progress_bars": False,
        # A block that thinks for half an hour is not stuck.
        "execution_no_progress_timeout_s": -1,
        # The second reader starts an actor per file, up to 32, to read footers; our own parts are few and alike.
        "use_datasource_v2": False,
    }
    before, level = {name: getattr(context, name) for name in settings}, logger.level
    try:
        logger.setLevel(logging.ERROR)
        for name, value in settings.items():
            setattr(context, name, value)
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)


@contextlib.contextmanager
def on_nodes(labels: Mapping[str, str] | None) -> Iterator[None]:
    """Inside the block, Ray Data and tasks with `task_options` run on nodes with some labels. None: on any."""
    import ray

    options = ray.data.DataContext.get_current().execution_options
    before, options.label_selector = options.label_selector, None if labels is None else dict(labels)
    try:
        yield
    finally:
        options.label_selector = before


def task_options() -> dict[str, Any]:
    """Ray's options of a stage's own task: a CPU, on a node that `on_nodes` allows."""
    import ray

    selector = ray.data.DataContext.get_current().execution_options.label_selector
    return {"num_cpus": 1} | ({"label_selector": selector} if selector else {})
