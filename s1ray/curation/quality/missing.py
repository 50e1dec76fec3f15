r"""Questions that refer to what is not in the text: a figure, a table, the options of a multiple choice.

Phrases count that point at one thing ("in the figure", "as shown below"), not words by themselves: "the graph of f" and
"a round table" refer to nothing. A text that draws something (Asymptote, TikZ, an image, a table in LaTeX or with
bars) is taken at its word. "Shown below" may mean any display, so there a display is enough.
"""

from __future__ import annotations

import re

_THING = (
    r"(?:figures?|diagrams?|pictures?|images?|graphs?|charts?|maps?|drawings?|sketch|illustrations?|photo(?:graph)?s?)"
)
_SHOWN = r"(?:shown|pictured|depicted|illustrated|drawn|seen|indicated|sketched|displayed|marked|labell?ed|represented)"
_PLACE = r"(?:below|above|here|at (?:the )?(?:right|left)|(?:on|to) the (?:right|left))"
_GIVEN = r"(?:following|given|accompanying|adjacent|attached|above|below|first)"
_FIGURE = re.compile(
    rf"\b(?:in|on|from|see|refer to)\s+(?:the|this)\s+(?:{_GIVEN}\s+)?"
    r"(?:figures?|diagrams?|drawings?|sketch|illustration)\b(?!\s+(?:of|out|with|that|whose)\b)"
    rf"|\b{_SHOWN}\s+(?:in|on|by)\s+(?:the|this)\s+(?:\w+\s+)?{_THING}\b(?!\s+(?:of\b|\$))"
    r"|\b(?:accompanying|adjacent|attached|following)\s+"
    r"(?:figures?|diagrams?|pictures?|graphs?|charts?|drawings?|circuits?)\b"
    rf"|\b(?:the|this|bar|circle|line|pie)\s+{_THING}\s+(?:shown|{_PLACE})\b"
    r"|\bfigure\s+(?:is\s+)?not\s+(?:drawn\s+)?to\s+scale|\\includegraphics\b",
    re.IGNORECASE,
)
_SHOWN_BELOW = re.compile(
    rf"\b{_SHOWN}\s+{_PLACE}(?!\w)|\bas\s+(?:shown|pictured|illustrated|depicted)(?=\s*[.,;:)]|\s*$)", re.IGNORECASE
)
_TABLE = re.compile(
    rf"\b(?:the|this)\s+(?:following\s+)?tables?\s+(?:shown|{_PLACE}|shows|gives|lists)\b|\bfollowing\s+tables?\b"
    rf"|\b{_SHOWN}\s+(?:in|by)\s+(?:the|this)\s+(?:\w+\s+)?table\b|\b(?:in|from)\s+(?:the|this)\s+{_GIVEN}\s+table\b",
    re.IGNORECASE,
)
_ROWS = r"(?m:^.*\|.*\|.*$\n?){2}"
_DRAWN = re.compile(
    rf"\[asy\]|\\begin\{{(?:tikzpicture|circuitikz|picture|asy|tabular|array|[a-zA-Z]*matrix)|!\[|<svg|<img|{_ROWS}"
)
_TABULATED = re.compile(rf"{_DRAWN.pattern}|\\hline|<t[rdh]|&|\|.*\|.*\||(?m:^[^\t\n]*\t.*$\n?){{2}}")
_DISPLAY = re.compile(r"\$\$|\\\[|\\begin\{|\\\\|\n\s*\n")
FIGURE_SUSPECTS = (
    "(?i:figure|diagram|picture|image|graph|chart|map|drawing|sketch|illustrat|photo|circuit|table|"
    "shown|depicted|drawn|seen|indicated|displayed|marked|labell?ed|represented)"
)
"""In what `figure_is_missing` finds, in RE2's syntax."""

_CHOICE = re.compile(
    r"\bwhich(?:\s+one)?\s+of\s+(?:the\s+following|these|the\s+(?:options|choices|answers|alternatives))\b"
    r"|\bfrom\s+the\s+following\s+(?:options|choices|alternatives|answers)\b"
    r"|\b(?:options|choices)\s+(?:given\s+)?(?:below|above)\b",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"(?:^|[\s(\[{$~*}])\(?(?:[A-Ea-e1-5]|i{1,3}|iv|I{1,3}|IV)\s?[).:\]}]"
    r"|\\(?:text|textbf|mathrm)\{\s*\(?(?:[A-E1-5]|I{1,3})\)?\.?\s*[})]|\\item\b|\\bullet|(?m:^\s*[-*\u2022]\s)"
)
_BETWEEN = re.compile(r"[,;\n]|\\\\|\bor\b")
OPTIONS_SUSPECTS = "(?i:which|options|choices|following)"
"""In what `options_are_missing` finds, in RE2's syntax."""
_AFTERTHOUGHT = 3
"""Words after the question that are no list yet."""


def figure_is_missing(question: str) -> bool:
    """Whether a question refers to a figure or a table that its text does not have."""
    if _FIGURE.search(question):
        return not _DRAWN.search(question)
    if _SHOWN_BELOW.search(question) and not _DISPLAY.search(question):
        return not _DRAWN.search(question)
    table = _TABLE.search(question)
    # A colon begins what it holds.
    return (
        table is not None and not _TABULATED.search(question) and not question[table.end() :].lstrip().startswith(":")
    )


def options_are_missing(question: str) -> bool:
    """Whether a question asks for one of several things and lists none."""
    choice = _CHOICE.search(question)
    if choice is None or len(_LABEL.findall(question)) > 1:
        return False
    rest = question[choice.end() :].strip()
    if ":" in rest or len(_BETWEEN.findall(rest)) > 1:
        return False
    end = re.search(r"[?.]", rest)
    return end is None or len(rest[end.end() :].split()) <= _AFTERTHOUGHT
