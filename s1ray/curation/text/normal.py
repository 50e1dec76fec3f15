r"""The normal form of a question: its words, numbers and signs, with one spelling for each.

What changes the problem stays: brackets, factorials, primes, powers and indices, signs, decimal points, the separators
of lists, the case of single letters. What is spelling goes: delimiters and looks of LaTeX, names of the same command,
braces round one token, Unicode or ASCII or LaTeX for the same sign, separators of thousands, spacing, sentence
punctuation, quotes, hyphens of compound words, the case of words.

    characters  ->  tokens (one regular expression)  ->  spelling (a cached table)  ->  structure  ->  separators

`\frac{a}{b}` becomes `a / b` with the brackets that a reader of plain text would need, so that it equals "a/b", and a
group becomes `( ... )` where an exponent, an index or a root holds more than one token. Where plain text is ambiguous
("1/2x"), it stays apart from both readings. Everything is linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from s1ray.curation.text.structure import ALIGNED_CELLS, PLAIN_CELLS, TABLE_CELLS, structure
from s1ray.curation.text.tables import (
    AND,
    BLANK,
    CHARACTERS,
    COMMANDS,
    CONTRACTIONS,
    DEGREE,
    DOTS,
    FACTORIAL,
    FUNCTIONS,
    GREEK_WORDS,
    LINE,
    LOWERED,
    PRIME,
    SHORT_WORDS,
    SUBSCRIPTS,
    SUPERSCRIPTS,
)

_TOKEN = re.compile(
    # A word with its hyphens and apostrophes.
    r"[^\W\d_]+(?:['-][^\W\d_]+)*'*"
    r"|\\(?:[A-Za-z]+|[^A-Za-z\d-]|$)"
    # A number; separators of thousands, but not those of a list in brackets; "10-sided".
    r"|(?<![\d{,.])(?<!(?<!\\)[(\[])\d{1,3}(?:,\d{3})+(?!,?\d)(?:\.\d+)?|\d+(?:\.\d+)?(?:-[A-Za-z]{4,})?|(?<![\d.])\.\d+"
    r"|<=|>=|->|=>|\.\.+|--+|__+|\*\*+|[^\w\s$\"`'!#@~]|_"
    r"|(?<![^\W\d_][^\W\d_])(?<=[\w)\]}])!+|(?<=[)\]}\d])'+"
)
_RAISED, _SUNK = re.compile(f"[{SUPERSCRIPTS}]+"), re.compile(f"[{SUBSCRIPTS}]+")
_CAPITALS = re.compile(r"\b[A-Z]{4}")
"""A word of a text in capitals, whose case says nothing."""
_EMPHASIS = re.compile(r"(?<![^\s(\"'])\*{1,3}(?=[A-Za-z]{2})|(?<=[A-Za-z][A-Za-z.:?!,])\*{1,3}(?![\w(\\])")
_THIN = re.compile(r"(?<=\d)(?:\\,|\{,\}|\\!,|,\\!|,\s?\\!)(?=\d{3}(?!\d))")
_FRACTION_OF_DIGITS = re.compile(r"(\\[dt]?(?:frac|binom)\s*)(\d)(?=\d|\s*[{\\])")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{(?:align|aligned|equation|gather|gathered|split|multline|center)\*?\}")
_TABLES = ("matrix}", "{array}", "{cases}", "{tabular}")
_NEGATED = re.compile(
    r"(?:\\not\s*|(?<![^\W\d_]{2})not\s?)=|\\not\s*(\\in)(?![A-Za-z])|\\n(mid|subseteq|parallel|equiv)(?![A-Za-z])"
)
_HYPHEN = re.compile(
    r"\\text\s*\{-\}|(?:(?<=[\w})'\]$]\$)|(?<=\\[)\]]))-(?=(?:\\text\w*\{)?(?!sqrt|[dt]?frac)(?:[a-z]{4}|(?:gon|th)\b))"
)
"""Between a formula and a word, as in "$x$-axis"."""
_HYPHENATED = ("$-", "\\)-", "\\]-", "{-}")
_ORDINAL = re.compile("[ijkmnprx]th")
_PREFIX = re.compile(r"(?<![^\W\d_])(non[- ]|(?:co|semi|mid)-)(?=[a-z]{4})", re.IGNORECASE)
"""Written with and without a hyphen: "non-negative", "nonnegative"."""
_VECTORS = ("\\vec", "mathbf", "boldsymbol", "matrix}", "vector", "overrightarrow")
_VOWELS = frozenset("aeiouyäöüéè")
_BREAKS = frozenset([LINE, ".", "?"])
_STARTS = _BREAKS | {":", ""}
_SEPARATORS = frozenset([",", ";", ":"])
_ENDS = _BREAKS | _SEPARATORS | {"-"}
_CACHE_SIZE, _CACHED_LENGTH = 1 << 18, 40


class _Cache(dict[str, str]):
    """What a function makes of short texts, kept; bounded in memory."""

    def __init__(self, function: Callable[[str], str]) -> None:
        super().__init__()
        self.function = function

    def __missing__(self, text: str) -> str:
        value = self.function(text)
        if len(text) <= _CACHED_LENGTH:
            if len(self) >= _CACHE_SIZE:
                self.clear()
            self[text] = value
        return value


def tokens(text: str, *, breaks: bool = False) -> list[str]:
    r"""The tokens of a text's normal form.

    Args:
        text: any text.
        breaks: keep the ends of sentences (".", "?") and of lines (`LINE`).
    """
    if text.isupper() and _CAPITALS.search(text):
        text = text.lower()
    if not text.isascii():
        text = _RAISED.sub(lambda match: f"^{{{match[0].translate(LOWERED)}}}", text)
        text = _SUNK.sub(lambda match: f"_{{{match[0].translate(LOWERED)}}}", text)
        text = unicodedata.normalize("NFC", text).translate(CHARACTERS)
    cells = PLAIN_CELLS
    if "\\begin" in text:
        cells = TABLE_CELLS if _has(text, _TABLES) else ALIGNED_CELLS
        text = _ENVIRONMENT.sub(" ", text)
    if "{,}" in text or "\\," in text or "\\!" in text:
        text = _THIN.sub(",", text)
    if "not" in text or "\\n" in text:
        text = _NEGATED.sub(_negated, text)
    if "-" in text and _has(text, _HYPHENATED):
        text = _HYPHEN.sub(" ", text)
    if "-" in text or "on " in text:
        text = _PREFIX.sub(lambda match: match[0][:-1], text)
    if "*" in text:
        text = _EMPHASIS.sub(" ", text)
    latex = (
        "\\" in text or "$" in text or "^" in text or "_" in text or "sqrt" in text or "frac" in text or "**" in text
    )
    if latex and ("frac" in text or "binom" in text):
        text = _FRACTION_OF_DIGITS.sub(r"\1{\2}", text)
    chunks = text.replace("\n", f" {LINE} ").split() if breaks else text.split()
    if "\\times" in text and _has(text, _VECTORS):
        chunks = [chunk.replace("\\times", "\\cross") for chunk in chunks]
    parts = " ".join([_CHUNKS[chunk] for chunk in chunks]).split()
    if latex:
        parts = structure(parts, cells)
    elif not _PLAIN.keys().isdisjoint(parts):
        parts = [_PLAIN.get(part, part) for part in parts]
    if "mod" in parts:
        parts = _without_brackets(parts, "mod")
    return _separated(parts, breaks)


def _without_brackets(parts: list[str], word: str) -> list[str]:
    """Without round brackets that begin with a word."""
    kept, closing = list[str](), list[bool]()
    for place, part in enumerate(parts):
        if part == "(":
            closing.append(_neighbour(parts, place, 1) == word)
            if closing[-1]:
                continue
        elif part == ")" and closing and closing.pop():
            continue
        kept.append(part)
    return kept


def _negated(match: re.Match[str]) -> str:
    if match[1]:
        return "\\notin "
    return f"\\not \\{match[2]} " if match[2] else "\\ne "


_PLAIN = {"{": "\\{", "}": "\\}", "&": AND}
"""What LaTeX reads otherwise than people."""


def normal_form(text: str) -> str:
    """`tokens`, joined by spaces: equal for texts that differ in spelling only."""
    return " ".join(tokens(text))


def _has(text: str, parts: tuple[str, ...]) -> bool:
    return any(part in text for part in parts)


def _spelled(chunk: str) -> str:
    """The tokens of a text without white space, joined."""
    return " ".join([_WORDS[token] for token in _TOKEN.findall(chunk)])


def _spell(token: str) -> str:
    first = token[0]
    if first == "\\":
        name = token[1:]
        if not name[:1].isalpha():
            return {"{": "\\{", "}": "\\}", "%": "%", "|": "| |", "\\": "\\\\", "&": AND}.get(name, "")
        return COMMANDS.get(name, token)
    if first.isalpha():
        return _word(token)
    if first.isdigit() or (first == "." and token[-1].isdigit()):
        number, hyphen, word = token.replace(",", "").partition("-")
        number = f"0{number}" if number[0] == "." else number
        return f"{number}{' ' if _is_prose(word) else ' - '}{_word(word)}" if hyphen else number
    if first == "!":
        return " ".join([FACTORIAL] * len(token))
    if first == "'":
        return " ".join([PRIME] * len(token))
    return _SYMBOLS.get(token[:2], token)


_SYMBOLS = {"->": "\\to", "=>": "\\Rightarrow", "..": DOTS, "--": ",", "__": BLANK, "**": "^"}


def _word(token: str) -> str:
    if "-" in token:
        pieces = token.split("-")
        compound = any(_is_prose(piece) for piece in pieces)
        return (" " if compound else " - ").join([_word(piece) for piece in pieces])
    if "'" not in token:
        return _fold(token)
    body = token.rstrip("'")
    primes = " ".join([PRIME] * (len(token) - len(body)))
    head, _, tail = body.rpartition("'")
    if head and tail.lower() in CONTRACTIONS and (len(head) > 1 or tail.islower()):
        return _fold(head.replace("'", "") + tail.lower()) if len(head) > 1 else f"{head} {tail}"
    folded = f" {PRIME} ".join([_fold(part) for part in body.split("'")])
    return f"{folded} {primes}" if primes and not _is_prose(body) else folded


def _is_prose(word: str) -> bool:
    lower = word.lower().rstrip("'")
    if lower in FUNCTIONS or lower in GREEK_WORDS or lower in _NAMED:
        return False
    return len(lower) > 3 or lower in SHORT_WORDS or (len(lower) == 3 and not _VOWELS.isdisjoint(lower))


def _fold(word: str) -> str:
    if len(word) < 2:
        return word
    if not word.isascii():
        # Without accents: "Pólya" and "Polya".
        word = "".join(each for each in unicodedata.normalize("NFKD", word) if each.isalpha()) or word
    lower = word.casefold()
    known = GREEK_WORDS.get(lower) or FUNCTIONS.get(lower) or _NAMED.get(lower)
    if known:
        return known
    if lower in SHORT_WORDS:
        return lower
    if _ORDINAL.fullmatch(word):
        return f"{word[0]} th"
    if len(word) == 2 or (len(word) == 3 and (word.isupper() or _VOWELS.isdisjoint(lower[:2] + lower[2:].strip("y")))):
        return " ".join(word)
    return lower


_NAMED = {
    "sqrt": "\\sqrt", "infinity": "\\infty", "infty": "\\infty", "frac": "\\frac", "dfrac": "\\frac", "tfrac": "\\frac",
    "binom": "\\binom", "circ": "\\circ", "cdot": "*", "leq": "<=", "geq": ">=", "neq": "\\ne", "ldots": "\\ldots",
}  # fmt: skip
"""Names of commands that are no words."""


_CHUNKS, _WORDS = _Cache(_spelled), _Cache(_spell)


def _separated(parts: list[str], breaks: bool) -> list[str]:
    """Drop punctuation of sentences, keep that of mathematics."""
    kept: list[str] = []
    done = 0
    for place in [place for place, part in enumerate(parts) if part in _JUDGED]:
        kept += parts[done:place]
        part = parts[place]
        if part in _BREAKS:
            if breaks:
                kept.append(part)
        elif judged := _judged(part, parts, place, kept, breaks):
            kept.append(judged)
        done = place + 1
    return kept + parts[done:] if done else parts


def _last(kept: list[str]) -> str:
    """The last token that is not a break."""
    if kept and kept[-1] not in _BREAKS:
        return kept[-1]
    return next((part for part in reversed(kept) if part not in _BREAKS), "")


_JUDGED = _ENDS | {"degrees", "degree", "percent", "A"}


def _judged(part: str, parts: list[str], place: int, kept: list[str], breaks: bool) -> str:
    """What becomes of a token that means one thing in prose and another in mathematics; empty: it is dropped."""
    if part in _SEPARATORS:
        return part if _divides(parts, place) else "." if breaks and part != "," else ""
    if part == "-":
        return "" if _dash(_last(kept), _neighbour(parts, place, 1)) else part
    if part == "A":
        starts = _neighbour(parts, place, -1) in _STARTS
        return "a" if starts and _prose(_neighbour(parts, place, 1)) else part
    if _last(kept)[:1].isdigit():
        return "%" if part == "percent" else DEGREE
    return part


def _neighbour(parts: list[str], place: int, step: int) -> str:
    """The token before or after one, past the ends of lines; empty: there is none."""
    place += step
    while 0 <= place < len(parts) and parts[place] == LINE:
        place += step
    return parts[place] if 0 <= place < len(parts) else ""


def _prose(part: str) -> bool:
    return len(part) > 1 and part.isalpha()


def _dash(left: str, right: str) -> bool:
    """Whether a hyphen stands between words."""
    return len(left) > 2 and len(right) > 2 and left.isalpha() and right.isalpha()


def _divides(parts: list[str], place: int) -> bool:
    """Whether a separator stands between things of mathematics."""
    left = _neighbour(parts, place, -1)
    if not left or _prose(left) or left in _ENDS:
        return False
    right = _neighbour(parts, place, 1)
    return bool(right) and not _prose(right) and (right not in _ENDS or right == "-")
