r"""The words, letters and digits of a text, whatever became of the notation between them.

Where LaTeX is removed, "$\\frac{1}{2}$" may be "1/2", "12", "1 2" or "frac 1 2". So names of notation are left out, as
commands and as words, also where they stick to their neighbours ("overliner"). That some are English words as well does
no harm: they are left out of both texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from s1ray.curation.text.tables import COMMANDS, FUNCTIONS, GREEK_WORDS, WRAPPERS

_NAMES = (
    "frac sqrt degree degrees percent infinity infty mathbb mathrm mathbf mathcal boldsymbol binom choose begin end "
    "cell row relax displaystyle overline underline overrightarrow underbrace widehat operatorname mathop textbf "
    "textit vec hat bar tilde dot pmatrix bmatrix vmatrix matrix array cases align aligned tabular equation gather "
    "tikz ell cup cap in to ne not notin subset subseteq setminus emptyset equiv approx cong sim perp parallel pm "
    "mp lfloor rfloor lceil rceil langle rangle sum prod int partial nabla forall exists oplus otimes circ pmod "
    "cross star bullet stackrel overset underset square diamond diamondsuit clubsuit over multicolumn bold allowbreak "
    "hspace vspace phantom draw tikzpicture"
)
NOTATION: frozenset[str] = frozenset(
    [*_NAMES.split(), *COMMANDS, *FUNCTIONS, *GREEK_WORDS, *(name[1:] for name in WRAPPERS)]
)
"""Names of notation, which may stay as words where LaTeX was removed."""
_LONG = "|".join(sorted((name for name in NOTATION if len(name) > 3 and name.isalpha()), key=len, reverse=True))
_SHORT = "|".join(sorted(name for name in FUNCTIONS if len(name) == 3))
_TABLES = "(?=align|array|bmatrix|cases|equation|gather|matrix|pmatrix|tabular|tikz|vmatrix)"
_JOINED = re.compile(f"([a-z]{{0,2}}?)(?:{_LONG}|begin{_TABLES}|end{_TABLES})([a-z]*)$|()(?:{_SHORT})([a-z])$")
_STRIPPED = re.compile(
    r"[^\s.?!:] {2,}[^\s.]|[\^_](?=\s|$)|(?<![\w\\^])[_^]|\d \d"
    rf"|(?<![A-Za-z\\])[a-z]{{0,2}}(?:{_LONG})(?![a-z]*\()",
)
"""What is left where LaTeX was taken out: gaps, scripts of nothing, names of commands."""
_CACHE_SIZE = 1 << 18


class _LettersOf(dict[str, str]):
    """The letters and digits of a token; bounded in memory."""

    def __missing__(self, token: str) -> str:
        kept = "" if token in NOTATION or token[0] == "\\" else token
        # "overliner" of "\\overline{r}", "nequiv" of "n\\equiv".
        while joined := _JOINED.match(kept):
            before, after = joined[1] or "", joined[2] or joined[4] or ""
            kept = before + ("" if after in NOTATION else after)
        if not kept.isascii() or not kept.isalnum():
            kept = "".join(each for each in kept if each.isascii() and each.isalnum())
        if len(self) >= _CACHE_SIZE:
            self.clear()
        self[token] = kept
        return kept


LETTERS_OF = _LettersOf()


def is_stripped(text: str) -> bool:
    """Whether a text looks as if its LaTeX had been taken out."""
    return _STRIPPED.search(text) is not None


def letters_of(words: Iterable[str]) -> str:
    """The words, letters and digits of tokens without what may be a name of notation."""
    return "".join([LETTERS_OF[word] for word in words])
