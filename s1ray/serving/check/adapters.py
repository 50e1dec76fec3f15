"""LoRA adapters of a served model, before a replica loads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from s1ray.errors import InputError
from s1ray.serving.check.checkpoint import read_json
from s1ray.serving.config import Adapters
from s1ray.serving.replica.adapters import ADAPTER_FILE, is_remote, names_in

ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")


def adapter_problems(adapters: Adapters) -> Iterator[str]:
    """Why adapters in a folder on this machine cannot be served; one message each, by its field of `Adapters`."""
    if is_remote(adapters.folder):
        return
    folder = Path(adapters.folder)
    if not folder.is_dir():
        if folder.exists() or not folder.is_absolute():
            yield f"folder: there is no folder {str(folder)!r}; give the full path of the adapters' folder"
        return
    for name in names_in(folder):
        try:
            yield from _adapter_problems(folder / name, adapters.max_rank)
        except InputError as error:
            yield f"folder: {error}"


def _adapter_problems(folder: Path, max_rank: int) -> Iterator[str]:
    config = read_json(folder / ADAPTER_FILE)
    pattern = config.get("rank_pattern")
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else ())]
    rank = max((rank for rank in ranks if isinstance(rank, int)), default=0)
    if rank > max_rank:
        yield f"max_rank: the adapter {folder} has rank {rank}, more than {max_rank}; raise max_rank"
    if not any((folder / name).is_file() for name in ADAPTER_WEIGHTS):
        yield f"folder: the adapter {folder} has no weights ({ADAPTER_WEIGHTS[0]}); copy its files again"
    if config.get("use_dora"):
        yield f"folder: the adapter {folder} uses DoRA, which vLLM cannot serve; train it without"
    if config.get("modules_to_save"):
        yield f"folder: the adapter {folder} has modules_to_save, which vLLM cannot serve; merge it into the model"
    if config.get("bias", "none") != "none":
        yield f"folder: the adapter {folder} trains biases, which vLLM cannot serve; train it with bias 'none'"


def adapter_warnings(adapters: Adapters) -> Iterator[str]:
    """What may be wrong with the adapters' folder."""
    if is_remote(adapters.folder):
        return
    folder = Path(adapters.folder)
    if not folder.is_dir():
        yield f"no folder {folder} on this machine; every serving node needs it for the adapters"
    elif not names_in(folder):
        yield f"{folder} holds no adapter yet: each is a subfolder with {ADAPTER_FILE}"
