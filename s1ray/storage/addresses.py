"""From texts to places: what is a path of this machine, and what an address in a store; and questions to either."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from s1ray.errors import InputError
from s1ray.storage.paths import AnyPath, Location, StorePath

SCHEMES = ("s3", "gs", "abfs", "abfss", "hdfs")
"""Of the stores: Amazon's S3 and what speaks its protocol, Google Cloud Storage, Azure, Hadoop."""
S3_OPTIONS = ("region", "endpoint_override", "scheme")
"""What may follow a `?` in an address of S3."""


def is_address(text: str) -> bool:
    """Whether a text is an address ("s3://...") and no path."""
    return "://" in text


def location(given: AnyPath) -> Location:
    """Where a text leads: `file://` and plain paths to this machine, other addresses to a store.

    Raises:
        InputError: the address is of no store that is known, has no bucket, or holds a credential.
    """
    if isinstance(given, StorePath):
        return given
    text = os.fspath(given)
    if not is_address(text):
        return Path(text)
    scheme, _, rest = text.partition("://")
    if scheme == "file":
        return Path(unquote(rest))
    return _store_path(scheme.lower(), text)


def is_file(path: AnyPath) -> bool:
    """Whether a file or an object is there; a text that can be no path is none."""
    there = location(path)
    return there.is_file() if isinstance(there, StorePath) else os.path.isfile(there)


def is_dir(path: AnyPath) -> bool:
    """Whether a folder is there; a text that can be no path is none."""
    there = location(path)
    return there.is_dir() if isinstance(there, StorePath) else os.path.isdir(there)


def exists(path: AnyPath) -> bool:
    """Whether anything is there; a text that can be no path is nothing."""
    there = location(path)
    return there.exists() if isinstance(there, StorePath) else os.path.exists(there)


def entries(folder: AnyPath) -> list[Location]:
    """What lies in a folder, in order; nothing where there is no folder.

    Raises:
        OSError: it cannot be read. pathlib's `glob` takes such a folder for an empty one.
    """
    try:
        return sorted([*location(folder).iterdir()])
    except (FileNotFoundError, NotADirectoryError):
        return []


def real_place(path: AnyPath) -> Location:
    """Where a path leads in the end: absolute, links followed."""
    there = location(path)
    return there if isinstance(there, StorePath) else Path(os.path.realpath(there))


def full_text(path: AnyPath) -> str:
    """A path as every process understands it: absolute, or an address."""
    there = location(path)
    return str(there) if isinstance(there, StorePath) else os.path.abspath(there)


def _store_path(scheme: str, text: str) -> StorePath:
    parts = urlsplit(text)
    bucket, options = parts.netloc, dict(parse_qsl(parts.query, keep_blank_values=True))
    shown = f"{scheme}://{bucket.rpartition('@')[2]}{parts.path}"
    # A container is named before an @ in Azure's addresses: abfss://container@account.dfs.core.windows.net.
    user = bucket.rpartition("@")[0]
    if (user and (":" in user or scheme not in ("abfs", "abfss", "hdfs"))) or options.keys() - {*S3_OPTIONS}:
        raise InputError(
            f"{shown}: an address may hold no user, password, key or option but {', '.join(S3_OPTIONS)}; leave the "
            "credential to the machine's role, or to the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "GOOGLE_APPLICATION_CREDENTIALS, AZURE_CLIENT_ID)"
        )
    if scheme in ("az", "azure", "wasb", "wasbs"):
        raise InputError(f"{shown}: write Azure's addresses as abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH")
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise InputError(f"{shown}: unknown storage; give a path, or an address that begins with {known}")
    if not bucket:
        raise InputError(f"{text}: has no bucket; write {scheme}://BUCKET/PATH")
    if options and scheme != "s3":
        raise InputError(f"{shown}: only addresses of s3:// have options")
    if parts.fragment:
        raise InputError(f"{shown}: '#' begins nothing here; write it as %23")
    inner = [part for part in unquote(parts.path).split("/") if part not in ("", ".")]
    if ".." in inner:
        raise InputError(f"{shown}: an object store has no '..'")
    return StorePath(f"{scheme}://{bucket}", "/".join(inner), parts.query)
