"""The rows that the report shows: some of each reason, of each tier of likeness, of conflicts and of bad rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s1ray.curation.decontamination.hits import REASONS
from s1ray.curation.outcome import KEPT
from s1ray.curation.report.excerpts import Excerpt, excerpt, side_by_side
from s1ray.curation.report.scanning import Place, batches, questions_by_id, rows_at, value_counts
from s1ray.storage import Location, location

OF_A_REASON, OF_A_TIER, OF_CONFLICTS, OF_A_KIND = 3, 50, 50, 3
"""So many rows are shown."""
TIERS = ("whole", "letters", "ngrams", "template", "overlap", "embedding", "s1_ngrams")
"""The tiers of decontamination, in the order in which they give a row its reason."""
DUPLICATES = "deduplication"
UNREADABLE = "files that cannot be read, or not to their end"
_JOIN = "\n"


@dataclass(frozen=True)
class DroppedExample:
    """A dropped row."""

    id: str
    source: str
    question: Excerpt
    detail: str
    kept: Excerpt | None
    """The question that was kept instead."""


@dataclass(frozen=True)
class Likeness:
    """A row, and the benchmark question that it is like."""

    id: str
    source: str
    label: str
    place: str
    score: float
    fate: str
    row: Excerpt
    benchmark: Excerpt


@dataclass(frozen=True)
class TierGroup:
    """The likenesses of a tier."""

    tier: str
    count: int
    dropped: int
    """Rows that it dropped."""
    chosen: int
    """Rows that are among the questions."""
    shown: list[Likeness]

    @property
    def meaning(self) -> str:
        """The tier in words."""
        return REASONS.get(self.tier, "")

    @property
    def elsewhere(self) -> int:
        """Rows that went for another reason."""
        return self.count - self.dropped - self.chosen


@dataclass(frozen=True)
class Conflict:
    """Two rows that look equal and have different answers."""

    sides: list[tuple[str, str, Excerpt, Excerpt]]
    """Id, source, question and answer of both."""


@dataclass(frozen=True)
class BadKind:
    """Rows that could not be used, for one reason."""

    kind: str
    count: int
    shown: list[tuple[str, str, Excerpt]]
    """Where, why, and the beginning of the row."""


def dropped_examples(
    dropped: Sequence[Location], chosen: Sequence[Location]
) -> dict[tuple[str, str], list[DroppedExample]]:
    """The first rows of each (stage, reason)."""
    places = {cause: found for cause, found in _first_places(dropped).items() if found}
    every = [place for found in places.values() for place in found]
    rows = rows_at(every, ["id", "source", "question", "detail"])
    copies = [place for (stage, _), found in places.items() if stage == DUPLICATES for place in found]
    ids = {found for place in copies if (found := _kept_id(rows[place]))}
    kept = questions_by_id([*chosen, *dropped], ids)
    return {
        cause: [_dropped_example(rows[place], kept if cause[0] == DUPLICATES else {}) for place in found]
        for cause, found in places.items()
    }


def _first_places(dropped: Sequence[Location]) -> dict[tuple[str, str], list[Place]]:
    import numpy as np
    import pyarrow.compute as pc

    found: dict[str, list[Place]] = {}
    for file, start, batch in batches(dropped, ["stage", "reason"]):
        causes = pc.binary_join_element_wise(batch.column("stage"), batch.column("reason"), _JOIN).dictionary_encode()
        codes = causes.indices.to_numpy()
        for code, cause in enumerate(causes.dictionary.to_pylist()):
            own = found.setdefault(cause, [])
            if missing := OF_A_REASON - len(own):
                own += [(file, start + int(at)) for at in np.flatnonzero(codes == code)[:missing]]
    return {(cause.partition(_JOIN)[0], cause.partition(_JOIN)[2]): places for cause, places in found.items()}


def _dropped_example(row: Mapping[str, Any], kept: Mapping[str, str]) -> DroppedExample:
    question = excerpt(row["question"])
    instead = kept.get(_kept_id(row) or "")
    return DroppedExample(
        row["id"], row["source"], question, row["detail"], None if instead is None else excerpt(instead)
    )


def _kept_id(row: Mapping[str, Any]) -> str | None:
    found = row["detail"].partition(KEPT)
    return found[2] if not found[0] and found[2] else None


def likenesses(review: Sequence[Location]) -> list[TierGroup]:
    """The likenesses to benchmark questions by tier: first those whose rows are among the questions, and most alike."""
    counts, dropped, chosen, best = Counter[str](), Counter[str](), Counter[str](), dict[str, list[_Ranked]]()
    for file, start, batch in batches(review, ["tier", "score", "drops", "stage"]):
        counts.update(dict(value_counts(batch.column("tier"))))
        dropped.update(dict(value_counts(batch.column("tier").filter(batch.column("drops")))))
        chosen.update(dict(value_counts(batch.column("tier").filter(batch.column("stage").is_null()))))
        _keep_best(best, file, start, batch)
    columns = ["id", "source", "question", "label", "found", "asked", "place", "score", "drops", "stage"]
    rows = rows_at([place for found in best.values() for _, place in found], columns)
    tiers = sorted(counts, key=lambda tier: (TIERS.index(tier) if tier in TIERS else len(TIERS), tier))
    return [
        TierGroup(tier, counts[tier], dropped[tier], chosen[tier], [_likeness(rows[place]) for _, place in best[tier]])
        for tier in tiers
    ]


_Ranked = tuple[tuple[int, float], Place]


def _keep_best(best: dict[str, list[_Ranked]], file: Location, start: int, batch: Any) -> None:
    """Put a batch's rows among the best of their tiers. Of equal rows the earlier one comes first."""
    import numpy as np

    tiers = batch.column("tier").dictionary_encode()
    codes, scores = tiers.indices.to_numpy(), batch.column("score").to_numpy()
    # In the result; dropped by another stage; dropped for this.
    ranks = np.where(batch.column("drops").to_numpy(zero_copy_only=False), 2, 1)
    ranks[batch.column("stage").is_null().to_numpy(zero_copy_only=False)] = 0
    for code, tier in enumerate(tiers.dictionary.to_pylist()):
        own = np.flatnonzero(codes == code)
        own = own[np.lexsort((own, -scores[own], ranks[own]))][:OF_A_TIER]
        found = [((int(ranks[at]), -float(scores[at])), (file, start + int(at))) for at in own]
        best[tier] = sorted([*best.get(tier, []), *found], key=lambda ranked: ranked[0])[:OF_A_TIER]


