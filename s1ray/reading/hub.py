"""Data sets of the Hugging Face Hub, streamed."""

from __future__ import annotations

import dataclasses

from s1ray.errors import UnreachableError
from s1ray.reading.files import DataFile
from s1ray.reading.items import Items, Unusable, beginning
from s1ray.reading.pieces import Piece, ReadOptions

HUB_TIMEOUT_S = 10.0
"""How long the Hub may take to say that it is there."""


def hub_piece(repository: str, subset: str | None, split: str) -> Piece:
    """A split as a piece; its file is an address that only `hub_records` can read."""
    return Piece(DataFile("/".join(part for part in ("hub", repository, subset, split) if part), "json"))


def hub_is_offline() -> bool:
    """Whether the environment says to ask the Hub nothing, so that only its cache is read (HF_HUB_OFFLINE,
    HF_DATASETS_OFFLINE).
    """
    import datasets

    return bool(datasets.config.HF_HUB_OFFLINE)


def check_hub(advice: str) -> None:
    """Look whether the Hub answers at all; offline it is not asked. The libraries try for half a minute and longer.

    Args:
        advice: what to do without network, for the message.

    Raises:
        UnreachableError: it does not.
    """
    import datasets
    import httpx

    if hub_is_offline():
        return
    address = datasets.config.HF_ENDPOINT
    try:
        httpx.head(address, timeout=HUB_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnreachableError(
            f"the Hugging Face Hub ({address}) does not answer: {error or type(error).__name__}; without "
            f"network, {advice}"
        ) from error


def hub_records(
    repository: str,
    subset: str | None,
    split: str,
    revision: str | None,
    options: ReadOptions,
    *,
    streaming: bool = True,
    advice: str = "export it to Parquet and use a source of kind `files`",
) -> Items:
    """The rows of a split that match, and those that cannot be compared.

    Args:
        repository: the data set.
        subset: its configuration, where it has several.
        split: which part.
        revision: commit or tag; None: the newest.
        options: which rows.
        streaming: read rows as they come; otherwise the data set is downloaded whole, or taken from the cache.
        advice: what to do without network, for the message.

    Raises:
        UnreachableError: the Hub does not give them.
    """
    import datasets

    try:
        rows = datasets.load_dataset(repository, subset, split=split, revision=revision, streaming=streaming)
        for number, record in enumerate(rows, start=1):
            options.on_record(record)
            try:
                if options.where.holds(record):
                    yield number, record
            except Unusable as error:
                yield number, dataclasses.replace(error.bad, text=beginning(record))
    except Exception as error:  # the library raises its own errors, httpx's, OSError and ValueError
        raise UnreachableError(
            f"{repository!r} (split {split!r}) cannot be read from the Hugging Face Hub: {error}; without network, "
            f"{advice}"
        ) from error
