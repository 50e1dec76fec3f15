r"""Questions whose prose is in another language, by py3langid on what is left without formulas.

Most English questions are known by their small words alone. Of the others, the identifier must give all kept languages
together less than `LEAST`: text with much LaTeX has few words, and "In triangle $ABC$ ... Find" looks like many
languages. Text with less than `WORDS` words stays, whatever they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from s1ray.config import ConfigError

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

LEAST = 0.01
"""Probability of the kept languages together below which a text is in another one."""
WORDS, LETTERS = 3, 4
"""Words that say enough, or letters of scripts that write words without spaces or letter by letter."""
_WORDS = (
    "the of and is are what find how that many with let if by for which each to be has determine compute suppose given "
    "from value this there where when"
)
_ENGLISH = frozenset(_WORDS.split())
"""Words that questions in English have and questions in other languages hardly."""
_FORMULA = re.compile(
    r"\$\$.*?\$\$|\$[^$]*\$|\\\[.*?\\\]|\\\(.*?\\\)|\[asy\].*?\[/asy\]|\\begin\{(\w+\*?)\}.*?\\end\{\1\}|\\[a-zA-Z]+|"
    r"https?://\S+",
    re.DOTALL,
)
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|['\u2019\u0300-\u036f\u0900-\u0fff])+")
_OTHER_SCRIPT = re.compile(r"[^\W\d_a-zA-Z\u00aa-\u024f\u0370-\u03ff\u1e00-\u1eff]")
"""Neither Latin nor Greek, which formulas have."""


def foreign(question: str, kept: Sequence[str]) -> bool:
    """Whether a question is in none of these languages (ISO 639-1)."""
    if "en" in kept and _is_plain_english(question):
        return False
    text = prose(question)
    if len(text.split()) < WORDS and len(_OTHER_SCRIPT.findall(text)) < LETTERS:
        return False
    likely = identifier().rank(text)
    return float(sum(share for language, share in likely if language in kept)) < LEAST


def prose(question: str) -> str:
    """The words of a question, formulas and single letters left out."""
    return " ".join(_WORD.findall(_FORMULA.sub(" ", question)))


def check_languages(kept: Sequence[str]) -> None:
    """Check that these languages can be told from others.

    Raises:
        ConfigError: py3langid is not installed, or does not know one of them.
    """
    known = set(identifier().nb_classes)
    if unknown := sorted(set(kept) - known):
        raise ConfigError(f"quality.language: {', '.join(unknown)} is none of the known {', '.join(sorted(known))}")


@lru_cache(maxsize=1)
def identifier() -> LanguageIdentifier:
    """What tells languages, loaded once in a process.

    Raises:
        ConfigError: py3langid is not installed.
    """
    try:
        from py3langid.langid import MODEL_FILE
        from py3langid.langid import LanguageIdentifier as Identifier
    except ImportError:
        raise ConfigError(
            'quality.language needs py3langid on every node: pip install "s1ray[language]", or leave the field out'
        ) from None
    return Identifier.from_model_file(MODEL_FILE, norm_probs=True)


def _is_plain_english(question: str) -> bool:
    words = question.lower().split()
    found = sum(map(_ENGLISH.__contains__, words))
    return found >= WORDS and found * 6 >= len(words)
