"""torch's process group over the network that Ray uses (`s1ray.interfaces`).

Imports torch at the top, by way of Ray Train.
"""

from __future__ import annotations

from typing import Any

from ray.train.torch import TorchConfig

from s1ray.interfaces import name_interfaces


class NodeAddressConfig(TorchConfig):  # type: ignore[misc]  # Ray is untyped here
    """Ray Train's process group, over each node's own Ray address."""

    @property
    def backend_cls(self) -> type:
        """Ray Train's backend, which names the interface to the libraries first."""
        return _NodeAddressBackend


class _NodeAddressBackend(TorchConfig().backend_cls):  # type: ignore[misc]  # Ray is untyped here
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(name_interfaces)
        super().on_start(worker_group, backend_config)
