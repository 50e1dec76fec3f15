r"""What spelling of what: Unicode signs, LaTeX commands, names of functions and letters.

The signs of the normal form are ASCII where ASCII has one (`<=`, `*`, `/`), Greek letters are themselves, and all other
signs have the name of their LaTeX command. So `≤`, `\leq` and `\le` are `<=`; `π`, `\pi` and "pi" are `π`; and `∪` and
`\cup` are `\cup`.
"""

from __future__ import annotations

import unicodedata

FACTORIAL, PRIME, DOTS = "\\factorial", "\\prime", "\\ldots"
DEGREE, BLANK, AND = "°", "__", "\\&"
LINE = "¶"
"""The end of a line, where a caller asks for it."""

_LETTERS = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lamda", "mu", "nu", "xi",
    "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
)  # fmt: skip
_SMALL = {name: unicodedata.lookup(f"GREEK SMALL LETTER {name.upper()}") for name in _LETTERS}
_SMALL["lambda"] = _SMALL.pop("lamda")
_CAPITAL_NAMES = ("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega")
_CAPITAL = {name: _SMALL[name.lower()].upper() for name in _CAPITAL_NAMES}
GREEK_WORDS: dict[str, str] = {name: letter for name, letter in _SMALL.items() if name not in ("iota", "nu", "eta")}
"""Words that stand for a Greek letter where LaTeX is removed."""
_VARIANTS = {
    "varepsilon": "ε", "varphi": "φ", "vartheta": "θ", "varrho": "ρ", "varsigma": "σ", "varpi": "π", "varkappa": "κ",
}  # fmt: skip

_FUNCTION_NAMES = (
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "arccot", "sinh", "cosh", "tanh", "log",
    "ln", "lg", "exp", "det", "dim", "ker", "gcd", "lcm", "arg", "deg", "max", "min", "lim",
)  # fmt: skip
FUNCTIONS: dict[str, str] = {name: f"\\{name}" for name in _FUNCTION_NAMES}
"""Words that are functions, with or without a backslash."""
FUNCTION_SIGNS: frozenset[str] = frozenset(FUNCTIONS.values()) | {"\\sum", "\\prod", "\\int"}

COMMANDS: dict[str, str] = {
    **_SMALL, **_CAPITAL, **_VARIANTS, **FUNCTIONS,
    "cdot": "*", "times": "*", "ast": "*", "div": "/", "le": "<=", "leq": "<=", "leqslant": "<=", "leqq": "<=",
    "ge": ">=", "geq": ">=", "geqslant": ">=", "geqq": ">=", "lt": "<", "gt": ">", "neq": "\\ne", "not=": "\\ne",
    "dfrac": "\\frac", "tfrac": "\\frac", "cfrac": "\\frac", "sfrac": "\\frac", "nicefrac": "\\frac",
    "dbinom": "\\binom", "tbinom": "\\binom", "dots": DOTS, "cdots": DOTS, "dotsc": DOTS, "dotsb": DOTS, "dotso": DOTS,
    "dotsm": DOTS, "hdots": DOTS, "vert": "|", "lvert": "|", "rvert": "|", "mid": "|", "Vert": "| |", "lVert": "| |",
    "rVert": "| |", "lbrace": "\\{", "rbrace": "\\}", "lbrack": "[", "rbrack": "]", "varnothing": "\\emptyset",
    "rightarrow": "\\to", "longrightarrow": "\\to", "implies": "\\Rightarrow", "Longrightarrow": "\\Rightarrow",
    "iff": "\\Leftrightarrow", "degree": DEGREE, "degrees": DEGREE, "textdegree": DEGREE, "lfloor": "\\lfloor",
    "angle": "angle", "triangle": "triangle", "measuredangle": "angle", "mod": "mod", "bmod": "mod", "textbar": "|",
    "colon": ":", "prime": PRIME, "percent": "%", "smallsetminus": "\\setminus", "backslash": "\\setminus",
    "land": "and", "lor": "or", "minus": "-", "plus": "+", "wedge": "\\wedge", "imath": "i", "jmath": "j",
    "thickapprox": "\\approx", "bigcup": "\\cup", "bigcap": "\\cap", "owns": "\\ni", "textasciitilde": "",
    "bar": "\\overline", "cal": "\\mathcal",
}  # fmt: skip
"""Name of a command -> what it is here. A command that is not in the table is itself."""

