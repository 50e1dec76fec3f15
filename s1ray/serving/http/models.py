"""The models of a server and their LoRA adapters: which there are, and what `/v1/models` says of each.

Imported only where the app is built and in the HTTP workers, because ray.serve.llm imports vLLM.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from s1ray.serving.config import ServedModel
from s1ray.serving.http.errors import RefusedError
from s1ray.serving.http.model_names import ModelNames
from s1ray.serving.ray_llm import ModelCard, ModelList, get_lora_model_ids, get_lora_model_metadata, to_model_metadata
from s1ray.serving.replica import adapters

if TYPE_CHECKING:
    from ray.serve.llm import LLMConfig

logger = logging.getLogger("ray.serve")


class Card(ModelCard):  # type: ignore[misc]  # Ray is untyped here
    """What `/v1/models` says of a model."""

    created: int
    """When the application was built, in seconds since the epoch."""


class Cards(ModelList):  # type: ignore[misc]  # Ray is untyped here
    """All models and their adapters."""

    data: list[Card]


class Models:
    """The models and their adapters, by the names that clients give.

    Args:
        cards: what is said of each model, by its name.
        aliases: other names of each.
        folders: where the adapters are of each that has some: a folder, or cloud storage.
    """

    def __init__(
        self, cards: Mapping[str, Card], aliases: Mapping[str, Iterable[str]], folders: Mapping[str, str]
    ) -> None:
        self.names = ModelNames(aliases)
        self._cards, self._folders = cards, folders

    def find(self, asked: str | None) -> str:
        """The own name of the model that a request asks for, with an adapter's that need not exist.

        Raises:
            RefusedError: there is no such model.
        """
        if asked is None and len(self._cards) > 1:
            message = "Model parameter is required when multiple models are configured. Available models"
            raise RefusedError(400, f"{message}: {list(self._cards)}", param="model")
        name = next(iter(self._cards)) if asked is None else self.names.own(asked)
        if base_of(name) not in self._cards:
            message = f'Got request for model "{name}". Could not find base model with ID "{base_of(name)}".'
            raise RefusedError(404, message, param="model")
        return name

    def check_adapter(self, name: str) -> None:
        """Refuse an adapter that is not there; for one in cloud storage, the replica does.

        Raises:
            RefusedError: there is no such adapter. The error lists those there are.
        """
        base, _, adapter = name.partition(":")
        if not adapter:
            return
        if base not in self._folders:
            raise RefusedError(404, f"the model {base!r} has no adapters; ask for {base!r}", param="model")
        if not adapters.is_remote(self._folders[base]):
            try:
                adapters.adapter_path(self._folders[base], adapter)
            except adapters.UnknownAdapterError as error:
                raise RefusedError(404, str(error), param="model") from None

    async def cards(self) -> list[Card]:
        """What is said of all models, and then of their adapters."""
        cards = list(self._cards.values())
        for base, folder in self._folders.items():
            if adapters.is_remote(folder):
                found = [await self._cloud_card(name, folder) for name in get_lora_model_ids(folder, base)]
                cards += [card for card in found if card is not None]
            else:
                cards += [changed(self._cards[base], id=f"{base}:{name}") for name in adapters.names_in(folder)]
        return cards

    async def card(self, name: str) -> Card:
        """What is said of a model or an adapter, by its own name, in which two dashes may stand for a slash.

        Raises:
            RefusedError: there is none.
        """
        name = name.replace("--", "/")
        base, _, adapter = name.partition(":")
        card, folder = self._cards.get(name), self._folders.get(base)
        if card is None and folder is not None:
            if adapters.is_remote(folder):
                card = await self._cloud_card(name, folder)
            elif adapter in adapters.names_in(folder):
                card = changed(self._cards[base], id=name)
        if card is None:
            message = f"Unable to find {name}. Please ensure that the model exists and you have permission."
            raise RefusedError(404, message, kind="InvalidModel")
        return card

    async def _cloud_card(self, name: str, folder: str) -> Card | None:
        """What is said of an adapter in cloud storage; None: it cannot be read there."""
        card = self._cards[base_of(name)]
        try:
            return changed(card, id=name, metadata=card.metadata | await get_lora_model_metadata(name, folder))
        except HTTPException:
            logger.exception("adapter %r is not shown: its adapter_config.json in %s cannot be read", name, folder)
            return None


def base_of(model: str) -> str:
    """The name of an adapter's model; of a model, its own."""
    return model.partition(":")[0]


def changed(card: ModelCard, **changes: object) -> Card:
    """A card with some fields changed."""
    other: Card = Card(**dict(card) | changes)
    return other


def model_card(model: ServedModel, llm_config: LLMConfig, created: int) -> Card:
    """What `/v1/models` says of a model.

    Args:
        model: the configuration.
        llm_config: ray.serve.llm's.
        created: when the application was built, in seconds since the epoch.
    """
    card = changed(to_model_metadata(model.name, llm_config), created=created)
    card.metadata |= {
        "thinking_format": model.thinking_format.name,
        "default_thinking_tokens": model.budgets.default,
        "maximum_thinking_tokens": model.budgets.maximum,
        "over_maximum": model.budgets.over_maximum,
        "effort": model.budgets.effort,
        "max_model_len": model.max_model_len,
        "aliases": model.aliases,
    }
    return card
