"""`traces.parquet` and `dropped.parquet`, written while finished traces pass, and what is counted meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from s1ray.manifests import RunError
from s1ray.schemas import Trace, arrow_schema
from s1ray.sinks import RowGroups
from s1ray.storage import Location, writing
from s1ray.traces.blocks import finished_schema
from s1ray.traces.finishing import MAJORITY, REFERENCE
from s1ray.traces.judging import BY

if TYPE_CHECKING:
    import pyarrow as pa

TRACES = "traces.parquet"
DROPPED = "dropped.parquet"


@dataclass
class Counts:
    """What is counted of the traces; shares and lengths are of those that are kept."""

    kept: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    correct: Counter[bool | None] = field(default_factory=Counter)
    """Of those with a reference answer."""
    thinking_tokens: int = 0
    max_thinking_tokens: int = 0
    truncated: int = 0
    questions: Counter[str | None] = field(default_factory=Counter)
    """By `answer_source`, without the numbers of votes."""
    judged: int = 0
    """Dropped ones included."""

    def add(self, rows: pa.Table) -> None:
        """Count some finished traces."""
        names = ("reason", "sample", "answer_source", "correct", "graded_by", "thinking_tokens", "finish_reason")
        columns = (rows.column(name).to_pylist() for name in names)
        for reason, sample, source, correct, graded_by, tokens, finish_reason in zip(*columns, strict=True):
            kind = source and source.partition(" ")[0]
            if sample == 0:
                self.questions[kind] += 1
            self.judged += (graded_by or "").startswith(BY)
            if reason is not None:
                self.drops[reason] += 1
                continue
            self.kept += 1
            if kind == REFERENCE:
                self.correct[correct] += 1
            self.thinking_tokens += tokens
            self.max_thinking_tokens = max(self.max_thinking_tokens, tokens)
            self.truncated += finish_reason == "length"

    def figures(self) -> dict[str, Any]:
        """Numbers on the result; at least one trace was kept."""
        graded = self.correct[True] + self.correct[False]
        return {
            "graded": graded,
            "correct_share": round(self.correct[True] / graded, 4) if graded else None,
            "mean_thinking_tokens": round(self.thinking_tokens / self.kept, 1),
            "max_thinking_tokens": self.max_thinking_tokens,
            "truncated": self.truncated,
        }

    def majority_answers(self) -> dict[str, int]:
        """Questions without a reference answer: those whose attempts gave one, and the others."""
        return {"found": self.questions[MAJORITY], "none": self.questions[None]}


def write_traces(finished: Iterable[pa.Table], folder: Location) -> Counts:
    """Write both files, each whole or not at all; where no trace is left, the dropped ones alone.

    Args:
        finished: traces in order, in pieces of any size, of which the files do not depend.
        folder: of the run.

    Raises:
        RunError: no trace is left.
    """
    import pyarrow.compute as pc

    counts, schema = Counts(), arrow_schema(Trace)
    with writing(folder / TRACES) as traces:
        with (
            writing(folder / DROPPED) as dropped,
            RowGroups(traces, schema) as kept_rows,
            RowGroups(dropped, finished_schema()) as dropped_rows,
        ):
            for rows in finished:
                counts.add(rows)
                is_kept = rows.column("reason").is_null()
                kept_rows.add(rows.filter(is_kept).select(schema.names))
                dropped_rows.add(rows.filter(pc.invert(is_kept)))
        if not counts.kept:
            raise RunError(
                f"no trace is left, all were dropped: {dict(sorted(counts.drops.items()))}; {folder / DROPPED} has "
                "them. To drop less without asking again, change the config, give another `output` and "
                f"responses_from={folder}"
            )
    return counts
