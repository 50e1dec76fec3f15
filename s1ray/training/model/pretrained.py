"""Where a pretrained model is, and its config: what is wrong with either is said in one line, before weights are read.

A folder is read as it is. The Hugging Face Hub is asked once, with a short limit: transformers itself tries for half a
minute for each file, where the Hub cannot be reached. Code that comes with a model is never run.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

from s1ray.config import ConfigError
from s1ray.models import check_model

if TYPE_CHECKING:
    from transformers import PretrainedConfig

HUB_SECONDS = 5.0
"""How long the Hub may take to answer whether it has a model."""
_FILES = ("config.json", "tokenizer_config.json", "tokenizer.json")
"""One of these is in the cache where anything of a model is."""
_UNKNOWN_FAMILY = "does not recognize this architecture"
"""transformers' words about a `model_type` that it lacks."""


def only_cached(model: str, field: str) -> bool:
    """Whether a model is to be read from the Hub's cache alone, because the Hub does not answer.

    Args:
        model: a resolved `ModelPath`.
        field: of the config, for the message.

    Raises:
        ConfigError: it is nowhere.
    """
    if os.path.isdir(model):
        return False
    check_model(model, field)
    if "://" in model:
        raise ConfigError(
            f"{field}: {model!r}: training takes a folder or a Hugging Face id; download it into a folder"
        )
    problem = _hub_problem(model)
    if problem is None:
        return False
    from huggingface_hub import try_to_load_from_cache

    if any(isinstance(try_to_load_from_cache(model, name), str) for name in _FILES):
        return True
    raise ConfigError(f"{field}: {model!r}: no such folder, and {problem}")


@functools.lru_cache(maxsize=8)
def _hub_problem(model: str) -> str | None:
    """Why the Hub cannot give a model; None: it can, as far as it says."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        huggingface_hub.model_info(model, timeout=HUB_SECONDS)
    except RepositoryNotFoundError:
        return "the Hugging Face Hub has no such model (or it is private or gated: `hf auth login`)"
    except HFValidationError:
        return "it is no Hugging Face id (owner/name) either"
    except HfHubHTTPError:
        return None  # It answers, and loading the files says more.
    except Exception as error:  # Each version of the client has connection errors of its own.
        return (
            f"the Hugging Face Hub cannot be reached from here ({one_line(error)}); give a folder, or download the "
            "model into the Hub's cache"
        )
    return None


def load_config(model: str) -> PretrainedConfig:
    """A model's config.

    Raises:
        ConfigError: it is nowhere, transformers cannot use it, or it needs code of its own.
    """
    from transformers import AutoConfig

    cached = only_cached(model, "model")
    try:
        return AutoConfig.from_pretrained(model, trust_remote_code=False, local_files_only=cached)
    except Exception as error:  # A family's config class raises all sorts of errors for values that it cannot use.
        advice = "; install a newer transformers" if _UNKNOWN_FAMILY in str(error) else ""
        raise ConfigError(f"model {model}: its config.json cannot be used ({why_not_loaded(error)}){advice}") from error


def why_not_loaded(error: Exception) -> str:
    """Why transformers could not load a config, a tokenizer or a model, in one line."""
    if "trust_remote_code" in str(error):
        return "it needs code of its own, which s1ray does not run"
    return one_line(error)


def one_line(error: Exception) -> str:
    """An error's kind, and the first paragraph of its message."""
    text = " ".join(str(error).strip().split("\n\n")[0].split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
