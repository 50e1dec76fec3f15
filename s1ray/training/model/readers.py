"""The small files of an exported folder, such that every reader of Hugging Face folders understands them.

config.json gets the fields of transformers 4 and 5. The tokenizer's files are those that training loaded, byte for byte
where both versions read them: a tokenizer that version 5 has saved anew does not load in version 4.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from s1ray.storage import write_json
from s1ray.training.model.spellings import joined_with_base, readable_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
)
"""Names that tokenizers of language models have; a class may add its own (`vocab_files_names`)."""
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
"""What readers of a model that also takes images or sound need beside its tokenizer."""


def join_config(folder: Path, base: str, commit: str | None) -> None:
    """Rewrite the folder's config.json for every reader; does nothing where there is none (an adapter's folder).

    Args:
        base: the base model, a folder or a Hugging Face id.
        commit: of the base model in the cache of Hugging Face's hub; None: the newest there.
    """
    path = folder / CONFIG
    if not path.is_file():
        return
    found = _file_of(base, CONFIG, commit)
    own = None if found is None else json.loads(found.read_text(encoding="utf-8"))
    written = json.loads(path.read_text(encoding="utf-8"))
    expected = _as_loaded(folder, written)
    for config in (joined_with_base(written, own), joined_with_base(written, own, older_rope=False), written):
        write_json(path, config)
        if expected is None or _as_loaded(folder, written) == expected:
            return


def _as_loaded(folder: Path, fields: Iterable[str]) -> dict[str, object] | None:
    """What transformers makes of a folder's config.json, in some fields; None: it cannot load it."""
    from transformers import AutoConfig

    try:
        found = AutoConfig.from_pretrained(folder, trust_remote_code=False).to_dict()
    except Exception:  # A family's config class raises all sorts of errors for fields that it does not expect.
        return None
    return {name: found.get(name) for name in (*fields, "rope_parameters")}


def copy_processor(folder: Path, base: str, commit: str | None) -> None:
    """Copy the base model's files about images and sound into the folder, where it has any.

    Args:
        base: the base model, a folder or a Hugging Face id.
        commit: of the base model in the cache of Hugging Face's hub; None: the newest there.
    """
    for name in PROCESSOR_FILES:
        if (original := _file_of(base, name, commit)) is not None:
            shutil.copyfile(original, folder / name)


def write_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase, source: str, commit: str | None) -> None:
    """Write the tokenizer's files into the folder, after its config.json.

    They are copied from where it was loaded. Where the copy does not load as the same tokenizer (files are missing, or
    it was changed in memory), it is saved anew instead.

    Args:
        source: what it was loaded from, a folder or a Hugging Face id.
        commit: of `source` in the cache of Hugging Face's hub; None: the newest there.
    """
    names = dict.fromkeys([*TOKENIZER_FILES, *tokenizer.vocab_files_names.values()])
    copied = []
    for name in names:
        if (original := _file_of(source, name, commit)) is not None:
            shutil.copyfile(original, folder / name)
            copied.append(folder / name)
    _mend(folder)
    if copied and _is_there(tokenizer, folder):
        return
    for file in copied:
        file.unlink()
    tokenizer.save_pretrained(folder)
    _mend(folder, tokenizer.chat_template)


def _mend(folder: Path, template: object = None) -> None:
    """Make tokenizer_config.json readable by version 4; a template goes into it as well as in a file of its own."""
    path = folder / TOKENIZER_CONFIG
    if not path.is_file():
        return
    settings = json.loads(path.read_text(encoding="utf-8"))
    mended = readable_tokenizer(settings) | ({"chat_template": template} if isinstance(template, str) else {})
    if mended != settings:
        write_json(path, mended)


def _is_there(tokenizer: PreTrainedTokenizerBase, folder: Path) -> bool:
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception:  # It is saved anew instead.
        return False
    return _parts(found) == _parts(tokenizer)


def _parts(tokenizer: PreTrainedTokenizerBase) -> tuple[object, ...]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = tokenizer.get_vocab() if backend is None else backend.to_str()
    return vocabulary, tokenizer.chat_template, tokenizer.special_tokens_map


def _file_of(source: str, name: str, commit: str | None) -> Path | None:
    """A file of a model that has been loaded; never from the network, as it would be asked at the end of a training."""
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(source, name, revision=commit)
    return Path(cached) if isinstance(cached, str) else None
