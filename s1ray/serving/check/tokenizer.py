"""A model's `tokenizer.json` as a thinking format needs it, without transformers, which imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from s1ray.errors import InputError
from s1ray.serving.check.checkpoint import read_json


class FileTokenizer:
    """A `s1ray.thinking.format.Tokenizer`.

    Args:
        folder: with tokenizer.json, and tokenizer_config.json if it adds tokens.

    Raises:
        InputError: the files cannot be read.
    """

    eos_token_id = None

    def __init__(self, folder: Path) -> None:
        from tokenizers import AddedToken, Tokenizer

        self.name_or_path = str(folder)
        path = folder / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:
            # The library raises bare exceptions.
            raise InputError(f"{path} is no tokenizer ({error}); copy the model's files again") from None
        config = folder / "tokenizer_config.json"
        added = read_json(config).get("added_tokens_decoder") if config.is_file() else None
        fields = [token for token in added.values() if isinstance(token, dict)] if isinstance(added, dict) else []
        texts = [str(token["content"]) for token in fields if token.get("content")]
        self._tokenizer.add_special_tokens([AddedToken(text) for text in texts if not self._has(text)])

    def _has(self, text: str) -> bool:
        return self._tokenizer.token_to_id(text) is not None

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text."""
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """Text of token ids."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=skip_special_tokens))

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str | None]:
        """The vocabulary's own spelling of each id."""
        return [self._tokenizer.id_to_token(token_id) for token_id in ids]

    def get_added_vocab(self) -> dict[str, int]:
        """Tokens that were added to the trained vocabulary."""
        return {token.content: token_id for token_id, token in self._tokenizer.get_added_tokens_decoder().items()}

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))
