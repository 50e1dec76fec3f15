"""A teacher of your own: traces that exist already, read from a file.

Many data sets have reasoning traces of other models. This teacher plays them back, so that they go through the same
counting, grading and keeping as fresh ones, and training finds them in the same form.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from s1ray.errors import InputError, MissingError
from s1ray.generation.base import OnCall
from s1ray.schemas import question_id
from s1ray.storage import Location
from s1ray.teachers.base import Ask, Response, Teacher


class RecordedTeacher(Teacher):
    """Traces from a JSON-lines file with the fields `question`, `thinking` and `answer`."""

    kind: str = "recorded"
    path: str
    """The file."""
    model: str = "recorded"
    """Who wrote the traces, for the column `teacher`."""

    @property
    def label(self) -> str:
        """What the traces say about their teacher."""
        return self.model

    def check(self) -> None:
        """Read the file before anything is started."""
        self._traces()

    def inputs(self) -> dict[str, str]:
        """The file's content decides the result, wherever it lies."""
        return {"recorded": self.path}

    def start(self, seed: int, folder: Location) -> Recorder:
        """Called inside a Ray actor; a teacher with weights or connections opens them here.

        `folder` is for teachers that must find something again after a kill (the id of a provider's batch, say).
        """
        return Recorder(self._traces())

    def _traces(self) -> dict[str, Response]:
        if not Path(self.path).is_file():
            raise MissingError(f"teacher.path: {self.path}: no such file")
        traces = {}
        for number, line in enumerate(Path(self.path).read_text(encoding="utf-8").splitlines(), start=1):
            try:
                row = json.loads(line)
                traces[question_id(row["question"])] = Response(thinking=row["thinking"], attempt=row["answer"])
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{self.path}:{number}: needs question, thinking and answer ({error!r})") from None
        return traces


class Recorder:
    """The running teacher."""

    def __init__(self, traces: dict[str, Response]) -> None:
        self._traces = traces

    def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
        """Each ask with its response; one that cannot be had carries an error and does not end the run.

        `calls` is for teachers that pay for their calls.
        """
        missing = Response(finish_reason="error", error="no trace was recorded for this question")
        for ask in asks:
            yield ask, self._traces.get(ask.question.id, missing) if ask.sample == 0 else missing

    def close(self) -> None:
        """Nothing to release."""
