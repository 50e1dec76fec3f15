r"""Which rows are broken: s1's quality filter (steps A and B of its `filter.ipynb`), with a reason for each drop.

Step A, missing fields. s1 drops every row with any missing feature as "API error", and so loses all of USACO and
LiveCodeBench, which have no solutions. Here a missing solution and a failed call have reasons of their own.

Step B, text patterns: `[asy]` (a figure in Asymptote code), `![Image]` (a figure that is missing), `p1.` to `p999.`
(numbering of another collection), and a bold token with a digit after its opening stars on the same line. AIME
questions skip them all, as in s1. One pattern is ours: text that was decoded with the wrong encoding.
"""

from __future__ import annotations

import re

from s1ray.curation.config import QualityConfig
from s1ray.curation.records import SourceRow

_PATTERNS = (
    ("figure in Asymptote code", re.compile(r"\[asy\]")),
    ("figure missing", re.compile(r"!\[Image\]")),
    ("inconsistent numbering", re.compile(r"p[1-9][0-9]{0,2}\.")),
    ("bold number", re.compile(r"\*\*(?=.*\d)[^\s\]]*\*\*")),
    # What UTF-8 looks like when it was read as Windows-1252; not among s1's patterns.
    ("mis-decoded text", re.compile("\u00e2\u20ac[\u0080-\u2122]|[\u00c2\u00c3][\u0080-\u00bf]|\ufffd")),
)


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
