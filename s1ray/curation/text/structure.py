r"""Groups, powers, roots and fractions of LaTeX in the notation of plain text; one pass over the tokens with a stack.

A group is written with round brackets where its reader needs them and without braces everywhere else: `x^{2}` is
`x ^ 2`, `x^{n+1}` is `x ^ ( n + 1 )`, `\text{if } x` is `if x`, and `\frac{a+b}{2}` is `( a + b ) / 2`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s1ray.curation.text.tables import AND, DEGREE, FACTORIAL, FUNCTION_SIGNS, LINE, PRIME, WRAPPERS

MAX_DEPTH = 40
"""Groups below are not followed: their braces are dropped. Bounds the time, which is linear in the text."""
_ARGUMENTS = {"^": 1, "_": 1, "\\frac": 2, "\\binom": 2, "\\sqrt": 1, "\\pmod": 1} | dict.fromkeys(WRAPPERS, 1)
NOTHING = "\\relax"
"""Stands where a command should have an argument and has none."""
_SCRIPTS = frozenset("^_")
TABLE_CELLS = {"&": "\\cell", "\\\\": "\\row"}
"""What separates the cells and the rows of a matrix."""
ALIGNED_CELLS = {"&": "", "\\\\": ""}
"""In formulas one below another they only say where a line begins."""
PLAIN_CELLS = {"&": AND, "\\\\": ""}
_SPECIAL = frozenset(_ARGUMENTS) | frozenset(TABLE_CELLS) | {"{", "}"}
_SUMS = frozenset(["+", "-", "\\pm", "\\mp", "=", "<", ">", "<=", ">=", "\\ne", ",", ";", ":", "|", "\\to", "\\in",
                   "\\equiv", "\\approx", "\\cup", "\\cap", "\\ldots"])  # fmt: skip
_FACTORS = frozenset(["\\sqrt", PRIME, FACTORIAL, "\\infty"])
"""Commands that may stand in a numerator without brackets."""
_BINDS = frozenset(["^", "_", "(", "[", PRIME, FACTORIAL, "{", DEGREE])
_OPEN, _CLOSE = frozenset(["(", "[", "\\{"]), frozenset([")", "]", "\\}"])
_NO_ARGUMENT = _CLOSE | frozenset(["(", "=", "+", "/", "*", "<", ">", "<=", ">=", NOTHING, *TABLE_CELLS])
_ORDINALS = frozenset(["th", "st", "nd", "rd"])
_PUNCTUATION = frozenset([LINE, ".", "?", ",", ";", ":"])


class _Frame:
    """A group that is open, or a command that waits for its arguments."""

    __slots__ = ("after_command", "arguments", "index", "name", "needed", "out", "sign")

    def __init__(self, name: str, needed: int = 0, *, after_command: bool = False) -> None:
        self.name = name
        """Of the command; "{" for a group."""
        self.needed = needed
        self.after_command = after_command
        self.out: list[str] = []
        self.arguments: list[list[str]] = []
        self.sign: list[str] = []
        self.index: list[str] | None = None
        """Of a root, while it is open."""


def structure(parts: list[str], cells: Mapping[str, str]) -> list[str]:
    """Tokens of LaTeX without its groups.

    Args:
        parts: tokens.
        cells: what becomes of `&` and of the ends of rows; empty: they are dropped.
    """
    return _Walk(parts, cells).result()


class _Walk:
    def __init__(self, parts: list[str], cells: Mapping[str, str]) -> None:
        self.parts, self.cells = parts, cells
        self.frames = [_Frame("")]
        self.skipped = 0
        self.place = 0

    def result(self) -> list[str]:
        parts = self.parts
        marks = [place for place, part in enumerate(parts) if part in _SPECIAL]
        out, waiting = self.frames[0].out, 0
        for mark in marks:
            while waiting and self.place < mark:
                out, waiting = self.step()
            out += parts[self.place : mark]
            self.place = mark
            following = parts[mark + 1] if mark + 1 < len(parts) else ""
            if not waiting and parts[mark] in _SCRIPTS and following.isalnum() and following not in _ORDINALS:
                # The most frequent case, without a frame: "x^2".
                out += parts[mark : mark + 2]
                self.place += 2
            else:
                out, waiting = self.step()
        while waiting and self.place < len(parts):
            out, waiting = self.step()
        out += parts[self.place :]
        self.place = len(parts)
        while len(self.frames) > 1:
            self.close()
        return _unbracketed(self.frames[0].out)

    def step(self) -> tuple[list[str], int]:
        """Take the token at `place`; gives the innermost frame's tokens, and how many arguments it waits for."""
        self.special(self.parts[self.place], self.frames[-1])
        self.place += 1
        top = self.frames[-1]
        return top.out, top.needed

    def special(self, part: str, top: _Frame) -> None:
        if part in self.cells:
            part = self.cells[part]
            if not part:
                return
        if part == "{":
            self.open(top)
        elif part == "}":
            self.end_group()
        elif part in _ARGUMENTS and len(self.frames) < MAX_DEPTH:
            self.frames.append(_Frame(part, _ARGUMENTS[part]))
        elif top.needed:
            self.argument(part, top)
        else:
            top.out.append(part)

    def open(self, top: _Frame) -> None:
        if len(self.frames) >= MAX_DEPTH:
            self.skipped += 1
            return
        after = not top.needed and bool(top.out) and top.out[-1][0] == "\\" and top.out[-1] not in _CLOSE | _OPEN
        self.frames.append(_Frame("{", after_command=after and len(top.out[-1]) > 1 and top.out[-1][1:].isalpha()))

    def end_group(self) -> None:
        if self.skipped:
            self.skipped -= 1
            return
        if any(frame.name == "{" for frame in self.frames):
            while self.frames[-1].needed:
                self.close()
            self.close()

    def argument(self, part: str, top: _Frame) -> None:
        """A token where a command waits for an argument."""
        if top.index is not None:
            if part == "]":
                top.out = ["[", *top.index, "]"]
                top.index = None
            else:
                top.index.append(part)
        elif part == "[" and top.name == "\\sqrt" and not top.out:
            top.index = []
        elif part == "-" and top.name in "^_" and not top.sign:
            top.sign = ["-"]
        elif part in _PUNCTUATION:
            return
        elif part in _NO_ARGUMENT:
            self.close(bare=part != "(")
            if part != NOTHING:
                self.special(part, self.frames[-1])
        else:
            self.deliver([part])

    def close(self, *, bare: bool = True) -> None:
        """End the innermost frame as it is, and hand what it holds to the one around it.

        Args:
            bare: a command without arguments keeps its distance from what follows.
        """
        frame = self.frames.pop()
        if not frame.needed:
            self.deliver(self.group(frame))
            return
        out = [frame.name] if frame.name not in WRAPPERS else []
        out += frame.out if frame.index is None else ["[", *frame.index]
        if (bare or self.frames[-1].needed) and out and not frame.arguments and frame.index is None:
            out.append(NOTHING)
        for argument in frame.arguments:
            out += ["(", *argument, ")"]
        self.deliver([*out, *frame.sign])

    def group(self, frame: _Frame) -> list[str]:
        out = frame.out
        if "\\choose" in out:
            at = out.index("\\choose")
            return ["\\binom", "(", *out[:at], ",", *out[at + 1 :], ")"]
        if frame.after_command:
            return _bracketed(out)
        if not self.frames[-1].needed and "," in out and "," in _top_level(out):
            return ["\\{", *out, "\\}"]
        return out

    def deliver(self, out: list[str]) -> None:
        while True:
            top = self.frames[-1]
            if not top.needed:
                top.out += out
                return
            if top.index is not None:
                top.index += out
                return
            top.arguments.append(top.sign + out)
            top.sign = []
            if len(top.arguments) < top.needed:
                return
            self.frames.pop()
            out = self.written(top)

    def written(self, frame: _Frame) -> list[str]:
        """A command with all its arguments."""
        name, first = frame.name, frame.arguments[0]
        if name in WRAPPERS:
            return first
        if name == "\\frac":
            around = self.frames[-1]
            before = "" if around.needed else next((part for part in reversed(around.out) if part != LINE), "")
            return _fraction(first, frame.arguments[1], before, self.next())
        if name == "\\binom":
            return [name, "(", *first, ",", *frame.arguments[1], ")"]
        if name == "\\pmod":
            return ["(", "mod", *first, ")"]
        if name == "^" and first in (["\\circ"], [DEGREE]):
            return [DEGREE]
        if name == "^" and first and first.count(PRIME) == len(first):
            return first
        if name == "^" and len(first) == 1 and first[0] in _ORDINALS:
            return first
        if name == "^" and len(first) == 3 and first[0] == "(" and first[1].isdigit():
            # A derivative, "f^{(2)}", and no power.
            return ["^", "(", *first, ")"]
        return [name, *frame.out, *_bracketed(first)]

    def next(self) -> str:
        for place in range(self.place + 1, min(self.place + 6, len(self.parts))):
            if self.parts[place] not in ("}", LINE):
                return self.parts[place]
        return ""


