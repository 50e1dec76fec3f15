r"""Residue classes: "3 \pmod 7", "n \equiv 0, 1 \pmod 4", "2^{10} \equiv 2 (mod 7)"."""

from __future__ import annotations

import re

from s1ray.grading.bounds import NAME
from s1ray.grading.splitting import spaces_free
from s1ray.grading.values import Items, Residues, Scalar, Value

_MODULUS = re.compile(
    r"(?P<left>.*[^\s(,]) ?,? ?\(? ?(?:\\[pb]?mod|(?<![a-zA-Z\\])mod(?:ulo)?)(?![a-zA-Z])"
    r" ?\{? ?(?P<modulus>[^{}()=,]+?) ?\}? ?\)?"
)
_POWER = re.compile(r"(?P<base>\d{1,12})(?:\^\{(?P<exponent>\d{1,12})\})?")
_WHOLE = re.compile(r"-?\d{1,12}")


def read_residues(text: str) -> Residues | None:
    """Residues and their modulus; None: the text is something else."""
    if "mod" not in text or text.count("mod") != 1:
        return None
    match = _MODULUS.fullmatch(text)
    if match is None:
        return None
    sides = re.split(r"\\equiv(?![a-zA-Z])|=", match["left"])
    if len(sides) > 2 or not sides[-1].strip():
        return None
    modulus = spaces_free(match["modulus"])
    parts = re.split(r",|(?<![A-Za-z\\])(?:or|and)(?![A-Za-z])", sides[-1].strip(" ()"))
    residues = tuple(spaces_free(part.strip()) for part in parts if part.strip())
    if len(sides) == 1:
        return Residues(residues, modulus)
    if NAME.fullmatch(sides[0]):
        return Residues(residues, modulus, spaces_free(sides[0].strip()))
    # "2^{10} \equiv 2" names a residue, if it is true.
    power = _POWER.fullmatch(spaces_free(sides[0].strip()))
    if power is None or not _WHOLE.fullmatch(modulus) or int(modulus) < 1:
        return None
    value = pow(int(power["base"]), int(power["exponent"] or 1), int(modulus))
    return Residues(residues if _reduced(Residues(residues, modulus)) == {str(value)} else (), modulus)


def same_residues(gold: Value, answer: Value) -> bool:
    """The answer may omit the reference's modulus, but not contradict it."""
    if isinstance(gold, Residues) and isinstance(answer, Residues):
        if gold.modulus != answer.modulus or (None not in (gold.name, answer.name) and gold.name != answer.name):
            return False
        return bool(gold.residues) and _reduced(gold) == _reduced(answer)
    classes, other = (gold, answer) if isinstance(gold, Residues) else (answer, gold)
    assert isinstance(classes, Residues)
    items = other.items if isinstance(other, Items) else (other,)
    numbers = {str(item.number.value) for item in items if isinstance(item, Scalar) and item.number is not None}
    return bool(numbers) and len(numbers) == len(items) and numbers == set(classes.residues)


def _reduced(value: Residues) -> set[str]:
    """The residues, from 0 up to the modulus where they are whole numbers."""
    if not _WHOLE.fullmatch(value.modulus) or int(value.modulus) < 1:
        return set(value.residues)
    return {str(int(r) % int(value.modulus)) if _WHOLE.fullmatch(r) else r for r in value.residues}
