r"""One notation for answers: Unicode, plain text and the many spellings of LaTeX, written in one small part of LaTeX.

`canonical` changes how an answer is written and never what it says: no letter changes its case, no bracket, comma or
operator is dropped. Fractions become `\frac{a}{b}`, roots `\sqrt{a}`, products `\cdot`, words stand bare, and units and
currencies keep their place. Its time is linear in the text, which callers bound (`MAX_CHARACTERS`).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from s1ray.grading.symbols import (
    CHARACTERS,
    COMMANDS,
    DROPPED,
    SUBSCRIPTS,
    SUPERSCRIPTS,
    VULGAR,
    WORDS,
    WRAPPERS,
)

MAX_CHARACTERS = 2000
"""Longer answers are not final answers; comparing them would only use up the time."""

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙₖₓ]+")
_NAMES = ("arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "sin", "cos", "tan", "cot", "sec", "csc", "ln", "log",
          "exp", "max", "min", "gcd", "lcm")  # fmt: skip
_BARE_NAME = re.compile(rf"(?<![\\A-Za-z])({'|'.join(_NAMES)})(?=\s*[\d(\\^_]|\s+[a-zA-Z](?![A-Za-z]))")
_BARE_ROOT = re.compile(r"(?<![\\A-Za-z])sqrt\s*(?=[({])")
_BARE_CONSTANT = re.compile(r"(?<![\\A-Za-z])(pi|theta|infinity|infty)(?![A-Za-z])")
_TOKEN = re.compile(r"\\([A-Za-z]+)\s*|\\(.)", re.DOTALL)
_SPACING = frozenset("!,;:> /\n")
_POWER = re.compile(r"\^\s*(-?\d+)(?![\d.])")
_E_NOTATION = re.compile(r"(?<![A-Za-z\d.,])(-?\d+(?:\.\d+)?)[eE]([-+]?\d{1,4})(?![\w.])")
_THOUSANDS_BRACED = re.compile(r"(?<=\d) ?\{, ?\} ?(?=\d{3}(?!\d))")
_DECIMAL_BRACED = re.compile(r"(?<=\d)\{,\}(?=\d)")
_PAIRED_DOLLARS = re.compile(r"(?<!\\)\$([^$]*)(?<!\\)\$")
_THIN_COMMA = re.compile(r"(?<=\d),\s?\\!\s?(?=\d{3})")
_APOSTROPHES = re.compile(r"(?<!\d)\d{1,3}(?:'\d{3})+(?!\d)")
_DOTS = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{3}){2,}(?![\d.])")
_PERCENT = re.compile(r"(?<=[\d}) ])\s*(?:percent|per cent|pct\.?)(?![A-Za-z])", re.IGNORECASE)
_TIGHT = re.compile(r" ?([\^_=+<>/\-]) ?| (?=[)}\],{])|(?<=[({\[]) ")
_DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|(?<=\d)\s?\^\s*(?:\{\s*[oO]\s*\}|[oO](?![A-Za-z]))")
_TIMES_TEN = re.compile(r"(?<=\d) ?[xX] ?(?=10\s*\^)")
_SCALE = re.compile(r"(?<=\d)\s*(hundred|thousand|million|billion|trillion)(?![A-Za-z])", re.IGNORECASE)
_ZEROS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_HALF_OF_DAY = re.compile(r"(?<=\d)\s*([ap])\.? ?m\b\.?(?![A-Za-z])", re.IGNORECASE)
# What only sets a look, with its argument: "\color{blue}", "\hspace{1cm}", "\phantom{-}".
_LOOKS = re.compile(
    r"\\(?:color|[hv]?phantom|[hv]space\*?|tag|label|vphantom)\s?\{[^{}]{0,40}\}|\\textcolor\s?\{[^{}]{0,40}\}"
)
_CHOOSE = re.compile(r"\{([^{}]{1,40})\\choose(?![A-Za-z])([^{}]{1,40})\}")
_EMPTY_SCRIPT = re.compile(r"[\^_]\s?\{\s?\}")
_CURRENCY_SCALE = re.compile(r"(?<=[$€£])(\s?\d[\d,]*(?:\.\d+)?)\s?([kKM])(?![A-Za-z])")
_ROW_GAP = re.compile(r"\\\\\s?\[-?[\d.]{1,6}\s?(?:pt|ex|em|mm|cm)\]")


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """An answer in one notation.

    Args:
        text: at most `MAX_CHARACTERS` long; without its box.
    """
    text = _characters(unwrap(text))
    text = _PAIRED_DOLLARS.sub(r" \1 ", text)
    if "\\begin" not in text:
        # Escaped twice, as in JSON; in a matrix it begins a row.
        text = re.sub(r"\\\\(?=[A-Za-z])", r"\\", text)
    text = _LOOKS.sub(" ", text)
    text = _EMPTY_SCRIPT.sub("", text)
    text = _CHOOSE.sub(r"\\binom{\1}{\2}", text)
    text = _ROW_GAP.sub(r"\\\\", text)
    text = _THIN_COMMA.sub(",", text)
    text = _THOUSANDS_BRACED.sub(",", text)
    text = _DECIMAL_BRACED.sub(".", text)
    text = _DOTS.sub(lambda match: match[0].replace(".", ""), text)
    text = _APOSTROPHES.sub(lambda match: match[0].replace("'", ""), text)
    text = _BARE_ROOT.sub(r"\\sqrt", text)
    text = text.replace("...", r"\ldots ").replace("**", "^").replace("<=", r"\le ").replace(">=", r"\ge ")
    text = text.replace("!=", r"\ne ") if "!=" in text and not re.search(r"\d!=", text) else text
    text = _commands(text)
    text = _BARE_NAME.sub(r"\\\1", text)
    text = _BARE_CONSTANT.sub(lambda match: {"infinity": r"\infty"}.get(match[1], "\\" + match[1]), text)
    text = re.sub(r"\\log(?!\s*_)(?![A-Za-z])", r"\\ln", text)
    text = _DEGREES.sub(r"^{\\circ}", text)
    text = _PERCENT.sub("%", text)
    text = _TIMES_TEN.sub(r"\\cdot ", text)
    text = _CURRENCY_SCALE.sub(lambda match: match[1] + (" million" if match[2] == "M" else " thousand"), text)
    text = _SCALE.sub(lambda match: f"\\cdot 10^{{{_ZEROS[match[1].lower()]}}}", text)
    text = _HALF_OF_DAY.sub(lambda match: f" {match[1].lower()}m", text)
    text = _E_NOTATION.sub(r"\1\\cdot 10^{\2}", text)
    text = _POWER.sub(r"^{\1}", text)
    text = text.replace("*", r"\cdot ")
    return unwrap(_TIGHT.sub(lambda match: match[1] or "", re.sub(r"\s+", " ", _arguments(text))))


def unwrap(value: str) -> str:
    r"""Strip what surrounds an answer: dollar signs, `\\( \\)`, bold, backticks, quotes, a final full stop."""
    previous = None
    while previous != value:
        previous = value
        value = value.strip()
        if value and value[-1] in ".,;:。，．" and value[-2:-1] != ".":
            value = value[:-1].strip()
        if value.endswith("\\"):
            # A line break, or a space that was stripped.
            value = value.rstrip("\\ ")
        for left, right in _PAIRS:
            inner = value[len(left) : -len(right)]
            if (
                len(value) > len(left) + len(right)
                and value.startswith(left)
                and value.endswith(right)
                and left not in inner
                and right not in inner
            ):
                value = inner
        if value.startswith("**") and value.count("**") == 1:
            value = value[2:]
        if value.endswith("**") and value.count("**") == 1:
            value = value[:-2]
    return value


_PAIRS = (
    ("$$", "$$"),
    ("$", "$"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    ("**", "**"),
    ("__", "__"),
    ("`", "`"),
    ('"', '"'),
    ("“", "”"),
)


def matching(text: str, start: int) -> int | None:
    r"""The place of the brace that closes the group which opens at `start`; `\{` is text. None: nothing closes it."""
    depth = 0
    for match in _BRACE.finditer(text, start):
        character = match[0]
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return match.start()
    return None


_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def _characters(text: str) -> str:
    text = _INVISIBLE.sub("", text)
    if text.isascii():
        return text
    text = _RAISED.sub(lambda match: f"^{{{match[0].translate(SUPERSCRIPTS)}}}", text)
    text = _LOWERED.sub(lambda match: f"_{{{match[0].translate(SUBSCRIPTS)}}}", text)
    for character, fraction in VULGAR.items():
        over, under = fraction.split("/")
        text = text.replace(character, f"\\frac{{{over}}}{{{under}}}")
    text = re.sub(r"√\s*(\d+(?:\.\d+)?|[a-z]|(?=\())", lambda m: f"\\sqrt{{{m[1]}}}" if m[1] else r"\sqrt", text)
    text = re.sub(r"∛\s*(\d+|[a-z])", r"\\sqrt[3]{\1}", text)
    text = text.replace("√", r"\sqrt")
    text = text.translate(CHARACTERS)
    # Full-width digits and letters, mathematical alphabets, spaces of other widths: letter by letter, so that nothing
    # merges with its neighbours.
    return "".join(unicodedata.normalize("NFKC", c) if not c.isascii() else c for c in text)


def _commands(text: str) -> str:
    """Rename and drop commands, and take their argument out of those that only wrap one; from left to right, once."""
    parts: list[str] = []
    closing: dict[int, str] = {}
    """Place of a wrapper's closing brace -> what stands there instead."""
    place = 0
    while place < len(text):
        character = text[place]
        if place in closing:
            parts.append(closing[place])
            place += 1
            continue
        if character == "~":
            parts.append(" ")
            place += 1
            continue
        match = _TOKEN.match(text, place) if character == "\\" else None
        if match is None:
            parts.append(character)
            place += 1
            continue
        name = match[1]
        place = match.end()
        if name is None:
            # Thin spaces inside a number are separators of thousands.
            symbol = match[2]
            parts.append({"%": "%", "$": "\\$", "#": "#", "&": "&", "_": "_"}.get(symbol, ""))
            if symbol in "{}|\\":
                parts[-1] = match[0]
            elif (symbol in _SPACING and symbol != "!") or symbol in "()[]":
                parts[-1] = " "
        elif name in WRAPPERS:
            end = matching(text, place) if text[place : place + 1] == "{" else None
            if end is None:
                parts.append(" ")
                continue
            # "\mathrm{e}" is e; words keep their distance from what stands beside them.
            gap = " " if name in WORDS and end - place > 2 else ""
            parts.append(gap)
            closing[end] = gap
            place += 1
        elif name in DROPPED:
            if text[place : place + 1] == "." and name in ("left", "right"):
                place += 1
            parts.append(" ")
        else:
            renamed = COMMANDS.get(name, name)
            parts.append(f"\\{renamed} " if renamed[0].isalpha() and renamed[-1].isalpha() else
                         f"\\{renamed}" if renamed[0].isalpha() else renamed)  # fmt: skip
    return "".join(parts)


