"""The states of a response, as `forcer.py` tells them."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """Where a response is."""

    START = "start"
    THINK = "think"
    WAIT = "wait"
    END = "end"
    ANSWER = "answer"
    CLOSE = "close"
