r"""One notation for answers: Unicode, plain text and the many spellings of LaTeX, written in one small part of LaTeX.

`canonical` changes how an answer is written and never what it says: no letter changes its case, no bracket, comma or
operator is dropped. Fractions become `\frac{a}{b}`, roots `\sqrt{a}`, products `\cdot`, words stand bare, and units and
currencies keep their place. Its time is linear in the text, which callers bound (`MAX_CHARACTERS`).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

MAX_CHARACTERS = 2000
"""Longer answers are not final answers; comparing them would only use up the time."""

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ", "0123456789+-()nix")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙₖₓ", "0123456789+-()nkx")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙₖₓ]+")
_VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5"}
_VULGAR |= {"⅙": "1/6", "⅚": "5/6", "⅐": "1/7", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8", "⅑": "1/9", "⅒": "1/10"}
_SYMBOLS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "×": r"\cdot ", "·": r"\cdot ", "⋅": r"\cdot ",
    "∙": r"\cdot ", "•": r"\cdot ", "∗": r"\cdot ", "÷": r"\div ", "∕": "/", "⁄": "/", "±": r"\pm ", "∓": r"\mp ",
    "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "≡": r"\equiv ",
    "∞": r"\infty ", "∅": r"\emptyset ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∖": r"\setminus ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}",
    "°": r"^{\circ}", "˚": r"^{\circ}", "º": r"^{\circ}", "…": r"\ldots ", "⋯": r"\ldots ", "⟨": r"\langle ",
    "⟩": r"\rangle ", "′": "'", "’": "'", "‘": "'", "→": r"\to ", "∑": r"\sum ", "∏": r"\prod ", "∫": r"\int ",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ",
}  # fmt: skip
_GREEK = {unicodedata.lookup(f"GREEK SMALL LETTER {name.upper()}"): f"\\{name} " for name in (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "kappa", "mu", "nu", "xi", "pi", "rho",
    "sigma", "tau", "phi", "chi", "psi", "omega",
)}  # fmt: skip
_GREEK |= {
    "λ": r"\lambda ",
    "µ": r"\mu ",
    "Δ": r"\Delta ",
    "Ω": r"\Omega ",
    "Σ": r"\Sigma ",
    "Π": r"\Pi ",
    "ϕ": r"\phi ",
}
_CHARACTERS = str.maketrans(_SYMBOLS | _GREEK)

_COMMANDS = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "sfrac": "frac", "nicefrac": "frac", "xfrac": "frac",
    "dbinom": "binom", "tbinom": "binom", "times": "cdot", "ast": "cdot", "leq": "le", "leqslant": "le", "geq": "ge",
    "geqslant": "ge", "neq": "ne", "varnothing": "emptyset", "dots": "ldots", "cdots": "ldots", "dotsc": "ldots",
    "dotsb": "ldots", "dotso": "ldots", "colon": ":", "mid": "|", "vert": "|", "lvert": "|", "rvert": "|", "lt": "<",
    "gt": ">", "lbrace": "\\{", "rbrace": "\\}", "lbrack": "[", "rbrack": "]", "backslash": "setminus", "bigcup": "cup",
    "degree": "^{\\circ}", "degrees": "^{\\circ}", "euro": "€", "pounds": "£", "land": " and ", "lor": " or ",
    "R": "mathbb{R}", "Z": "mathbb{Z}", "N": "mathbb{N}", "Q": "mathbb{Q}", "arcsec": "arcsec", "rightarrow": "to",
    "thickapprox": "approx", "varepsilon": "epsilon", "varphi": "phi", "lg": "log_{10}", "imath": "i", "infin": "infty",
}  # fmt: skip
"""Commands with another name of the same meaning; what does not begin with a letter stands for itself."""
_DROPPED = frozenset(
    [
        "left",
        "right",
        "middle",
        "big",
        "Big",
        "bigg",
        "Bigg",
        "bigl",
        "bigr",
        "Bigl",
        "Bigr",
        "biggl",
        "biggr",
        "Biggl",
        "Biggr",
        "displaystyle",
        "textstyle",
        "scriptstyle",
        "limits",
        "nolimits",
        "quad",
        "qquad",
        "thinspace",
        "medspace",
        "thickspace",
        "enspace",
        "space",
        "hfill",
        "hspace",
        "phantom",
        "boldmath",
        "nobreak",
        "mathstrut",
        "strut",
        "bf",
        "rm",
        "it",
        "sf",
        "tt",
    ]
)
"""Commands that only set how something looks; a space takes their place."""
_WRAPPERS = frozenset(
    [
        "text",
        "textbf",
        "textit",
        "textrm",
        "textsf",
        "texttt",
        "textnormal",
        "mathrm",
        "mathbf",
        "mathit",
        "mathsf",
        "mathtt",
        "mathnormal",
        "boldsymbol",
        "bm",
        "operatorname",
        "mbox",
        "hbox",
        "emph",
        "underline",
        "boxed",
        "fbox",
        "displaylines",
        "ensuremath",
    ]
)
"""Commands whose argument is what they say."""
_WORDS = frozenset(
    [
        "text",
        "textbf",
        "textit",
        "textrm",
        "textsf",
        "texttt",
        "textnormal",
        "mathrm",
        "operatorname",
        "mbox",
        "hbox",
        "emph",
    ]
)
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
_DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?")


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
    text = _RAISED.sub(lambda match: f"^{{{match[0].translate(_SUPERSCRIPTS)}}}", text)
    text = _LOWERED.sub(lambda match: f"_{{{match[0].translate(_SUBSCRIPTS)}}}", text)
    for character, fraction in _VULGAR.items():
        over, under = fraction.split("/")
        text = text.replace(character, f"\\frac{{{over}}}{{{under}}}")
    text = re.sub(r"√\s*(\d+(?:\.\d+)?|[a-z]|(?=\())", lambda m: f"\\sqrt{{{m[1]}}}" if m[1] else r"\sqrt", text)
    text = re.sub(r"∛\s*(\d+|[a-z])", r"\\sqrt[3]{\1}", text)
    text = text.replace("√", r"\sqrt")
    text = text.translate(_CHARACTERS)
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
        elif name in _WRAPPERS:
            end = matching(text, place) if text[place : place + 1] == "{" else None
            if end is None:
                parts.append(" ")
                continue
            # "\mathrm{e}" is e; words keep their distance from what stands beside them.
            gap = " " if name in _WORDS and end - place > 2 else ""
            parts.append(gap)
            closing[end] = gap
            place += 1
        elif name in _DROPPED:
            if text[place : place + 1] == "." and name in ("left", "right"):
                place += 1
            parts.append(" ")
        else:
            renamed = _COMMANDS.get(name, name)
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
