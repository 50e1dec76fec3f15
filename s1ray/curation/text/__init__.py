"""Text in the forms that comparisons need: one definition of "the same text" for all stages."""

from s1ray.curation.text.blocks import TokenBlock, WordBlock, answer_keys, text_keys, word_counts
from s1ray.curation.text.normal import normal_form, tokens

__all__ = [
    "TokenBlock",
    "WordBlock",
    "answer_keys",
    "normal_form",
    "text_keys",
    "tokens",
    "word_counts",
    "word_ngrams",
]


def word_ngrams(text: str, n: int) -> list[str]:
    """All runs of `n` words, in order, in s1's normal form: lower case, and one space between words."""
    words = text.lower().split()
    return [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
