"""Loading checkpoints without running what is in them.

DeepSpeed writes its states with `torch.save`, which pickles, and reads them with `weights_only=False` in a dozen
places: a file that someone else could write to would run that person's code. Inside `tensors_only` each `torch.load` of
this process takes tensors, plain values and the few classes that DeepSpeed's states contain, and refuses a file with
anything else in it, whatever the caller allows.

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import re
from collections.abc import Iterator
from typing import Any

import torch

from s1ray.manifests import RunError


@contextlib.contextmanager
def tensors_only() -> Iterator[None]:
    """Inside the block, `torch.load` loads no code.

    Raises:
        RunError: in the block, from `torch.load`: the file holds something else, or is none of torch's; names the file.
    """
    load = torch.load

    @functools.wraps(load)
    def safe(file: Any, *arguments: Any, **options: Any) -> Any:
        options["weights_only"] = True
        # `pickle_module` would replace the reader that refuses.
        options.pop("pickle_module", None)
        try:
            return load(file, *arguments[:1], **options)
        except (pickle.UnpicklingError, RuntimeError) as error:
            # A RuntimeError is anything, from a file that was cut to too little memory, or a format that holds code.
            if isinstance(error, RuntimeError) and "weights_only" not in str(error):
                raise
            raise RunError(
                f"{_name(file)}: refused, as it holds more than tensors and plain values, which could run code "
                f"({_reason(error)}); delete this checkpoint to resume from an older one, or to start again"
            ) from None

    torch.load = safe
    try:
        with torch.serialization.safe_globals(_deepspeeds()):
            yield
    finally:
        torch.load = load


def _deepspeeds() -> list[type]:
    """The classes in DeepSpeed's states: an enumeration and two records of numbers."""
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    return [LossScaler, ZeroStageEnum, fragment_address]


def _name(file: object) -> str:
    return os.fspath(file) if isinstance(file, str | os.PathLike) else str(getattr(file, "name", "a checkpoint"))


def _reason(error: Exception) -> str:
    """What torch found, of the advice that it gives in several lines."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    return f"it names {found.group(1)}" if found else str(error).splitlines()[-1]
