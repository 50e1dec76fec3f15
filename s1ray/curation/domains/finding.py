"""Rows without a domain go through the classifier; what it finds is written beside the features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from s1ray.curation.config import CurationConfig
from s1ray.curation.difficulty.takeover import ANSWERS
from s1ray.curation.domains.asking import NO_ANSWER, UNCLEAR, Judge
from s1ray.curation.domains.config import DomainConfig, EmbeddingClassifier, JudgeClassifier
from s1ray.curation.domains.embedding import fitted, part_domains
from s1ray.curation.domains.takeover import JUDGE, take_over
from s1ray.curation.features import Features, as_words
from s1ray.curation.funnel import Rows
from s1ray.curation.parts import map_parts, write_part
from s1ray.runs import Run
from s1ray.storage import Location, location, readable

if TYPE_CHECKING:
    import pyarrow as pa

FOUND, FINAL = "found_domains", "domains"
"""Folders of parts that a finished run does not keep."""
WHY_NONE = {UNCLEAR: "domain not clear", NO_ANSWER: "judge gave no answer"}
"""Reasons of rows for which the classifier found no domain."""


def classified(
    config: CurationConfig, run: Run, folder: Location, parts: Sequence[Location], features: Features, left: Rows
) -> Features:
    """Find the domains of rows that are left without one; the features with them.

    Args:
        config: the stage's, with a classifier.
        run: gets figures, and the judge's ledger.
        folder: for what a finished run does not keep.
        parts: of all rows.
        features: of all rows.
        left: rows after the cheap filters.

    Raises:
        RunError: a worker failed, or the judge cannot be asked.
        UnreachableError: too many of the judge's answers did not come.
    """
    codes, _ = features.codes("domain")
    rows, classifier = left[codes[left] < 0], config.domains.classifier
    if isinstance(classifier, JudgeClassifier):
        assert config.domains.classes is not None
        ledger = run.path / ANSWERS / JUDGE
        take_over(config, ledger)
        judge = Judge(classifier, config.domains.classes, ledger, config.seed)
        places = judge.domains(features.column("id", rows), rows, parts, features.starts)
        run.figures["domains_judge"] = judge.figures()
        names: Sequence[str] = config.domains.classes.names
        by = "judge"
    else:
        assert isinstance(classifier, EmbeddingClassifier)
        names, places = _embedded(config.domains, classifier, folder, parts, features, rows)
        by = "embedding"
    files = _write(folder / FINAL, config.domains, features, rows, names, places, by)
    return Features(features.files, {"domain": files, "domain_by": files})


def _embedded(
    config: DomainConfig,
    classifier: EmbeddingClassifier,
    folder: Location,
    parts: Sequence[Location],
    features: Features,
    rows: Rows,
) -> tuple[Sequence[str], npt.NDArray[np.int64]]:
    """Domains, and for each row the position of its own among them, or `UNCLEAR`."""
    import pyarrow.parquet as pq

    if not len(rows):
        return [], np.empty(0, np.int64)
    model = fitted(config, classifier)
    part = np.searchsorted(features.starts, rows, side="right") - 1
    numbers = np.unique(part).tolist()
    files = map_parts(
        "finding domains",
        part_domains,
        [parts[number] for number in numbers],
        folder / FOUND,
        wanted={parts[number].name: rows[part == number] - features.starts[number] for number in numbers},
        model=model,
        encoder_folder=location(classifier.encoder),
        min_score=classifier.min_score,
    )
    return model.names, np.concatenate([pq.read_table(readable(file)).column("place").to_numpy() for file in files])


def _write(
    folder: Location,
    config: DomainConfig,
    features: Features,
    rows: Rows,
    names: Sequence[str],
    places: npt.NDArray[np.int64],
    by: str,
) -> list[Location]:
    """Write the columns `domain` and `domain_by` of all rows anew, with what was found; the files of the parts.

    Args:
        folder: of the files.
        config: says what rows get for which nothing was found.
        features: of all rows.
        rows: that have no domain in the features.
        names: domains.
        places: for each of `rows` a position in `names`, or a key of `WHY_NONE`.
        by: what has found the domains.
    """
    columns = {name: _Words(*features.codes(name)) for name in ("domain", "domain_by")}
    for place in np.unique(places).tolist():
        found = (names[place], by) if place >= 0 else (None, WHY_NONE[place])
        if place < 0 and config.otherwise is not None:
            found = config.name_of(config.otherwise), "otherwise"
        for column, word in zip(columns.values(), found, strict=True):
            column.put(rows[places == place], word)
    files = [folder / file.name for file in features.files]
    for number, file in enumerate(files):
        begin, end = features.starts[number : number + 2].tolist()
        write_part(_table(columns, begin, end), file)
    return files


def _table(columns: Mapping[str, _Words], begin: int, end: int) -> pa.Table:
    import pyarrow as pa

    return pa.table({name: as_words(column.codes[begin:end], column.names) for name, column in columns.items()})


class _Words:
    """A column of words in memory: positions in a list of them, or -1."""

    def __init__(self, codes: npt.NDArray[np.int32], names: list[str]) -> None:
        self.codes, self.names = codes, names

    def put(self, rows: Rows, word: str | None) -> None:
        if word is not None and word not in self.names:
            self.names.append(word)
        self.codes[rows] = -1 if word is None else self.names.index(word)