def _likeness(row: Mapping[str, Any]) -> Likeness:
    # What was found in a solution is all of it that a run keeps.
    text = row["question"] if row["place"] == "question" else row["found"]
    ours, theirs = side_by_side(row["found"], text, row["asked"])
    stage = row["stage"]
    fate = "among the questions" if stage is None else "dropped for it" if row["drops"] else f"dropped by {stage}"
    return Likeness(row["id"], row["source"], row["label"], row["place"], row["score"], fate, ours, theirs)


def conflicts(files: Sequence[Location]) -> list[Conflict]:
    """The first pairs."""
    columns = ["id", "source", "question", "answer"]
    found = []
    for _, _, batch in batches(files, [*columns, *(f"other_{name}" for name in columns)], OF_CONFLICTS):
        for row in batch.to_pylist():
            sides = [
                (row[f"{side}id"], row[f"{side}source"], *(excerpt(row[f"{side}{name}"] or "") for name in columns[2:]))
                for side in ("", "other_")
            ]
            found.append(Conflict(sides))
        break
    return found


def bad_rows(quarantine: Location) -> list[BadKind]:
    """The rows that could not be used, by kind, most first."""
    counts, shown = Counter[str](), dict[str, list[tuple[str, str, Excerpt]]]()
    for entry in _entries(quarantine):
        reason = str(entry.get("reason", ""))
        kind = reason.partition(":")[0] if "text" in entry else UNREADABLE
        counts[kind] += 1
        own = shown.setdefault(kind, [])
        if len(own) < OF_A_KIND:
            own.append((_where(entry), reason, excerpt(str(entry.get("text", "")))))
    return [BadKind(kind, count, shown[kind]) for kind, count in counts.most_common()]


def _entries(quarantine: Location) -> Iterator[dict[str, Any]]:
    if quarantine.exists():
        with quarantine.open(encoding="utf-8") as stream:
            for line in stream:
                yield json.loads(line)


def _where(entry: Mapping[str, Any]) -> str:
    """Source, name of the file, and place in it."""
    places = [f"{name} {value:,}" for name, value in entry.items() if isinstance(value, int)]
    return ", ".join(
        [str(entry.get("source", "")), *([location(entry["file"]).name] if "file" in entry else []), *places]
    )
