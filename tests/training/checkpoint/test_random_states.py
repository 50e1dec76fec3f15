"""A worker's random states go to a file and come back."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from s1ray.manifests import RunError
from s1ray.training.checkpoint import random_states


def draw() -> list[float]:
    """A few numbers of each generator; an odd count of normal ones, of which generators keep the second."""
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), *torch.randn(3).tolist()]


def test_the_numbers_after_reading_are_those_after_writing(tmp_path: Path) -> None:
    draw()
    random_states.write(tmp_path / "states")
    first = draw()
    draw()
    random_states.read(tmp_path / "states")
    assert draw() == first


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"python": [3, [1, 2], null]}', b"\x80\x04\x8c\x05posix\x8c\x06system\x93.".decode("latin-1")],
    ids=["empty", "list", "nothing", "too short", "pickle"],
)
def test_anything_else_is_refused_by_the_name_of_the_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "states").write_text(content)
    with pytest.raises(RunError, match=r"states: not the random states of a worker \(.*delete this checkpoint"):
        random_states.read(tmp_path / "states")


def test_a_state_of_another_size_is_refused(tmp_path: Path) -> None:
    random_states.write(tmp_path / "states")
    states = json.loads((tmp_path / "states").read_text())
    (tmp_path / "states").write_text(json.dumps(states | {"torch": "00ff"}))
    with pytest.raises(RunError, match="states: not the random states"):
        random_states.read(tmp_path / "states")
