"""Whether the text of a chat template holds the messages, tool calls and results that it was given.

Templates write arguments as JSON of their own spacing, or key by key, so each key and each value counts by itself, in
any of the spellings of JSON, XML and Python.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from typing import Any

HTML_SAFE = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "'": "\\u0027"})
"""Jinja's own `tojson` writes these characters so."""

PYTHON_SAFE = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r"})
"""What stands within single quotes."""


def end_of(text: str, rendered: str, position: int) -> int | None:
    """Where the first occurrence of a text in any spelling ends; None where there is none from the position on."""
    found = [(start, len(form)) for form in _spellings(text) if (start := rendered.find(form, position)) >= 0]
    return sum(min(found)) if found else None


def end_of_call(call: Mapping[str, Any], rendered: str, position: int) -> int | None:
    """Where the last part of a tool call ends; None where its name, a key or a value is missing."""
    function = call.get("function", call)
    end = position
    for leaf in (function["name"], *leaves(function.get("arguments"))):
        ends = [found for form in _forms(leaf) if (found := end_of(form, rendered, position)) is not None]
        if not ends:
            return None
        end = max(end, min(ends))
    return end


def leaves(value: object) -> Iterator[object]:
    """Keys and values of anything that JSON can hold."""
    left = [value]
    while left:
        entry = left.pop()
        if isinstance(entry, Mapping):
            left += [part for pair in entry.items() for part in pair]
        elif isinstance(entry, list | tuple):
            left += entry
        else:
            yield entry


def _forms(leaf: object) -> set[str]:
    # A number or a constant is written as JSON or as Python has it.
    return {leaf} if isinstance(leaf, str) else {json.dumps(leaf), str(leaf)}


def _spellings(text: str) -> set[str]:
    plain = text.strip()
    escaped = {json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True)}
    twice = {json.dumps(form, ensure_ascii=False)[1:-1] for form in escaped}
    # A literal of Python's; Jinja writes mappings so, and LFM2's template calls.
    quoted = {repr(text)[1:-1], text.translate(PYTHON_SAFE)}
    return {plain, html.escape(plain), *escaped, *twice, *quoted, *(form.translate(HTML_SAFE) for form in escaped)}
