"""The names under which clients ask for models: the models' own, and aliases."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from s1ray.serving.http.dialects.base import Events

MODEL = re.compile(r'("model": ?)"(?:[^"\\]|\\.)*"')
"""The model's name in an event of the engine's stream. In a text its quotes would have backslashes before them."""


class ModelNames:
    """Finds the model that a name stands for.

    Args:
        aliases: of each model, by its own name; `*` stands for any text.
    """

    def __init__(self, aliases: Mapping[str, Iterable[str]]) -> None:
        self._models = set(aliases)
        owners = {alias: model for model, names in aliases.items() for alias in names}
        self._exact = {alias: model for alias, model in owners.items() if "*" not in alias}
        # The longest comes first: of two that match, it says more of the name.
        by_length = sorted(owners.keys() - self._exact.keys(), key=lambda alias: (-len(alias.replace("*", "")), alias))
        self._patterns = [
            (re.compile(".*".join(map(re.escape, alias.split("*")))), owners[alias]) for alias in by_length
        ]

    def own(self, name: str) -> str:
        """A model's own name, with the adapter that follows a colon; a name that stands for no model, as it is."""
        base, colon, adapter = name.partition(":")
        if base in self._models:
            return name
        if (model := self._exact.get(base)) is None:
            model = next((model for pattern, model in self._patterns if pattern.fullmatch(base)), base)
        return f"{model}{colon}{adapter}"


def renamed(events: Events, model: str) -> Events:
    """The same rewriting of a stream, of events that bear another model's name."""
    shown = json.dumps(model)
    return lambda texts: events([MODEL.sub(lambda found: found[1] + shown, text, count=1) for text in texts])
