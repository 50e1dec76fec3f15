"""How long texts are, in tokens of a tokenizer, or in words where none is configured."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from s1ray.errors import InputError
from s1ray.models import resolve_model
from s1ray.storage import local_model


def length_counter(tokenizer: str | None) -> Callable[[Sequence[str]], list[int]]:
    """A function from texts to their lengths.

    Args:
        tokenizer: a folder with a `tokenizer.json`, such a file, or a Hugging Face id. None: words are counted.

    Raises:
        InputError: no tokenizer can be loaded from there.
    """
    if tokenizer is None:
        return lambda texts: [len(text.split()) for text in texts]
    from tokenizers import Tokenizer

    tokenizer = local_model(resolve_model(tokenizer))
    path = Path(tokenizer)
    file = path / "tokenizer.json" if os.path.isdir(path) else path
    try:
        loaded = Tokenizer.from_file(str(file)) if os.path.isfile(file) else Tokenizer.from_pretrained(tokenizer)
    except Exception as error:  # tokenizers raises bare Exception
        raise InputError(
            f"tokenizer: {tokenizer!r} is neither a folder with a tokenizer.json nor a Hugging Face id that can be "
            f"loaded: {error}"
        ) from error
    return lambda texts: [len(encoding) for encoding in loaded.encode_batch(list(texts), add_special_tokens=False)]
