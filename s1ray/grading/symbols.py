"""Characters and LaTeX commands, and what stands for them in the one notation of `notation`."""

from __future__ import annotations

import unicodedata

SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ", "0123456789+-()nix")
SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙₖₓ", "0123456789+-()nkx")
VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5"}
VULGAR |= {"⅙": "1/6", "⅚": "5/6", "⅐": "1/7", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8", "⅑": "1/9", "⅒": "1/10"}
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
CHARACTERS = str.maketrans(_SYMBOLS | _GREEK)

COMMANDS = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "sfrac": "frac", "nicefrac": "frac", "xfrac": "frac",
    "dbinom": "binom", "tbinom": "binom", "times": "cdot", "ast": "cdot", "leq": "le", "leqslant": "le", "geq": "ge",
    "geqslant": "ge", "neq": "ne", "varnothing": "emptyset", "dots": "ldots", "cdots": "ldots", "dotsc": "ldots",
    "dotsb": "ldots", "dotso": "ldots", "colon": ":", "mid": "|", "vert": "|", "lvert": "|", "rvert": "|", "lt": "<",
    "gt": ">", "lbrace": "\\{", "rbrace": "\\}", "lbrack": "[", "rbrack": "]", "backslash": "setminus", "bigcup": "cup",
    "degree": "^{\\circ}", "degrees": "^{\\circ}", "euro": "€", "pounds": "£", "land": " and ", "lor": " or ",
    "R": "mathbb{R}", "Z": "mathbb{Z}", "N": "mathbb{N}", "Q": "mathbb{Q}", "arcsec": "arcsec", "rightarrow": "to",
    "thickapprox": "approx", "varepsilon": "epsilon", "varphi": "phi", "lg": "log_{10}", "imath": "i", "jmath": "j",
    "infin": "infty",
}  # fmt: skip
"""Commands with another name of the same meaning; what does not begin with a letter stands for itself."""
DROPPED = frozenset((
    "left", "right", "middle", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "biggl", "biggr",
    "Biggl", "Biggr", "displaystyle", "textstyle", "scriptstyle", "limits", "nolimits", "quad", "qquad",
    "thinspace", "medspace", "thickspace", "enspace", "space", "hfill", "boldmath", "nobreak", "mathstrut",
    "strut", "bf", "rm", "it", "sf", "tt", "Large", "LARGE", "huge", "Huge", "large", "small", "tiny",
    "normalsize", "footnotesize", "notag",
))  # fmt: skip
"""Commands that only set how something looks; a space takes their place."""
WRAPPERS = frozenset((
    "text", "textbf", "textit", "textrm", "textsf", "texttt", "textnormal", "mathrm", "mathbf", "mathit", "mathsf",
    "mathtt", "mathnormal", "boldsymbol", "bm", "operatorname", "mbox", "hbox", "emph", "underline", "boxed",
    "fbox", "displaylines", "ensuremath",
))  # fmt: skip
"""Commands whose argument is what they say."""
WORDS = frozenset((
    "text", "textbf", "textit", "textrm", "textsf", "texttt", "textnormal", "mathrm", "operatorname", "mbox",
    "hbox", "emph",
))  # fmt: skip