def _fraction(over: list[str], under: list[str], before: str, after: str) -> list[str]:
    out = over if _is_product(over) else _bracketed(over)
    power = len(under) == 3 and under[1] == "^"
    out = [*out, "/", *(under if power else _bracketed(under))]
    single = len(after) == 1 and after.isalpha()
    binds = after[:1].isdigit() or single or after in _BINDS or after == "\\sqrt" or after in FUNCTION_SIGNS
    return ["(", *out, ")"] if binds or before == "/" or before in FUNCTION_SIGNS else out


def _is_product(out: list[str]) -> bool:
    return not any(part in _SUMS or (part[0] == "\\" and part not in _FACTORS) for part in _top_level(out)) and bool(
        out
    )


def _bracketed(out: list[str]) -> list[str]:
    atom = len(out) == 1 or (len(out) == 2 and out[0] == "\\sqrt")
    group = len(out) > 1 and out[0] == "(" and len(_top_level(out)) == 1
    return out if atom or group else ["(", *out, ")"]


def _top_level(out: Sequence[str]) -> list[str]:
    """The tokens outside of brackets; a bracketed group counts as its opening bracket."""
    depth, found = 0, []
    for part in out:
        if part in _CLOSE:
            depth -= 1
        elif depth <= 0:
            found.append(part)
        if part in _OPEN:
            depth = max(depth, 0) + 1
    return found


def _unbracketed(out: list[str]) -> list[str]:
    """Without round brackets about a number after `^`, and about anything single under a root."""
    kept: list[str] = []
    done = 0
    for place in [place for place, part in enumerate(out) if part == ")"]:
        if place > 2 and out[place - 2] == "(" and (before := out[place - 3]) in _UNBRACKETED:
            inner = out[place - 1]
            if inner not in _OPEN and (before == "\\sqrt" or inner.isdigit()):
                kept += [*out[done : place - 2], inner]
                done = place + 1
    return kept + out[done:] if done else out


_UNBRACKETED = frozenset(["^", "\\sqrt"])
