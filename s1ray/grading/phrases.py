"""Answers in words: yes and no, no solution, undefined, infinity, all reals, numbers in words, dates."""

from __future__ import annotations

import re

from s1ray.grading.numbers import number_in_words
from s1ray.grading.values import ALL_REALS, Scalar, Value, Words

MEANINGS = {
    "yes": "yes true correct", "no": "no false", "none": (
        "none|no solution|no solutions|no real solution|no real solutions|no such|empty set|the empty set|no values|"
        "no value|no roots|no real roots|no answer exists|does not have a solution|has no solution|not possible|"
        "impossible"
    ),
    "undefined": "undefined|dne|does not exist|doesnt exist|not defined|limit does not exist|no limit|indeterminate",
    "infinity": (
        "infinity|infinitely many|infinite|infinitely many solutions|infinite solutions|unbounded|diverges to infinity|"
        "positive infinity|plus infinity"
    ),
}  # fmt: skip
"""Meanings and the words for them."""
_SAME_WORD = {
    phrase: meaning
    for meaning, phrases in MEANINGS.items()
    for phrase in (phrases.split("|") if "|" in phrases else phrases.split())
}
_REALS = re.compile(
    r"\\mathbb\{R\}|(?:the )?(?:set of )?all real(?: numbers?| values)?|all reals|real numbers", re.IGNORECASE
)
_INTEGERS = re.compile(r"(?:the )?(?:set of )?(?:all )?integers", re.IGNORECASE)
_NO_SUCH = re.compile(
    r"(?:[a-z]+ [a-z]+ )?(?:(?:is|are|has|have|exists?) )?no(?: such)?"
    r"(?: (?:real|integer|valid|possible|positive|rational|whole|natural))*"
    r" (?:solutions?|integers?|numbers?|values?|roots?|pairs?|triples?|functions?|triangles?|points?|primes?|[a-z])"
    r"(?: (?:exists?|is possible|are possible|works?))?"
)
_POLAR = re.compile(
    r"[\s*_]*(yes|no|true|false)[*_]*(?=\s*(?:[.,;:!-]|$)|\s+(?:because|since|as|it|there|we|they|he|she|this|that)\b)",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(
    r"[\s,.;:!-]*(?:(?:but|and|or|also|then|well)\b[\s,]*){1,3}[*_]*(?:yes|no|true|false)\b[*_]*\s*(?:[.,;:!?]|$)",
    re.IGNORECASE,
)
"""Behind yes or no: "but no"."""
_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_MONTH = "(?P<month>" + "|".join(f"{name[:3]}(?:{name[3:]})?" if name[3:] else name for name in _MONTHS) + r"|sept)\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_DATES = [
    re.compile(r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"),
    *(
        re.compile(rf"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,? )?{form}", re.IGNORECASE)
        for form in (
            rf"{_MONTH} {_DAY}(?:,? ?(?P<year>\d{{4}}))?",
            rf"(?:the )?{_DAY} (?:of )?{_MONTH}(?:,? ?(?P<year>\d{{4}}))?",
            rf"{_MONTH},? (?P<year>\d{{4}})",
        )
    ),
]


def read_phrase(text: str) -> Value | None:
    """What words say; None: the text is something else."""
    if _REALS.fullmatch(text):
        return ALL_REALS
    if _INTEGERS.fullmatch(text):
        return Scalar("\\mathbb{Z}")
    if match := re.fullmatch(r"(negative|minus|positive|plus) \\infty", text, re.IGNORECASE):
        return Scalar("\\infty" if match[1][0] in "pP" else "-\\infty")
    if text in ("\\emptyset", "\\{\\}", "\\{ \\}"):
        return Words("none")
    date = _date(text)
    if date is not None:
        return date
    if not re.fullmatch(r"[A-Za-z][A-Za-z' \-]+[.!]?", text) and not re.fullmatch(r"\d{1,9} ?(?:st|nd|rd|th)", text):
        return None
    if " " not in text and mixed_case(text):
        return None
    number = number_in_words(text)
    if number is not None:
        return Scalar(text, number)
    bare = re.sub(r"[^a-z ]", "", text.lower().replace("-", " ")).strip()
    if _NO_SUCH.fullmatch(bare):
        return Words("none")
    bare = re.sub(r"^(?:the|a|an|there (?:is|are)|it (?:is|has)) ", "", bare)
    if bare in _SAME_WORD:
        meaning = _SAME_WORD[bare]
        return Scalar("\\infty") if meaning == "infinity" else Words(meaning)
    quantity = number_in_words(bare.rpartition(" ")[0])
    if quantity is not None:
        return Scalar(text, quantity)
    # Two letters, or three without a vowel, are a product of variables.
    if len(bare) == 2 or (len(bare) == 3 and not set(bare) & set("aeiou ")):
        return None
    return Words(bare)


def mixed_case(word: str) -> bool:
    """Whether a word is rather a product of variables: "abC"."""
    return len(word) < 6 and re.search(r"[a-z][A-Z]", word) is not None


def yes_or_no(text: str) -> str | None:
    """What a text says that begins with yes or no, or their like ("Yes, because 7 is prime", "False."), and does not
    take it back ("Yes, but no").
    """
    match = _POLAR.match(text)
    return None if match is None or _TAKEN_BACK.match(text, match.end()) else _SAME_WORD[match[1].lower()]


def _date(text: str) -> Words | None:
    if len(text) > 40:
        return None
    for form in _DATES:
        if (match := form.fullmatch(text)) is None:
            continue
        parts = match.groupdict()
        month = parts["month"].lower()[:3]
        number = int(month) if month.isdigit() else [name[:3] for name in _MONTHS].index(month) + 1
        day = int(parts.get("day") or 0)
        if 1 <= number <= 12 and day <= 31:
            return Words(f"{parts.get('year') or ''}-{number}-{day}")
    return None
