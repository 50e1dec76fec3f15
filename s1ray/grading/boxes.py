r"""What is in a response's `\boxed{...}` and `\fbox{...}`."""

from __future__ import annotations

import re

from s1ray.grading.notation import MAX_CHARACTERS, matching, unwrap

_BOXES = 64
"""Boxes at most that are tried, from the last one on, to find one that is complete."""
_BOX_CONTENT = 4 * MAX_CHARACTERS
"""Characters in which a box must close."""

_CUT_MAX = 200
"""Characters that a box may have that the end of the text cuts off."""
_BOX = re.compile(r"\\f?box(?:ed)?(?![a-zA-Z])")
_BETWEEN_BOXES = re.compile(
    r"(?:[\s$,;]|\\[()\[\],;: ]|\\q?quad\b|\\(?:text|mbox)\s{0,9}\{[\s,]{0,9}(?:and|or)?[\s,]{0,9}\}"
    r"|\b(?:and|or)\b){0,40}"
)
_SERIES = re.compile(r"[,;&]|\b(?:and|or)\b")


def last_boxed(text: str) -> str | None:
    r"""The content of the last complete `\boxed{...}` or `\fbox{...}`, or of `\boxed 7` up to the end of the formula.

    Braces are balanced, and `\{` counts as text. A box that the end of the text cuts off is ignored in favour of an
    earlier one; if there is none, its one line is the content. Boxes separated only by "and", "or" or commas are one
    answer, joined by commas. None: no box.
    """
    answer: list[tuple[int, int, str]] = []
    cut: tuple[int, int, str] | None = None
    end, empty = len(text), False
    for _ in range(_BOXES):
        start = max(text.rfind("\\boxed", 0, end), text.rfind("\\fbox", 0, end), text.rfind("\\box", 0, end))
        if start < 0:
            break
        end = start
        match = _BOX.match(text, start)
        box = None if match is None else _box_at(text, match)
        if box is None:
            if match is not None and cut is None and text[match.end() : match.end() + 1] == "{":
                rest = text[match.end() + 1 : match.end() + 1 + _CUT_MAX]
                if "\n" not in rest and match.end() + 1 + len(rest) == len(text) and "\\boxed" not in rest:
                    cut = (start, len(text), unwrap(rest))
            continue
        if not box[2]:
            # "I put it in \\boxed{}": it holds no answer, but another may.
            empty = True
            continue
        if answer and start <= answer[0][0] and answer[0][1] <= box[1]:
            # It encloses what was found: a box in a box.
            answer[0] = box if len(answer) == 1 else answer[0]
            continue
        if answer and not _BETWEEN_BOXES.fullmatch(text[box[1] : answer[0][0]][:400]):
            break
        answer.insert(0, box)
    if not answer:
        return cut[2] if cut and cut[2] else "" if empty else None
    return ", ".join(dict.fromkeys(content for _, _, content in answer))


def boxes_of_last_line(text: str) -> list[str]:
    """What is in the boxes of the last line that has any, with a comma, "and" or "or" between two; at most eight."""
    last = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if last < 0:
        return []
    begin = max(text.rfind("\n", 0, last) + 1, last - 4000)
    found: list[tuple[int, int, str]] = []
    for match in _BOX.finditer(text, begin, last + 10):
        box = _box_at(text, match)
        if box is None or not box[2]:
            continue
        if found and not _SERIES.search(text, found[-1][1], box[0]):
            return []
        found.append(box)
    return list(dict.fromkeys(content for _, _, content in found)) if len(found) <= 8 else []


def _box_at(text: str, match: re.Match[str]) -> tuple[int, int, str] | None:
    """Start, end and content of the box that `match` opens."""
    start = match.end()
    limit = min(len(text), start + 100)
    while start < limit and text[start].isspace():
        start += 1
    if text.startswith("{", start):
        window = text[start : start + _BOX_CONTENT]
        end = matching(window, 0)
        return None if end is None else (match.start(), start + end + 1, unwrap(window[1:end]))
    token = re.compile(r"[^\s$]{1,200}").match(text, start)
    return (match.start(), token.end(), unwrap(token.group())) if token and start > match.end() else None