_LOOKS = (
    "left", "right", "middle", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "biggl", "biggr", "Biggl",
    "Biggr", "bigm", "displaystyle", "textstyle", "scriptstyle", "scriptscriptstyle", "limits", "nolimits", "quad",
    "qquad", "thinspace", "medspace", "thickspace", "enspace", "space", "hfill", "nobreak", "mathstrut", "strut", "bf",
    "rm", "it", "sf", "tt", "em", "bfseries", "itshape", "noindent", "newline", "par", "item", "hline", "nonumber",
    "smallskip", "medskip", "bigskip", "centering", "large", "Large", "small", "tiny", "dsp", "allowbreak",
)  # fmt: skip
COMMANDS.update(dict.fromkeys(_LOOKS, ""))
WRAPPERS: frozenset[str] = frozenset(
    {
        "\\text", "\\textbf", "\\textit", "\\textrm", "\\textsf", "\\texttt", "\\textnormal", "\\textsc", "\\emph",
        "\\mathrm", "\\mathbf", "\\mathit", "\\mathsf", "\\mathtt", "\\mathnormal", "\\boldsymbol", "\\bm", "\\mbox",
        "\\hbox", "\\operatorname", "\\underline", "\\boxed", "\\fbox", "\\ensuremath", "\\pmb", "\\bold", "\\mathop",
    }
)  # fmt: skip
"""Commands that only set how their argument looks."""

