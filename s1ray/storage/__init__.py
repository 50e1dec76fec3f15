"""Files and object stores behind one set of verbs: where things lie, whole writes, locks, appended lines.

    run = location("s3://bucket/runs/one")
    write_json(run / "manifest.json", {...})

Paths of this machine are `pathlib.Path` and nothing else; addresses (`s3://`, `gs://`, `abfss://`, `hdfs://`) are
`StorePath`. Rooms that may meet both say `Location`.
"""

from s1ray.storage.appending import PartFolder, Parts
from s1ray.storage.files import (
    TEMPORARY,
    download,
    move,
    private,
    private_mode,
    readable,
    remove,
    upload,
    write_json,
    write_text,
    writing,
)
from s1ray.storage.locks import Lock, LostError, NoLocksError, TakenError, Ticket, take
from s1ray.storage.paths import (
    AnyPath,
    Location,
    StoreError,
    StorePath,
    is_address,
    location,
)

__all__ = [
    "TEMPORARY",
    "AnyPath",
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
    "download",
    "is_address",
    "location",
    "move",
    "private",
    "private_mode",
    "readable",
    "remove",
    "take",
    "upload",
    "write_json",
    "write_text",
    "writing",
]
