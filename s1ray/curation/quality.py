r"""Which rows are broken: s1's quality filter (steps A and B of its `filter.ipynb`), with a reason for each drop.

Step A, missing fields. s1 drops every row with any missing feature as "API error", and so loses all of USACO and
LiveCodeBench, which have no solutions. Here a missing solution and a failed call have reasons of their own.

Step B, text patterns: `[asy]` (a figure in Asymptote code), `![Image]` (a figure that is missing), `p1.` to `p999.`
(numbering of another collection), and a bold token with a digit after its opening stars on the same line. AIME
questions skip them all, as in s1. One pattern is ours: text that was decoded with the wrong encoding.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from s1ray.curation.config import QualityConfig
from s1ray.curation.records import SourceRow

if TYPE_CHECKING:
    import pyarrow as pa

_PATTERNS = (
    ("figure in Asymptote code", re.compile(r"\[asy\]")),
    ("figure missing", re.compile(r"!\[Image\]")),
    ("inconsistent numbering", re.compile(r"p[1-9][0-9]{0,2}\.")),
    ("bold number", re.compile(r"\*\*(?=.*\d)[^\s\]]*\*\*")),
    # What UTF-8 looks like when it was read as Windows-1252; not among s1's patterns.
    ("mis-decoded text", re.compile("\u00e2\u20ac[\u0080-\u2122]|[\u00c2\u00c3][\u0080-\u00bf]|\ufffd")),
)

_SUSPICIOUS = "\\[asy\\]|!\\[Image\\]|p[1-9]|\\*\\*|\u00e2\u20ac|[\u00c2\u00c3\ufffd]"
"""Whatever one of the patterns finds has this, in the syntax of RE2."""
_VISIBLE = "[!-~]"


def quality_reasons(rows: pa.Table, config: QualityConfig) -> list[str | None]:
    """`quality_reason` of each of N rows; only rows that may be broken are looked at one by one.

    Args:
        rows: with the columns of `SourceRow` that quality looks at.
        config: what counts as broken.
    """
    import pyarrow.compute as pc

    columns = ["id", "question", "solution", "answer", "source", "error"]
    chosen = _may_be_broken(rows, config)
    reasons: list[str | None] = [None] * len(rows)
    suspects = rows.select(columns).filter(chosen).to_pylist()
    for place, row in zip(pc.indices_nonzero(chosen).to_pylist(), suspects, strict=True):
        reasons[place] = quality_reason(SourceRow(**row), config)
    return reasons


def _may_be_broken(rows: pa.Table, config: QualityConfig) -> pa.ChunkedArray:
    """Where a row may have a reason to be dropped; shape (N,). Elsewhere it has none."""
    import pyarrow.compute as pc

    question = rows.column("question")
    found = pc.is_valid(rows.column("error"))
    for text in (question, *(rows.column(field) for field in config.require)):
        visible = pc.fill_null(pc.match_substring_regex(text, _VISIBLE), False)
        found = pc.or_(found, pc.invert(visible))
    if config.formatting:
        found = pc.or_(found, pc.match_substring_regex(question, _SUSPICIOUS))
    if config.max_words is not None:
        # Every word but the last has a space after it.
        found = pc.or_(found, pc.greater(pc.binary_length(question), 2 * config.max_words))
    return found


def quality_reason(row: SourceRow, config: QualityConfig) -> str | None:
    """Why a row is dropped, or None where it is fine. A blank solution or answer counts as missing."""
    if row.error:
        return "API error"
    if not row.question.strip():
        return "empty question"
    for field, value in (("solution", row.solution), ("answer", row.answer)):
        if field in config.require and (value is None or not value.strip()):
            return f"missing {field}"
    if config.formatting and not any(name in row.source for name in config.trusted_figures):
        for reason, pattern in _PATTERNS:
            if pattern.search(row.question):
                return reason
    if config.max_words is not None and len(row.question.split()) > config.max_words:
        return "too long"
    return None