_ARGUMENTS = {"frac": 2, "binom": 2, "sqrt": 1}


def _arguments(text: str) -> str:
    r"""Give every `\frac`, `\binom` and `\sqrt` its arguments in braces: "\frac12", "\sqrt 3", "\sqrt(x+1)"."""
    if not any(f"\\{name}" in text for name in _ARGUMENTS):
        return text
    parts: list[str] = []
    place = 0
    for match in re.finditer(r"\\(frac|binom|sqrt)(?![A-Za-z])", text):
        if match.start() < place:
            continue
        parts.append(text[place : match.start()])
        whole, place = _with_arguments(text, match.end(), match[1], 0)
        parts.append(whole)
    parts.append(text[place:])
    return "".join(parts)


def _with_arguments(text: str, place: int, name: str, depth: int) -> tuple[str, int]:
    whole = f"\\{name}"
    if name == "sqrt":
        bracket = re.compile(r"\s*\[([^\[\]]{1,20})\]").match(text, place)
        if bracket:
            whole, place = f"\\sqrt[{bracket[1].strip()}]", bracket.end()
    for _ in range(_ARGUMENTS[name]):
        argument, place = _argument(text, place, depth)
        if argument is None:
            return whole + " ", place
        whole += f"{{{argument}}}"
    return whole, place


