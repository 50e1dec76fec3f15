"""Files and object stores behind one set of verbs: where things lie, whole writes, locks, appended lines.

    run = location("s3://bucket/runs/one")
    write_json(run / "manifest.json", {...})

Paths of this machine are `pathlib.Path` and nothing else; addresses (`s3://`, `gs://`, `abfss://`, `hdfs://`) are
`StorePath`. Rooms that may meet both say `Location`.
"""

from s1ray.storage.addresses import entries, exists, full_text, is_address, is_dir, is_file, location, real_place
from s1ray.storage.appending import Growing, PartFolder, Parts
from s1ray.storage.fetching import local_copy, local_model
from s1ray.storage.files import (
    TEMPORARY,
    arrow_place,
    download,
    inside,
    move,
    private,
    private_mode,
    random_access,
    readable,
    remove,
    upload,
    write_json,
    write_text,
    writing,
)
from s1ray.storage.locks import RENEW_S, Lock, LostError, NoLocksError, TakenError, Ticket, still_open, take
from s1ray.storage.paths import AnyPath, Location, StoreError, StorePath

__all__ = [
    "RENEW_S",
    "TEMPORARY",
    "AnyPath",
    "Growing",
    "Location",
    "Lock",
    "LostError",
    "NoLocksError",
    "PartFolder",
    "Parts",
    "StoreError",
    "StorePath",
    "TakenError",
    "Ticket",
    "arrow_place",
    "download",
    "entries",
    "exists",
    "full_text",
    "inside",
    "is_address",
    "is_dir",
    "is_file",
    "local_copy",
    "local_model",
    "location",
    "move",
    "private",
    "private_mode",
    "random_access",
    "readable",
    "real_place",
    "remove",
    "still_open",
    "take",
    "upload",
    "write_json",
    "write_text",
    "writing",
]
