"""What a run folder holds that a new start must not delete: `--force` moves it aside, beside the folder."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from s1ray.schemas import MANIFEST
from s1ray.storage import Location, move


@dataclass(frozen=True)
class Kept:
    """Part of a run folder that is worth more than the run."""

    what: str
    """In words: "1,234 answers"."""
    folders: tuple[str, ...]
    """In the run folder."""
    field: str
    """Of the config: names a folder from which another run takes it over."""
    suffix: str
    """In the name of the folder that it is moved to."""

    def place(self, run: Location) -> Location:
        """Where it is moved to next: the run folder's name with a suffix and the first number that is free."""
        run = run.resolve()
        places = (run.with_name(f"{run.name}.{self.suffix}-{number}") for number in count(1))
        return next(place for place in places if not place.exists())

    def set_aside(self, run: Location) -> Location:
        """Move it out of a run folder, with a copy of the manifest that says whose it is; where it is then.

        What comes of it is an unfinished run folder of the same config.

        Raises:
            OSError: it cannot be moved; nothing is lost.
        """
        place = self.place(run)
        place.mkdir()
        # First: with it, a process that is killed here leaves two run folders, each with a part.
        (place / MANIFEST).write_bytes((run / MANIFEST).read_bytes())
        for name in self.folders:
            if (run / name).exists():
                move(run / name, place / name)
        return place