def _argument(text: str, place: int, depth: int) -> tuple[str | None, int]:
    while text[place : place + 1] == " ":
        place += 1
    if place >= len(text) or depth > 50:
        return None, place
    if text[place] == "{":
        end = matching(text, place)
        if end is None:
            return None, place
        return _arguments(text[place + 1 : end]) if depth < 20 else text[place + 1 : end], end + 1
    if text[place] == "(":
        end = _closing_parenthesis(text, place)
        if end is not None:
            return _arguments(text[place + 1 : end]), end + 1
    command = re.compile(r"\\([A-Za-z]+) ?").match(text, place)
    if command and command[1] in _ARGUMENTS:
        return _with_arguments(text, command.end(), command[1], depth + 1)
    if command:
        return command[0].strip(), command.end()
    # TeX takes one character, "\sqrt12" is a root of 1 times 2; but nobody writes a root so who means it.
    digits = re.compile(r"\d+").match(text, place)
    if digits and text[:place].rstrip().endswith("sqrt"):
        return digits[0], digits.end()
    return text[place], place + 1


def _closing_parenthesis(text: str, place: int) -> int | None:
    depth = 0
    for index in range(place, len(text)):
        depth += (text[index] == "(") - (text[index] == ")")
        if depth == 0:
            return index
    return None
