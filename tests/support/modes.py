"""Where HTTP requests are taken and answered: the ways in which an application can stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from s1ray.serving.local import Front


@dataclass(frozen=True)
class Mode:
    """One way."""

    name: str
    http: Literal["direct", "worker"]
    """`http` of the application."""
    front: Front
    """What takes the requests."""


MODES = [Mode("direct behind HAProxy", "direct", "haproxy"), Mode("worker behind Serve's proxy", "worker", "serve")]
