"""The random states of a worker, as JSON: torch's and CUDA's bytes in hexadecimal, numpy's and Python's numbers.

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import torch

from s1ray.manifests import RunError


def file_name(rank: int) -> str:
    """The name of a worker's file in a checkpoint."""
    return f"random_{rank}.json"


def write(file: Path) -> None:
    """Write the states of this process."""
    state = np.random.get_state(legacy=False)
    assert isinstance(state, dict)
    generator = state["state"]
    state["state"] = {"key": generator["key"].tolist(), "pos": int(generator["pos"])}
    states = {
        "torch": _hexadecimal(torch.get_rng_state()),
        "cuda": _hexadecimal(torch.cuda.get_rng_state()) if torch.cuda.is_available() else None,
        "numpy": state,
        "python": random.getstate(),
    }
    file.write_text(json.dumps(states), encoding="utf-8")


def read(file: Path) -> None:
    """Set the states of this process.

    Raises:
        RunError: the file is not as `write` writes it.
    """
    try:
        states = json.loads(file.read_text(encoding="utf-8"))
        version, numbers, following = states["python"]
        random.setstate((version, tuple(numbers), following))
        generator = states["numpy"]["state"]
        key = np.array(generator["key"], dtype=np.uint32)
        np.random.set_state({**states["numpy"], "state": {**generator, "key": key}})
        torch.set_rng_state(_bytes(states["torch"]))
        if states["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(_bytes(states["cuda"]))
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise RunError(
            f"{file}: not the random states of a worker ({error}); delete this checkpoint to resume from an older one, "
            "or to start again"
        ) from error


def _hexadecimal(state: torch.Tensor) -> str:
    return bytes(state.tolist()).hex()


def _bytes(text: str) -> torch.Tensor:
    return torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8)
