"""Early exit: thinking ends as soon as trial answers are confident (DEER) or stay the same (Dynasor).

Our server carries it out (`thinking.strategy.early_exit`); its account says what the probes cost, and that counts.
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from s1ray.evaluation.strategies.server_option import ServerOption
from s1ray.thinking.early_exit import EarlyExit


class EarlyExitArm(ServerOption):
    """One request, whose thinking the server probes and may end."""

    strategy: str = "early_exit"
    early_exit: EarlyExit = Field(default_factory=EarlyExit)
    """When it ends before the maximum: the fields of the server's option."""

    @property
    def option(self) -> tuple[str, BaseModel]:
        """As the server reads it."""
        return "early_exit", self.early_exit

    def describe(self) -> str:
        """For example "early exit confidence threshold=0.9 max=256"."""
        given = self.early_exit.model_dump(exclude_defaults=True, exclude={"kind"})
        settings = [f"{name}={','.join(v) if isinstance(v, tuple) else v}" for name, v in given.items()]
        return self.labelled("early exit", self.early_exit.kind, *settings).replace("\n", " ")
