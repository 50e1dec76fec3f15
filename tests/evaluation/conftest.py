"""Finished eval runs with invented rows, for everything that only reads results."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.evaluations import finished_run

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A function that writes a finished run into the test's own folder; see `finished_run`."""
    return functools.partial(finished_run, tmp_path)


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with nothing special about it, to read only."""
    return finished_run(tmp_path_factory.mktemp("plain"))
