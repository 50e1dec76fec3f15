"""LoRA adapters of a served model: which there are, and where a replica finds them.

A client asks for an adapter as `model: <model's name>:<adapter's name>`. ray.serve.llm loads adapters on first use,
keeps the most recently used ones on each replica, and routes a request to a replica that has its adapter; but it reads
cloud storage only. Here a plain folder works as well (`s1ray train` writes one): each adapter is a subfolder of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from s1ray.errors import InputError

if TYPE_CHECKING:
    from ray.serve.llm import LLMConfig

    from s1ray.serving.config import Adapters
    from s1ray.serving.ray_llm import DiskMultiplexConfig

ADAPTER_FILE = "adapter_config.json"
"""peft's; what makes a folder an adapter."""


class UnknownAdapterError(InputError):
    """There is no such adapter; the client gets this message with 404."""


def is_remote(path: str) -> bool:
    """Whether adapters are in cloud storage, and not in a folder that all nodes see."""
    return "://" in path


def absolute(adapters: Adapters | None) -> Adapters | None:
    """Adapters with a full path: replicas have another working folder."""
    if adapters is None or is_remote(adapters.folder):
        return adapters
    return adapters.model_copy(update={"folder": str(Path(adapters.folder).absolute())})


def downloader(adapters: Adapters | None) -> Callable[..., FolderLoader] | None:
    """What loads a model's adapters; None: ray.serve.llm itself."""
    return None if adapters is None or is_remote(adapters.folder) else partial(FolderLoader, adapters.folder)


def names_in(folder: str | Path) -> list[str]:
    """The adapters in a folder, by name; none where there is no folder."""
    root = Path(folder)
    return sorted(path.parent.name for path in root.glob(f"*/{ADAPTER_FILE}")) if root.is_dir() else []


def adapter_path(folder: str | Path, name: str) -> Path:
    """The folder of one adapter.

    Raises:
        UnknownAdapterError: it is not there.
    """
    # The name comes from a client: it must not lead out of the folder.
    path = Path(folder) / name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or not (path / ADAPTER_FILE).is_file():
        known = ", ".join(names_in(folder)) or "none"
        raise UnknownAdapterError(f"there is no adapter {name!r}; adapters of this model: {known}")
    return path


class FolderLoader:
    """A LoRA model loader, in ray.serve.llm's terms, for adapters in a folder: nothing is copied.

    Args:
        folder: of the adapters.
        options: ray.serve.llm's settings for downloads.
    """

    def __init__(self, folder: str, **options: object) -> None:
        self._folder = folder

    async def load_model_from_config(self, lora_model_id: str, llm_config: LLMConfig) -> DiskMultiplexConfig:
        """Describe an adapter to the engine.

        Raises:
            UnknownAdapterError: it is not there.
        """
        from s1ray.serving.ray_llm import DiskMultiplexConfig, global_id_manager

        _, _, name = lora_model_id.partition(":")
        return DiskMultiplexConfig(
            model_id=lora_model_id,
            max_total_tokens=None,
            local_path=str(adapter_path(self._folder, name)),
            lora_assigned_int_id=global_id_manager.next(),
        )
