"""Which domain a question belongs to: its source's own, renamed, or by rule."""

from __future__ import annotations

import re

from s1ray.curation.config import DomainConfig


def domain_of(question: str, source: str, given: str | None, config: DomainConfig) -> str | None:
    """The domain of a question; None where nothing gives it one.

    Args:
        question: its text.
        source: name of its source.
        given: the domain that the source gives.
        config: the mapping and the rules, tried in order.
    """
    if given:
        return config.mapping.get(given, given)
    for rule in config.rules:
        if (rule.question is None or re.search(rule.question, question)) and (
            rule.source is None or re.search(rule.source, source)
        ):
            return rule.domain
    return config.otherwise
