"""Sixteen ways in which a benchmark question gets into a pool, each a function of the question and a random source."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

Rewrite = Callable[[str, random.Random], str]

_MATH = re.compile(r"\$\$.+?\$\$|\$[^$]+\$|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL)
_GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "theta": "θ", "pi": "π", "omega": "ω", "phi": "φ", "lambda": "λ"}
_SIGNS = {"cdot": "·", "times": "×", "leq": "≤", "le": "≤", "geq": "≥", "ge": "≥", "neq": "≠", "infty": "∞",
          "angle": "∠", "triangle": "△", "circ": "°", "ldots": "…", "dots": "…", "cdots": "⋯", "in": "∈", "cup": "∪",
          "cap": "∩", "to": "→", "pm": "±", "equiv": "≡", "perp": "⊥"}  # fmt: skip
_POWERS = str.maketrans("0123456789n", "⁰¹²³⁴⁵⁶⁷⁸⁹ⁿ")
_INDICES = str.maketrans("0123456789n", "₀₁₂₃₄₅₆₇₈₉ₙ")
_SYNONYMS = {
    "find": "determine", "compute": "calculate", "evaluate": "work out", "determine": "find", "calculate": "compute",
    "what is": "give", "how many": "what number of", "value": "quantity", "positive": "nonnegative",
    "such that": "so that",
    "given": "known", "let": "suppose", "suppose": "assume", "smallest": "least", "largest": "greatest", "greatest":
    "largest", "least": "smallest", "each": "every", "every": "each", "contains": "has", "consider": "look at",
    "solve": "work out", "express": "write", "product": "multiplication", "distinct": "different",
    "equal to": "the same as",
    "total": "overall", "entire": "whole", "begins": "starts", "point": "spot", "sides": "edges", "passes": "goes",
}  # fmt: skip
_NAMES = (  # noqa: SIM905
    "Alice Bob Tom Mary John Sarah Steve Jon Emma Max Sam Jim Joe Dave Carol Betty Susan Peter Paul Bill Frank Ann "
    "Ben Charlie Ellen Evan Fred George Greg Harry Jack Jane Jason Jenny Jill Karen Kevin Laura Lisa Luke Mark Mike "
    "Nancy Nathan Pat Rachel Ray Rick Robert Roger Ron Ryan Sally Tim Tina Todd Will Anna Brian Chris Daniel David "
    "James Jessica Julia Kim Larry Linda Martin Matt Michael Monica Nick Olivia Rebecca Richard Scott Sean Sue "
    "Terry Thomas Tony Victor Wendy Aya Jen Xena Ed Homer Jar Cheryl Malcolm Ursula"
).split()
_OTHER_NAMES = "Priya Kofi Ingrid Mateo Yuki Olga Tariq Zanele Bjorn Leila".split()  # noqa: SIM905
_THINGS = {"apples": "pears", "dollars": "euros", "coins": "tokens", "marbles": "beads", "books": "journals", "cards":
           "tiles", "boys": "students", "girls": "pupils", "students": "players", "people": "guests", "balls": "cubes",
           "dice": "spinners", "car": "truck", "school": "college", "team": "club", "city": "town"}  # fmt: skip
_INSTRUCTIONS = (
    "Solve the following problem step by step.\n\n{}", "{}\nPlease put your final answer in \\boxed{{}}.",
    "Question: {} Answer:", "{}\n\nLet's think step by step.", "Return your final response within \\boxed{{}}. {}",
    "You are an expert in mathematics.\nProblem: {}\nShow all of your work.",
)  # fmt: skip


def verbatim(text: str, rng: random.Random) -> str:
    return text


def case_and_space(text: str, rng: random.Random) -> str:
    cased = rng.choice((str.lower, str.upper, lambda each: each.replace("\n", " ")))(text)
    return re.sub(r" ", lambda _: rng.choice((" ", "  ", "\n")), f"  {cased} ")


def delimiters(text: str, rng: random.Random) -> str:
    def other(match: re.Match[str]) -> str:
        body = re.sub(r"^(?:\$\$|\$|\\\(|\\\[)|(?:\$\$|\$|\\\)|\\\])$", "", match[0])
        return rng.choice(("\\({}\\)", "\\[{}\\]", "$${}$$", "${}$")).replace("{}", body)

    return _MATH.sub(other, text)


def latex_spelling(text: str, rng: random.Random) -> str:
    text = re.sub(r"\\frac(?![a-z])", lambda _: rng.choice(("\\dfrac", "\\tfrac", "\\frac")), text)
    text = re.sub(r"\\leq?(?![a-z])", lambda _: rng.choice(("\\le", "\\leq", "\\leqslant")), text)
    text = re.sub(r"\\geq?(?![a-z])", lambda _: rng.choice(("\\ge", "\\geq", "\\geqslant")), text)
    text = re.sub(r"\\cdot(?![a-z])", r"\\times", text)
    text = re.sub(r"([\^_])(\w)(?![\w}])", r"\1{\2}", text)
    text = re.sub(r"\\text(?=\{)", r"\\mathrm", text)
    text = re.sub(r"\\(?:left|right)(?![a-z])", "", text)
    text = re.sub(r"\\[,;!] ?", "", text)
    text = re.sub(r"(?<=[\w}])([=+])(?=[\w\\])", r" \1 ", text)
    return re.sub(r"(\d),(\d{3})(?!\d)", r"\1{,}\2", text)


def _replaced(text: str, pattern: str, template: str) -> str:
    for _ in range(4):
        text = re.sub(pattern, template, text)
    return text


def unicode_math(text: str, rng: random.Random) -> str:
    text = re.sub(r"\^(?:\{\\circ\}|\\circ)", "°", text)
    for name, sign in (_GREEK | _SIGNS).items():
        text = re.sub(rf"\\{name}(?![a-zA-Z]) ?", sign, text)
    text = re.sub(r"\^(?:\{(\d+|n)\}|(\d|n)(?!\w))", lambda match: (match[1] or match[2]).translate(_POWERS), text)
    text = re.sub(r"_(?:\{(\d+|n)\}|(\d|n)(?!\w))", lambda match: (match[1] or match[2]).translate(_INDICES), text)
    text = _replaced(text, r"\\sqrt\{(\w+)\}", r"√\1")
    text = _replaced(text, r"\\sqrt\{([^{}]*)\}", r"√(\1)")
    return text.replace("-", "−") if rng.random() < 0.5 else text


def latex_removed(text: str, rng: random.Random) -> str:
    style = rng.choice(("read", "commands", "backslashes"))
    if style == "backslashes":
        return re.sub(r"\\\\|[\\$]", " ", text)
    if style == "commands":
        return re.sub(r"[{}$]|\\[A-Za-z]+|\\.", " ", re.sub(r"\\(?:text|mathrm|mathbf)\{([^{}]*)\}", r"\1", text))
    text = re.sub(r"\\[dt]?frac(\d)(\d)", r"\1/\2", text)
    text = _replaced(text, r"\\[dt]?frac\{(\w+)\}\{(\w+)\}", r"\1/\2")
    text = _replaced(text, r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"(\1)/(\2)")
    text = _replaced(text, r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)")
    text = re.sub(r"\^(?:\{\\circ\}|\\circ)", " degrees", text)
    text = re.sub(r"\\(?:left|right|displaystyle|text|mathrm|mathbf)(?![a-z])", "", text)
    text = re.sub(r"\\leq?(?![a-z])", "<=", text)
    text = re.sub(r"\\geq?(?![a-z])", ">=", text)
    text = re.sub(r"\\(?:cdot|times)(?![a-z])", "*", text)
    text = re.sub(r"\\[,;! ]|\\[()\[\]]|\\\\|\\?\$", " ", text)
    return re.sub(r"[{}]", "", re.sub(r"\\([A-Za-z]+)", r"\1", text))


def instruction_added(text: str, rng: random.Random) -> str:
    return rng.choice(_INSTRUCTIONS).format(text)


def options_added(text: str, rng: random.Random) -> str:
    values = rng.sample(range(1, 99), 4)
    style = rng.choice(
        ("\n(A) {} (B) {} (C) {} (D) {}", "\nA. {}\nB. {}\nC. {}\nD. {}", " Options: A) {}, B) {}, C) {}, D) {}")
    )
    return text + style.format(*values)


def typo(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    long = [place for place, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    for place in rng.sample(long, min(len(long), max(1, len(words) // 12))):
        word, at = words[place], rng.randrange(1, len(words[place]) - 1)
        swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        words[place] = swapped if swapped != word else word[:at] + word[at + 1 :]
    return " ".join(words)


def synonyms(text: str, rng: random.Random) -> str:
    def other(match: re.Match[str]) -> str:
        word = _SYNONYMS[match[0].lower()]
        return word.capitalize() if match[0][0].isupper() else word

    known = "|".join(sorted(_SYNONYMS, key=len, reverse=True))
    return re.sub(rf"\b(?:{known})\b", other, text, flags=re.IGNORECASE)


def renamed_variables(text: str, rng: random.Random) -> str:
    letters = sorted(
        {each for math in _MATH.findall(text) for each in re.findall(r"(?<![A-Za-z\\])[a-zA-Z](?![A-Za-z])", math)}
    )
    others = [each for each in "tuvwzrsqhjkGHKLTUVW" if each not in letters]
    rng.shuffle(others)
    table = dict(zip(letters, others, strict=False))
    swap = lambda math: re.sub(r"(?<![A-Za-z\\])[a-zA-Z](?![A-Za-z])", lambda m: table.get(m[0], m[0]), math[0])  # noqa: E731
    return _MATH.sub(swap, text)


def other_names(text: str, rng: random.Random) -> str:
    names = [name for name in _NAMES if re.search(rf"\b{name}\b", text)]
    for name, other in zip(names, rng.sample(_OTHER_NAMES, len(_OTHER_NAMES)), strict=False):
        text = re.sub(rf"\b{name}\b", other, text)
    for thing, other in _THINGS.items():
        text = re.sub(rf"\b{thing}\b", other, text)
    return text


def reordered_sentences(text: str, rng: random.Random) -> str:
    sentences = re.split(r"(?<=[.?!]\$)\s+|(?<=[.?!])\s+", text.strip())
    return text if len(sentences) < 2 else " ".join([*sentences[1:], sentences[0]])


def first_half(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    return text if len(words) < 8 else " ".join(words[: len(words) // 2])


_NUMBER = re.compile(r"(?<![\d.])\d+(?![\d.]*\d)")


def one_number_changed(text: str, rng: random.Random) -> str:
    numbers = list(_NUMBER.finditer(text))
    if not numbers:
        return text
    match = rng.choice(numbers)
    return f"{text[: match.start()]}{int(match[0]) + rng.randrange(1, 9)}{text[match.end() :]}"


def all_numbers_changed(text: str, rng: random.Random) -> str:
    return _NUMBER.sub(lambda match: str(int(match[0]) + rng.randrange(1, 9)), text)


REWRITES: dict[str, Rewrite] = {
    "verbatim": verbatim,
    "case and space": case_and_space,
    "delimiters": delimiters,
    "LaTeX spelling": latex_spelling,
    "Unicode math": unicode_math,
    "LaTeX removed": latex_removed,
    "instruction added": instruction_added,
    "options added": options_added,
    "typo": typo,
    "synonyms": synonyms,
    "renamed variables": renamed_variables,
    "other names": other_names,
    "reordered sentences": reordered_sentences,
    "first half only": first_half,
    "one number changed": one_number_changed,
    "all numbers changed": all_numbers_changed,
}
SAME_PROBLEM = 7
"""The first rewrites change nothing that the question asks: the drop tier has to find them all."""
