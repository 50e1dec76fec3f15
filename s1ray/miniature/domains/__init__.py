"""The domains of the miniature world, by name."""

from __future__ import annotations

from typing import Any

from s1ray.miniature.domains.base import LEVELS, Domain, Spec
from s1ray.miniature.domains.collections import Counting, Pointers, Ranking, Sets
from s1ray.miniature.domains.numbers import Arithmetic, BaseConversion, Equation, Gcd, LastDigit, Progression
from s1ray.miniature.domains.states import Boolean, Cups, Walk, Weekday

AnyDomain = Domain[Any, Any]
"""A domain, whatever its states and steps are."""

DOMAINS: dict[str, AnyDomain] = {
    domain.name: domain
    for domain in (
        Arithmetic(),
        LastDigit(),
        Equation(),
        Progression(),
        BaseConversion(),
        Gcd(),
        Weekday(),
        Cups(),
        Walk(),
        Boolean(),
        Ranking(),
        Pointers(),
        Counting(),
        Sets(),
    )
}

__all__ = ["DOMAINS", "LEVELS", "AnyDomain", "Domain", "Spec"]
