"""Data sets of the Hugging Face Hub, streamed."""

from __future__ import annotations

import dataclasses

from s1ray.errors import UnreachableError
from s1ray.reading.files import DataFile
from s1ray.reading.items import Items, Unusable, beginning
from s1ray.reading.pieces import Piece, ReadOptions


def hub_piece(repository: str, subset: str | None, split: str) -> Piece:
    """A split as a piece; its file is an address that only `hub_records` can read."""
    return Piece(DataFile("/".join(part for part in ("hub", repository, subset, split) if part), "json"))


def hub_records(repository: str, subset: str | None, split: str, revision: str | None, options: ReadOptions) -> Items:
    """The rows of a split that match, and those that cannot be compared.

    Raises:
        UnreachableError: the Hub does not give them.
    """
    import datasets

    try:
        rows = datasets.load_dataset(repository, subset, split=split, revision=revision, streaming=True)
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
            "export it to Parquet and use a source of kind `files`"
        ) from error
