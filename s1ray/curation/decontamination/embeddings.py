"""Questions whose meaning is close to a benchmark question's, by a sentence encoder.

Milliseconds a row on a CPU, so the tier is off by default.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from s1ray.curation.config import DecontaminationConfig
from s1ray.curation.decontamination.hits import Hit, shown
from s1ray.curation.encoder import check_encoder, encoder
from s1ray.curation.text.blocks import TokenBlock
from s1ray.storage import Location, location

FIELD = "decontamination.encoder"


def check_meanings(config: DecontaminationConfig) -> None:
    """Look whether the encoder that a config's tiers need may be there; nothing is loaded.

    Raises:
        ConfigError: it is not.
    """
    drops, reviews = config.tiers()
    if "embedding" in drops | reviews and config.encoder is not None:
        check_encoder(location(config.encoder), FIELD)


class Meanings:
    """Benchmark questions by their embeddings."""

    def __init__(
        self,
        questions: Sequence[tuple[str, str]],
        block: TokenBlock,
        folder: Location,
        cosine: float,
        *,
        same_numbers: bool,
    ) -> None:
        """Embed the questions; hits are at least `cosine` close, and have the same numbers where that is asked."""
        self.questions, self.folder, self.cosine, self.same_numbers = questions, folder, cosine, same_numbers
        self.vectors = encoder(folder, FIELD).embed([question for _, question in questions])
        self.numbers = [_numbers(block.words(row)) for row in range(len(block))]

    def find(self, texts: Sequence[str], block: TokenBlock) -> dict[int, Hit]:
        """The closest benchmark question with the same numbers of each text that has one."""
        hits: dict[int, Hit] = {}
        if not self.questions or not texts:
            return hits
        closeness = encoder(self.folder, FIELD).embed(texts) @ self.vectors.T
        for row, number in np.argwhere(closeness >= self.cosine).tolist():
            score = round(float(closeness[row, number]), 3)
            same = not self.same_numbers or _numbers(block.words(row)) == self.numbers[number]
            if same and (row not in hits or score > hits[row].score):
                label, asked = self.questions[number]
                hits[row] = Hit("embedding", label, shown(texts[row]), shown(asked), min(score, 1.0))
        return hits


def _numbers(words: Sequence[str]) -> Counter[str]:
    return Counter(word for word in words if word[0].isdigit())
