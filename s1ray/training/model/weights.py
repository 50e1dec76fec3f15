"""Whether a model's files hold the weights that its config asks for, and no others of its layers.

transformers fills in random numbers for weights that are missing, with no more than a log line. Before a run the names
and shapes in the files' headers are loaded into a model without weights, with transformers' own renaming; the workers
look at the same report again, on what they have loaded.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1ray.config import ConfigError
from s1ray.training.model.checks import text_config
from s1ray.training.model.pretrained import one_line

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

log = logging.getLogger("s1ray")

_FORMATS = ("model.safetensors", "pytorch_model.bin")
"""In the order in which transformers looks for them, each before its index."""
_LFS_POINTER = b"version https://git-lfs"


def check_weights(model: str, network: PreTrainedModel) -> None:
    """Refuse a model whose files do not hold its weights; reads no more than their headers.

    Files that are not on this machine yet are left to the workers.

    Args:
        model: a folder, or a Hugging Face id.
        network: the model without weights.

    Raises:
        ConfigError: files are missing or damaged, or hold other weights than its config asks for.
    """
    if getattr(network.config, "transformers_weights", None) is not None:
        return  # The config names a file of its own.
    files = _files(model)
    for file in files:
        with file.open("rb") as opened:
            if opened.read(len(_LFS_POINTER)) == _LFS_POINTER:
                raise ConfigError(
                    f"model {model}: {file.name} is only a pointer of Git LFS; fetch it with `git lfs pull`"
                )
    if not files or files[0].suffix != ".safetensors":
        return
    weights: dict[str, torch.Tensor] = {}
    for file in files:
        weights |= _read_header(model, file)
    unexpected = check_report(_report_of(model, network, weights), network, model)
    if unexpected:
        log.warning(
            "model %s: %d weights in its files are no part of %s and are not loaded (%s)",
            model,
            len(unexpected),
            type(network).__name__,
            _some(unexpected),
        )


def check_report(report: dict[str, Any], network: PreTrainedModel, model: str) -> list[str]:
    """Refuse a model that was not loaded whole.

    Buffers may be missing: a class computes them. Weights that the class does not have may be left out, such as an
    image encoder's, but not layers like those that it has.

    Args:
        report: transformers' `output_loading_info`.
        network: the model, with or without weights.
        model: its name, for the message.

    Returns:
        The weights that were left out.

    Raises:
        ConfigError: weights are missing, have other shapes, or belong to more layers than the config says.
    """
    names = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    advice = "give files that are whole, with the config.json that belongs to them"
    if missing := sorted(names & set(report["missing_keys"])):
        raise ConfigError(
            f"model {model}: its files lack {len(missing)} of the {len(names)} weights of {type(network).__name__} "
            f"({_some(missing)}); {advice}"
        )
    if other := sorted(report["mismatched_keys"], key=lambda entry: str(entry[0])):
        name, found, expected = other[0]
        raise ConfigError(
            f"model {model}: {len(other)} weights in its files do not have the shape that its config.json says "
            f"({name}: {_shape(found)} instead of {_shape(expected)}); {advice}"
        )
    unexpected = sorted(report["unexpected_keys"])
    if beyond := _beyond(unexpected, network):
        raise ConfigError(
            f"model {model}: its files hold more layers than its config.json says: {len(beyond)} weights would be left "
            f"out ({_some(beyond)}); {advice}"
        )
    return unexpected


def _files(model: str) -> list[Path]:
    """The files of a model's weights; empty where they are not on this machine yet."""
    folder = _snapshot(model)
    if folder is None:
        return []
    for name in _FORMATS:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if index.is_file():
            files = [folder / file for file in _files_of_index(model, index)]
            absent = [file.name for file in files if not file.is_file()]
            if absent and not Path(model).is_dir():
                return []
            if absent:
                raise ConfigError(
                    f"model {model}: {index.name} names {len(absent)} file(s) that are not there ({_some(absent)}); "
                    "fetch them"
                )
            return files
    if not Path(model).is_dir():
        return []
    raise ConfigError(f"model {model}: it has no weights: there is no {_FORMATS[0]}, nor {_FORMATS[0]}.index.json")


def _snapshot(model: str) -> Path | None:
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(model, "config.json")
    return Path(cached).parent if isinstance(cached, str) else None


def _files_of_index(model: str, index: Path) -> list[str]:
    try:
        return sorted({str(file) for file in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"model {model}: {index.name} cannot be read ({one_line(error)}); fetch it again") from error


def _read_header(model: str, file: Path) -> dict[str, torch.Tensor]:
    """The weights of a file as tensors without content."""
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return {
                name: torch.empty(opened.get_slice(name).get_shape(), device="meta")
                for name in opened.keys()  # noqa: SIM118 (it is no mapping)
            }
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"model {model}: {file.name} is damaged ({one_line(error)}); fetch it again") from error


def _report_of(model: str, network: PreTrainedModel, weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        with _without_transformers_report():
            _, report = type(network).from_pretrained(
                None,
                config=network.config,
                state_dict=weights,
                device_map="meta",
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except (RuntimeError, ValueError) as error:  # Files that cannot be rearranged into the model's weights, say.
        raise ConfigError(
            f"model {model}: its files do not hold the weights that its config.json says ({one_line(error)})"
        ) from error
    found: dict[str, Any] = report
    return found


@contextlib.contextmanager
def _without_transformers_report() -> Iterator[None]:
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def _beyond(unexpected: list[str], network: PreTrainedModel) -> list[str]:
    """Weights of layers (or experts) in a list that the model has, but beyond its end."""
    lengths: dict[str, int] = {}
    for name, _ in network.named_parameters():
        for prefix, number in _numbers(name):
            lengths[prefix] = max(lengths.get(prefix, 0), number + 1)
    text = text_config(network.config)
    # These follow the decoder's layers in the files of some families, whose classes leave them out.
    predicting = getattr(text, "num_nextn_predict_layers", None) or 0
    for prefix, length in lengths.items():
        if length == getattr(text, "num_hidden_layers", None):
            lengths[prefix] = length + predicting
    return [
        name
        for name in unexpected
        if any(number >= lengths[prefix] for prefix, number in _numbers(name) if prefix in lengths)
    ]


def _numbers(name: str) -> Iterator[tuple[str, int]]:
    for found in re.finditer(r"(?<=\.)\d+(?=\.)", name):
        yield name[: found.start()], int(found[0])


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _shape(shape: Any) -> str:
    return " x ".join(map(str, shape))