_SIGNS = {
    "-": "−‐‑‒–﹣", ",": "—―，、", "*": "·⋅∙•∗", "\\times": "×", "/": "÷∕⁄", "<=": "≤⩽≦",
    ">=": "≥⩾≧", "\\ne": "≠", "\\approx": "≈",
    "\\equiv": "≡", "\\pm": "±", "\\mp": "∓", "\\infty": "∞", "\\emptyset": "∅", "\\cup": "∪⋃", "\\cap": "∩⋂",
    "\\in": "∈", "\\notin": "∉", "\\subset": "⊂", "\\subseteq": "⊆", "\\setminus": "∖", "\\mathbb R": "ℝ",
    "\\mathbb Z": "ℤ", "\\mathbb N": "ℕ", "\\mathbb Q": "ℚ", "\\mathbb C": "ℂ", "°": "˚º", "\\ldots": "…⋯",
    "\\langle": "⟨〈", "\\rangle": "⟩〉", "\\to": "→⟶", "\\Rightarrow": "⇒⟹", "\\Leftrightarrow": "⇔⟺",
    "\\sum": "∑", "\\prod": "∏", "\\int": "∫", "\\lfloor": "⌊", "\\rfloor": "⌋", "\\lceil": "⌈", "\\rceil": "⌉",
    "angle": "∠∡", "triangle": "△▵", "\\perp": "⊥⟂", "\\parallel": "∥‖", "\\sqrt": "√", "\\sqrt[3]": "∛",
    "\\partial": "∂", "\\nabla": "∇", "\\forall": "∀", "\\exists": "∃", "\\cong": "≅", "\\sim": "∼", "\\circ": "∘",
    "|": "∣｜", "\\propto": "∝", "\\oplus": "⊕", "\\otimes": "⊗", "\\wedge": "∧", "\\vee": "∨", "\\neg": "¬",
    "'": "′‘’ʼ´", "''": "″", '"': "“”„«»", "\\mapsto": "↦", "\\ell": "ℓ", "\\star": "⋆★", "\\ge": "",
    "\\not |": "∤", "\\not \\equiv": "≢", "\\not \\subset": "⊄", "\\not \\subseteq": "⊈", "\\not \\parallel": "∦",
    "φ": "ϕ", "ε": "ϵ", "θ": "ϑ", "ρ": "ϱ", "σ": "ς", "μ": "µ", "Δ": "∆", "Ω": "Ω", "π": "ϖ",
}  # fmt: skip
_TIGHT = frozenset("-,'") | {"''", '"'}
"""Signs whose neighbours matter."""
_FRACTIONS = {
    "½": "1/2",
    "⅓": "1/3",
    "⅔": "2/3",
    "¼": "1/4",
    "¾": "3/4",
    "⅕": "1/5",
    "⅖": "2/5",
    "⅗": "3/5",
    "⅘": "4/5",
}
_FRACTIONS |= {"⅙": "1/6", "⅚": "5/6", "⅐": "1/7", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8", "⅑": "1/9"}
_INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\ufeff"

SUPERSCRIPTS, SUBSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱˣ", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₙₖₓᵢⱼₘₐ"
LOWERED = str.maketrans(SUPERSCRIPTS + SUBSCRIPTS, "0123456789+-=()nix" + "0123456789+-=()nkxijma")


class _Characters(dict[int, str]):
    """Translation of characters; what is not in the table is looked up once in Unicode's compatibility forms.

    Character by character, so that nothing merges with its neighbours; a compatibility form of several characters has
    spaces around it, but for the ligatures of letters within a word ("fi"). Compatibility powers and indices never come
    here: they are written out before.
    """

    def __missing__(self, code: int) -> str:
        character = chr(code)
        form = character if code < 128 else unicodedata.normalize("NFKC", character)
        if form != character:
            form = form.translate(self)
        self[code] = form if len(form) <= 1 or code in _LIGATURES else f" {form} "
        return self[code]


_LIGATURES = range(0xFB00, 0xFB07)


CHARACTERS = _Characters()
for _sign, _same in _SIGNS.items():
    CHARACTERS.update({ord(each): _sign if _sign in _TIGHT else f" {_sign} " for each in _same})
CHARACTERS.update({ord(letter): f" {letter} " for letter in (*_SMALL.values(), *_CAPITAL.values())})
CHARACTERS.update({ord(character): f"\\frac{{{f[0]}}}{{{f[2]}}}" for character, f in _FRACTIONS.items()})
CHARACTERS.update({ord(character): "" for character in _INVISIBLE})
CHARACTERS.update({ord("°"): " ° ", ord(LINE): ""})

_SHORT = (
    "le ge ne pm mp th nd rd am an as at be by do go he if in is it me my no of oh ok on or so to up us we mr ms dr "
    "st vs act add age ago aid air all and any are arm art ask bad bag bar bat bed bet big bit bow box boy bus but "
    "buy bye can cap car cat cop cow cry cup cut day did die dig dog dot dry due ear eat egg eye fan far fat few "
    "fit fix flu fly for fox fun gas get got gun gym guy had has hat her hid him his hit hop hot how ice ill ink "
    "its jam jar jet job key kid lap law lay leg let lie lip lot low man map may men met mix mom mud net new nor "
    "not now nut odd off oil old one our out own pan pay pen per pet pie pig pin pit pop pot put ran rat raw red "
    "rid row run sad sat saw say sea see set she shy sit six sky son spy sum sun tax tea ten the tie tin tip toe "
    "top toy try two use van via war was way web wet who why win won yes yet you zoo mod yen sue tom ann bob jim "
    "joe ted amy kim lee pam ron sam ben dan jon jen ray roy tim zoe"
)
SHORT_WORDS: frozenset[str] = frozenset(_SHORT.split())
"""Words of two or three letters that are words; other runs of two letters are products of variables."""
CONTRACTIONS: frozenset[str] = frozenset({"s", "t", "re", "ve", "ll", "d", "m"})
