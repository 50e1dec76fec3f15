r"""Which rows are broken: named filters, each of which can be switched; its name is the reason of a drop.

The default ones are s1's quality filter (steps A and B of its `filter.ipynb`) and `misdecoded_text`.

Step A, missing fields. s1 drops every row with any missing feature as "API error", and so loses all of USACO and
LiveCodeBench, which have no solutions. Here a missing solution, a missing answer and a failed call are filters of their
own.

Step B, text patterns: `[asy]` (a figure in Asymptote code), `![Image]` (a picture that is missing), `p1.` to `p999.`
(numbering of another collection), and a bold token with a digit after its opening stars on the same line. AIME
questions skip them all, as in s1.

Most filters have a cheap test of all rows at once, in Arrow, that may find too many rows and never too few; the exact
test sees what it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from s1ray.curation.quality import asked, missing, patterns, repetition
from s1ray.curation.quality.config import QualityConfig
from s1ray.curation.quality.language import check_languages, foreign
from s1ray.curation.records import SourceRow
from s1ray.curation.text import word_counts

if TYPE_CHECKING:
    import pyarrow as pa

EMPTY = "empty question"
_VISIBLE = "[!-~]"
_COLUMNS = ("id", "question", "solution", "answer", "source", "error")

Suspects = Callable[["pa.Table", Any], "pa.ChunkedArray"]
"""From rows and the filter's setting to where a row may fit; true too often is fine."""


@dataclass(frozen=True)
class Filter:
    """A reason to drop rows."""

    name: str
    """Of its field in `QualityConfig`."""
    fits: Callable[[SourceRow, Any], bool]
    """Whether a row goes, by the filter's setting."""
    suspects: str | Suspects | None
    """What finds the rows to look at: a pattern for questions in RE2's syntax, or a function. None: all rows."""
    trusts: bool = False
    """Whether it leaves the sources of `trusted_figures` alone."""

    @property
    def reason(self) -> str:
        """In the funnel."""
        return self.name.replace("_", " ")


def _of_text(name: str, fits: Callable[[str], bool], suspects: str | None, *, trusts: bool = False) -> Filter:
    return Filter(name, lambda row, _: fits(row.question), suspects, trusts)


def _missing(name: str) -> Filter:
    """A field that a row must have. A blank one counts as missing."""
    return Filter(
        f"missing_{name}",
        lambda row, _: not (getattr(row, name) or "").strip(),
        lambda rows, _: _invisible(rows.column(name)),
    )


def _failed(rows: pa.Table, setting: bool) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    return pc.is_valid(rows.column("error"))


def _may_be_short(rows: pa.Table, least: int) -> pa.ChunkedArray:
    import pyarrow as pa

    return pa.chunked_array([pa.array(word_counts(rows.column("question")) < least)])


def _may_be_long(rows: pa.Table, most: int) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    # Every word but the last has a space after it.
    return pc.greater(pc.binary_length(rows.column("question")), 2 * most)


FILTERS = (
    Filter("failed_call", lambda row, _: bool(row.error), _failed),
    _missing("solution"),
    _missing("answer"),
    *(_of_text(name, fits, suspects, trusts=True) for name, fits, suspects in patterns.FILTERS),
    _of_text("missing_figure", missing.figure_is_missing, missing.FIGURE_SUSPECTS),
    _of_text("missing_options", missing.options_are_missing, missing.OPTIONS_SUSPECTS),
    _of_text("proof_question", asked.asks_for_a_proof, asked.PROOF_SUSPECTS),
    _of_text("several_parts", asked.has_parts, asked.PARTS_SUSPECTS),
    Filter("too_short", lambda row, least: len(row.question.split()) < least, _may_be_short),
    Filter("too_long", lambda row, most: len(row.question.split()) > most, _may_be_long),
    _of_text("repeated_text", repetition.repeats_itself, None),
    Filter("language", lambda row, kept: foreign(row.question, kept), None),
)
"""In the order in which they look at a row."""
_SCREENED = [each for each in FILTERS if each.suspects is not None]
_THOROUGH = [each for each in FILTERS if each.suspects is None]
"""Last in the order, because they look at every row that is left."""


def check_quality(config: QualityConfig) -> list[str]:
    """The fields that a source must have, after a check that every filter can do its work.

    Raises:
        ConfigError: the package that knows languages is not installed, or does not know one of them.
    """
    if config.language is not None:
        check_languages(config.language)
    return config.required


def quality_reasons(rows: pa.Table, config: QualityConfig) -> list[str | None]:
    """`quality_reason` of each of N rows; only rows that may be broken are looked at one by one.

    Args:
        rows: with the columns of `SourceRow` that quality looks at.
        config: what counts as broken.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    reasons: list[str | None] = [None] * len(rows)
    for filters, chosen in ((_SCREENED, _suspects(rows, config)), (_THOROUGH, None)):
        if not any(getattr(config, each.name) for each in filters) and chosen is None:
            continue
        if chosen is None:
            chosen = pa.array([reason is None for reason in reasons], pa.bool_())
        suspects = rows.select(_COLUMNS).filter(chosen).to_pylist()
        for place, row in zip(pc.indices_nonzero(chosen).to_pylist(), suspects, strict=True):
            reasons[place] = _reason(SourceRow(**row), config, filters)
    return reasons


def quality_reason(row: SourceRow, config: QualityConfig) -> str | None:
    """Why a row is dropped, or None where it is fine."""
    return _reason(row, config, FILTERS)


def _reason(row: SourceRow, config: QualityConfig, filters: Sequence[Filter]) -> str | None:
    trusted = any(name in row.source for name in config.trusted_figures)
    for each in filters:
        setting = getattr(config, each.name)
        if setting and not (each.trusts and trusted) and each.fits(row, setting):
            return each.reason
    return None if row.question.strip() else EMPTY


def _suspects(rows: pa.Table, config: QualityConfig) -> pa.ChunkedArray:
    """Where a row may be empty, or one of the screened filters may fit; shape (N,)."""
    import pyarrow.compute as pc

    active = [(each.suspects, setting) for each in _SCREENED if (setting := getattr(config, each.name))]
    found = [suspects(rows, setting) for suspects, setting in active if callable(suspects)]
    patterns = [suspects for suspects, _ in active if isinstance(suspects, str)]
    question = rows.column("question")
    if patterns:
        found.append(pc.match_substring_regex(question, "|".join(patterns)))
    return reduce(pc.or_, found, _invisible(question))


def _invisible(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Where a text may be blank, or is not there."""
    import pyarrow.compute as pc

    return pc.invert(pc.fill_null(pc.match_substring_regex(texts, _VISIBLE), False))
