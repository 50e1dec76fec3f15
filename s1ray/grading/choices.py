"""Which option of a multiple-choice question a text names."""

from __future__ import annotations

import re

from s1ray.grading.notation import MAX_CHARACTERS, unwrap

CHOICES = "ABCDEFGHIJ"
"""Letters that multiple-choice options may have."""
_LETTER = rf"[{CHOICES}]"
_OPTION = re.compile(
    rf"(?:\b(?P<named>option|choice|pick|choose|select|answer|go(?:ing)? with)\b(?:\s+is)?\s*[:：]?\s*[(\[]?"
    rf"|[(\[]|[选選](?:择|擇|项|項)?\s*)"
    rf"(?P<letter>{_LETTER})(?=[)\]]|[\s.,;:。，—–-]|$)",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"\b(?:not|isn't|rather than|instead of|over|eliminate|exclude|rule out|than)\s*(?:option|choice)?\s*\(?$",
    re.IGNORECASE,
)


def choice_letter(value: str) -> str | None:
    """The option that an extracted answer names ("C", "(c)", "C) 42", "option C", "D, not B"), in upper case.

    None: it names none, or several.
    """
    cleaned = re.sub(r"\\(?:text|mathrm|mathbf|textbf|mathit|rm|bf)\b\s*", "", unwrap(value[:MAX_CHARACTERS]))
    cleaned = unwrap(cleaned.replace("{", "").replace("}", "").replace("*", "").replace("\\", " ").strip())
    named_so = re.match(
        rf"(?:the\s+)?(?:option|choice)\s+\(?({_LETTER})\)?\s+(?:is|because|since)\b(?! (?:not|wrong))", cleaned, re.I
    )
    if named_so:
        return named_so[1].upper()
    cleaned = re.sub(
        r"^(?:the\s+)?(?:correct\s+)?(?:option|choice|answer)(?:\s+is)?\s*[:：]?\s+", "", cleaned, flags=re.IGNORECASE
    )
    whole = re.fullmatch(rf"[(\[]?\s*({_LETTER})\s*[)\].:]?", cleaned, flags=re.IGNORECASE)
    if whole:
        return whole.group(1).upper()
    named = {
        match[1] for match in re.finditer(rf"\(({_LETTER})\)", cleaned) if not _NEGATED.search(cleaned[: match.start()])
    }
    if named:
        return named.pop() if len(named) == 1 else None
    opened = re.match(rf"\(?({_LETTER})(?:[).:](?=\s|$|[^A-Za-z])|\s*[,;—–]\s|\s+-\s)(.*)", cleaned, re.DOTALL)
    if opened is None:
        reason = re.match(
            rf"({_LETTER})\s+(?:because|since|as|is|for|due)\b(?! (?:not|wrong|incorrect|false)\b)", cleaned
        )
        if reason is None or (reason[1] == "A" and re.match(r"A\s+(?:is|for|as)\s+(?:a|an|the)\b", cleaned)):
            return None
        return reason[1]
    # "A, C" names two; "D, not B" one.
    several = re.match(r"\s*(?:and |or )?[A-J]\s*(?:,|and|or|$)", opened[2].strip() or "x")
    return None if several else opened[1]


def option_in(lines: list[str]) -> str | None:
    """The option that the last lines name: a line that is nothing else, "(C) is correct", "I would pick B"."""
    for line in (lines[-1], *reversed(lines[-3:-1])):
        line = line[-2000:]
        if choice_letter(line) is not None:
            return unwrap(line)
        named = [
            match
            for match in _OPTION.finditer(line)
            if match["letter"].isupper() and not _NEGATED.search(line[: match.start("letter")])
        ]
        named = [
            match
            for match in named
            if match["letter"] != "A"
            or (match["named"] or "").lower() in ("option", "choice")
            or not re.match(r"A\s+[a-z]", line[match.start("letter") :])
        ]
        letters = {match["letter"] for match in named}
        if len(letters) == 1:
            return letters.pop()
        if letters:
            return None
    return None
