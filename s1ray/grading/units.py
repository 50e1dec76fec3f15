"""Units of measurement and currencies: two quantities are the same if their units measure the same thing and the values
agree in one of them. A word that is no unit ("apples", "ways") says nothing about the value.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from fractions import Fraction

UNSPECIFIED = "unit"
"""What "square units" are of: they measure what any square measures."""
DEGREE = (("degree", 1),)
RADIAN = (("radian", 1),)

Dimension = tuple[tuple[str, int], ...]
"""Base quantities and their powers, sorted."""


@dataclass(frozen=True)
class Unit:
    """A known unit: how many of the base unit it is, and of what."""

    factor: Fraction
    dimension: Dimension


_TABLE = """
metre 1: m meter meters metre metres
metre 1/100: cm centimeter centimeters centimetre centimetres
metre 1/1000: mm millimeter millimeters millimetre millimetres
metre 1000: km kilometer kilometers kilometre kilometres
metre 127/5000: inch inches in
metre 381/1250: ft foot feet
metre 1143/1250: yd yard yards
metre 201168/125: mi mile miles
second 1: s sec secs second seconds
second 60: min mins minute minutes
second 3600: h hr hrs hour hours
second 86400: day days
second 604800: week weeks
month 1: month months
month 12: year years yr yrs
gram 1: g gram grams
gram 1000: kg kilogram kilograms
gram 1/1000: mg milligram milligrams
gram 45359237/100000: lb lbs pound pounds
gram 45359237/1600000: oz ounce ounces
dollar 1: dollar dollars usd
dollar 1/100: cent cents
euro 1: euro euros eur
sterling 1: gbp
yen 1: yen jpy
rupee 1: rupee rupees
radian 1: radian radians rad
celsius 1: celsius
fahrenheit 1: fahrenheit
kelvin 1: k kelvin
newton 1: n newton newtons
joule 1: j joule joules
joule 1000: kj kilojoule kilojoules
watt 1: w watt watts
watt 1000: kw kilowatt kilowatts
volt 1: v volt volts
ampere 1: ampere amperes amp amps
ohm 1: ohm ohms
hertz 1: hz hertz
pascal 1: pa pascal pascals
mole 1: mol mole moles
litre 1: l liter liters litre litres
litre 1/1000: ml milliliter milliliters millilitre millilitres
unit 1: unit units
am 1: am
pm 1: pm
"""
_UNITS: dict[str, Unit] = {"degree": Unit(Fraction(1), DEGREE), "degrees": Unit(Fraction(1), DEGREE)}
for _line in _TABLE.strip().splitlines():
    _of, _names = _line.split(":")
    _base, _factor = _of.split()
    for _name in _names.split():
        _UNITS[_name] = Unit(Fraction(_factor), ((_base, 1),))
_UNITS["mph"] = Unit(Fraction(201168, 125) / 3600, (("metre", 1), ("second", -1)))
_UNITS["kph"] = Unit(Fraction(1000, 3600), (("metre", 1), ("second", -1)))
_CASED = {"N", "J", "W", "V", "K", "L"}
"""Single letters that are units in upper case only."""
_CURRENCIES = {"\\$": "dollar", "$": "dollar", "€": "euro", "£": "sterling", "¥": "yen"}

_CURRENCY_FIRST = re.compile(r"([-+]?)\s*(\\\$|[$€£¥])\s*(?=[-+]?[\d.\\])")
_CURRENCY_LAST = re.compile(r"\s*(\\\$|[$€£¥])$")
_DEGREES_LAST = re.compile(r"\^\{\\circ\}\s*(?:([CF])|celsius|fahrenheit|)$")
_FUNCTION = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)|cis")
_WORD = r"[A-Za-z]+(?:\^\{-?\d\})?\.?"
_UNIT_LAST = re.compile(
    rf"(?<=[\d}})\w%])(?: (?={_WORD})|(?<=\d)(?=[A-Za-z]{{2,}}|m\^\{{))"
    rf"({_WORD}(?:(?: ?/ ?|\\cdot ?| |-){_WORD}){{0,5}})$"
)
_PART = re.compile(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)\.?")
_COMPOUND = re.compile(rf"{_PART.pattern}(?:,? (?:and )?{_PART.pattern}){{1,3}}")
_ARC = re.compile(r"(\d{1,4})\^\{\\circ\} ?(\d{1,2})'(?: ?(\d{1,2})(?:''|\"))?")
_FACTOR = re.compile(r"\s*(?P<over>/|per\b|)\s*(?P<name>[A-Za-z]+)\.?(?:\^\{(?P<power>-?\d)\})?")


def split_unit(text: str) -> tuple[str, Unit | None]:
    r"""A quantity in canonical notation as its value and its unit.

    None: there is no unit, or words that are none ("5 apples" gives "5"). "5x" and "5 x" stay whole.
    """
    if match := _CURRENCY_FIRST.match(text):
        return (match[1] + text[match.end() :]).strip(), Unit(Fraction(1), ((_CURRENCIES[match[2]], 1),))
    if match := _CURRENCY_LAST.search(text):
        return text[: match.start()], Unit(Fraction(1), ((_CURRENCIES[match[1]], 1),))
    if (match := _DEGREES_LAST.search(text)) and not _FUNCTION.search(text):
        scale = {"C": "celsius", "F": "fahrenheit"}.get(match[1] or "")
        return text[: match.start()], Unit(Fraction(1), ((scale, 1),) if scale else DEGREE)
    match = _UNIT_LAST.search(text)
    if match is None:
        return text, None
    value, words = text[: match.start()].strip(), match[1]
    unit = parse_unit(words)
    if unit is None and len(max(re.findall(r"[A-Za-z]+", words), key=len)) < 3:
        # One letter that is no unit is a variable.
        return text, None
    return value, unit


def same_kind(one: Dimension, other: Dimension) -> bool:
    """Whether two units measure the same thing; "square units" measure whatever is squared."""
    if one == other:
        return True
    powers = [dimension[0][1] for dimension in (one, other) if len(dimension) == 1]
    return len(powers) == 2 and powers[0] == powers[1] and UNSPECIFIED in (one[0][0], other[0][0])


def compound(text: str) -> tuple[Fraction, Unit] | None:
    r"""A quantity in several units, each smaller than the one before, in the first of them: "3 hours 30 minutes"."""
    if match := _ARC.fullmatch(text):
        minutes, seconds = int(match[2]), int(match[3] or 0)
        return int(match[1]) + Fraction(minutes, 60) + Fraction(seconds, 3600), Unit(Fraction(1), DEGREE)
    if not text[:1].isdigit() or not _COMPOUND.fullmatch(text):
        return None
    parts = [(Fraction(value), parse_unit(name)) for value, name in _PART.findall(text)]
    units = [unit for _, unit in parts if unit is not None]
    if len(units) < len(parts) or len({unit.dimension for unit in units}) > 1:
        return None
    if any(left.factor <= right.factor for left, right in itertools.pairwise(units)):
        return None
    total = sum((value * unit.factor for value, unit in parts if unit is not None), Fraction(0))
    return total / units[0].factor, units[0]


def parse_unit(words: str) -> Unit | None:
    """A unit from its name: "cm^{2}", "km/h", "square centimeters", "miles per hour"; None where a part is unknown."""
    factor, dimension = Fraction(1), dict[str, int]()
    power_next = 1
    for match in _FACTOR.finditer(words):
        name = match["name"]
        if name.lower() in ("square", "sq", "squared"):
            power_next = 2
            continue
        if name.lower() in ("cubic", "cu", "cubed"):
            power_next = 3
            continue
        if len(name) == 1 and name != name.lower() and name not in _CASED:
            return None
        unit = _UNITS.get(name.lower())
        if unit is None or (len(name) == 1 and name.upper() in _CASED - {"L"} and name.islower()):
            return None
        after = words[match.end() :].split()
        suffix = {"squared": 2, "cubed": 3}.get(after[0].lower() if after else "", 1)
        power = int(match["power"] or 1) * power_next * suffix * (-1 if match["over"] else 1)
        power_next = 1
        factor *= unit.factor**power
        for base, exponent in unit.dimension:
            dimension[base] = dimension.get(base, 0) + exponent * power
    return Unit(factor, tuple(sorted(dimension.items()))) if dimension else None
