"""Scores the steps of responses with a Hugging Face checkpoint.

Imported only in replicas, because it imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from s1ray.errors import InputError
from s1ray.serving.reward.config import RewardConfig


@dataclass(frozen=True)
class Asked:
    """A response to score."""

    question: str
    steps: Sequence[str]


@dataclass(frozen=True)
class Scores:
    """What a response got."""

    scores: list[float]
    """One a step, in [0, 1]."""
    tokens: int
    """That the model has read for it."""


class RewardModel:
    """A checkpoint and its tokenizer on one device.

    Raises:
        InputError: there is no such checkpoint, it has no head that scores, or its separator is not one token.
    """

    def __init__(self, config: RewardConfig, device: str) -> None:
        self._config, self._device = config, device
        try:
            options = {"trust_remote_code": config.trust_remote_code}
            self._tokenizer = AutoTokenizer.from_pretrained(config.model, **options)
            kinds = AutoConfig.from_pretrained(config.model, **options).architectures or [""]
            self._by_sequence = kinds[0].endswith("ForSequenceClassification")
            self._model = _kind(kinds[0], config).from_pretrained(config.model, dtype="auto", **options)
        except (OSError, ValueError) as error:
            raise InputError(f"model: {config.model}: cannot be loaded: {error}") from None
        if device == "cpu":
            self._model = self._model.float()
        self._model = self._model.to(device).eval()
        separator = self._encode(config.separator)
        if len(separator) != 1:
            raise InputError(
                f"separator: {config.separator!r} is {len(separator)} tokens of {config.model}; give a text that is one"
            )
        self._separator = separator[0]

    def refusal(self, asked: Asked) -> str | None:
        """Why a response cannot be scored; None: it can."""
        if any(self._config.separator.strip() and self._config.separator in step for step in asked.steps):
            return f"steps: one holds the separator {self._config.separator!r}"
        tokens = len(self._ids(asked)[0])
        if tokens > self._config.max_tokens:
            return f"steps: {tokens} tokens with the question, but the model takes {self._config.max_tokens}"
        return None

    def score(self, batch: Sequence[Asked]) -> list[Scores]:
        """Score responses together.

        Args:
            batch: those that `refusal` has nothing against.
        """
        rows: list[tuple[list[int], list[int]]] = []
        for asked in batch:
            ids, ends = self._ids(asked)
            rows += [(ids[: end + 1], [end]) for end in ends] if self._by_sequence else [(ids, ends)]
        found = iter(self._probabilities(rows))
        results = []
        for asked in batch:
            ids, ends = self._ids(asked)
            if self._by_sequence:
                scores = [next(found)[0] for _ in ends]
                results.append(Scores(scores, sum(end + 1 for end in ends)))
            else:
                results.append(Scores(next(found), len(ids)))
        return results

    def _probabilities(self, rows: Sequence[tuple[list[int], list[int]]]) -> list[list[float]]:
        """The probability of the good label at each row's places."""
        longest = max(len(ids) for ids, _ in rows)
        padding = self._tokenizer.pad_token_id or 0
        ids_BT = torch.tensor([ids + [padding] * (longest - len(ids)) for ids, _ in rows], device=self._device)
        mask_BT = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows], device=self._device)
        with torch.inference_mode():
            output = self._model(input_ids=ids_BT, attention_mask=mask_BT)
        logits = (output["logits"] if "logits" in output else output[0]).float()
        if logits.shape[-1] == 1:
            good = logits[..., 0].sigmoid()
        elif self._config.good_label < logits.shape[-1]:
            good = logits.softmax(-1)[..., self._config.good_label]
        else:
            raise InputError(f"good_label: {self._config.good_label}, but the head has {logits.shape[-1]} classes")
        if self._by_sequence:
            return [[float(score)] for score in good]
        return [[float(good[row, end]) for end in ends] for row, (_, ends) in enumerate(rows)]

    def _ids(self, asked: Asked) -> tuple[list[int], list[int]]:
        """The prompt with the steps in ids, and the places of the separators."""
        system = self._config.system_prompt
        messages = [] if system is None else [{"role": "system", "content": system}]
        messages.append({"role": "user", "content": asked.question})
        prompt = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids, ends = self._encode(prompt), []
        for step in asked.steps:
            ids += [*self._encode(step), self._separator]
            ends.append(len(ids) - 1)
        return ids, ends

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids


def _kind(architecture: str, config: RewardConfig) -> Any:
    """The class that loads a checkpoint.

    Raises:
        InputError: the checkpoint has no head that scores.
    """
    if architecture.endswith("ForTokenClassification"):
        return AutoModelForTokenClassification
    if architecture.endswith("ForSequenceClassification"):
        return AutoModelForSequenceClassification
    if config.trust_remote_code:
        return AutoModel
    raise InputError(
        f"model: {config.model} is a {architecture or 'model without a named architecture'}, which scores no steps; "
        "give one for token or sequence classification (or set trust_remote_code for a class of its own)"
    )
