"""Files that would run a command when they are unpickled: they create a file, the mark."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from s1ray.manifests import RunError

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


class Payload:
    """Pickles as a call."""

    def __init__(self, mark: Path):
        self._mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self._mark}'",)


def craft(file: Path, mark: Path) -> None:
    """Replace a file of `torch.save` by one that makes a mark."""
    import torch

    torch.save({"module": {}, "payload": Payload(mark)}, file)


def refusals(model: str, folder: str, stages: list[str], *, rank: int, world_size: int) -> dict[str, list[str]]:
    """Put a crafted file in the place of each file of a checkpoint in turn, and load or convert the checkpoint.

    Files of one name in several folders, one for each weight, are tried once.

    Args:
        stages: names of `state_cases.CASES`.

    Returns:
        What was done -> a line for each file: its name, and what was raised ("nothing" for nothing).
    """
    from s1ray.training.checkpoint import universal
    from s1ray.training.checkpoint.tensors_only import tensors_only
    from tests.support import state_cases as cases

    found: dict[str, list[str]] = {}

    def attempt(what: str, saved: Path, load: Callable[[], object]) -> None:
        for file in {file.name: file for file in sorted(saved.rglob("*.pt"))}.values():
            mark, kept = Path(folder) / f"mark-{len(found)}-{file.name}", file.read_bytes()
            craft(file, mark)
            try:
                load()
                outcome = "nothing"
            except RunError as error:
                outcome = str(error)
            found.setdefault(what, []).append(f"{file.name}: {outcome}{', but it was run' if mark.exists() else ''}")
            file.write_bytes(kept)

    def as_it_is(engine: DeepSpeedEngine, saved: Path) -> str | None:
        with tensors_only():
            path: str | None = engine.load_checkpoint(str(saved), tag=cases.TAG)[0]
        return path

    for name in stages:
        case = cases.Case(model, Path(folder, name), cases.CASES[name], rank, world_size)
        engine, saved, converted = case.engine(), Path(folder, name, "saved"), Path(folder, name, "converted")
        case.train(engine, 0, 1)
        case.save(engine, "saved")
        load: Callable[[], str | None] = partial(as_it_is, engine.deepspeed, saved)
        attempt(f"{name}, loaded", saved, load)
        assert load() is not None
        if case.config.zero_stage > 0:
            convert = partial(universal.convert, saved, converted, tag=cases.TAG, processes=2)
            attempt(f"{name}, converted", saved, convert)
            convert()
            attempt(
                f"{name}, loaded as converted",
                converted,
                partial(universal.load, engine.deepspeed, converted, tag=cases.TAG),
            )
    return found
