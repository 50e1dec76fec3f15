"""How rows get their domain."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from s1ray.config import Config
from s1ray.curation.domains.taxonomy import Taxonomy

NO_DOMAIN, NOT_IN_TAXONOMY = "no domain", "domain not in the taxonomy"
"""Why a row has none: its source says none, or one that the taxonomy does not have."""


class DomainRule(Config):
    """Gives a domain to the rows that match."""

    domain: str
    question: str | None = None
    """Regular expression, searched in the question."""
    source: str | None = None
    """Regular expression, searched in the source's name."""

    @field_validator("question", "source")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _matches_something(self) -> DomainRule:
        if self.question is None and self.source is None:
            raise ValueError(f"the rule for domain {self.domain!r} needs `question` or `source`")
        return self

    def matches(self, question: str, source: str) -> bool:
        """Whether both patterns, where given, are found."""
        searches = ((self.question, question), (self.source, source))
        return all(pattern is None or re.search(pattern, text) for pattern, text in searches)


def _distinct(descriptions: dict[str, str]) -> dict[str, str]:
    Taxonomy.of(descriptions)
    return descriptions


class DomainConfig(Config):
    """How rows get their domain: from their source, by `mapping` and `prefixes`; else by the first of `rules`; else
    `otherwise`.
    """

    taxonomy: Literal["msc"] | Annotated[dict[str, str], AfterValidator(_distinct)] | None = None
    """The domains that there are: `msc` (the 61 classes of MSC2020 that s1 has its domains from), or names with what
    belongs to them. What a source says counts where it is one's name or code, or `mapping` or `prefixes` make one of
    it. None: whatever the sources say is a domain."""
    from_sources: bool = True
    """Whether what sources say counts. False: a row has the domain that a rule gives it."""
    mapping: dict[str, str] = Field(default_factory=dict)
    """The source's domain, whole -> ours."""
    prefixes: dict[str, str] = Field(default_factory=dict)
    """Beginning of the source's domain, up to the end of a word -> ours; of several the longest. For paths: with
    "Mathematics -> Algebra", "Mathematics -> Algebra -> Prealgebra -> Integers" has its domain."""
    rules: list[DomainRule] = Field(default_factory=list)
    otherwise: str | None = None
    """Domain of rows that have none. None: they are dropped."""

    @model_validator(mode="after")
    def _names_known_domains(self) -> DomainConfig:
        for field in ("mapping", "prefixes"):
            for text, domain in getattr(self, field).items():
                self.check(domain, f"{field}.{text}")
        for place, rule in enumerate(self.rules):
            self.check(rule.domain, f"rules.{place}.domain")
        if self.otherwise is not None:
            self.check(self.otherwise, "otherwise")
        return self

    @property
    def classes(self) -> Taxonomy | None:
        """The taxonomy."""
        if isinstance(self.taxonomy, dict):
            return _taxonomy_of(tuple(self.taxonomy.items()))
        return None if self.taxonomy is None else Taxonomy.named(self.taxonomy)

    def name_of(self, domain: str) -> str:
        """What rows say for a domain of this config: of a taxonomy's the name."""
        found = None if self.classes is None else self.classes.find(domain)
        return domain if found is None else found

    def check(self, domain: str, field: str) -> None:
        """Look whether the taxonomy, where there is one, has a domain.

        Raises:
            ValueError: it has not; the message begins with `field`.
        """
        if self.classes is not None and self.classes.find(domain) is None:
            known = ", ".join(self.classes.names[:8]) + (", ..." if len(self.classes.names) > 8 else "")
            raise ValueError(f"{field}: the taxonomy has no domain {domain!r}; it has {known}")

    def of_source(self, text: str) -> tuple[str | None, str]:
        """The domain that a source's own word for it stands for, or None; and what says so."""
        text = text.strip()
        if (mapped := self.mapping.get(text)) is not None:
            return self.name_of(mapped), "mapping"
        if self.classes is not None and (known := self.classes.find(text)) is not None:
            return known, "source"
        beginning = max((prefix for prefix in self.prefixes if _begins(text, prefix)), key=len, default=None)
        if beginning is not None:
            return self.name_of(self.prefixes[beginning]), "prefixes"
        return (text, "source") if self.classes is None else (None, NOT_IN_TAXONOMY)

    def by_rule(self, question: str, source: str) -> str | None:
        """The domain of the first rule that matches; None where none does."""
        return next((self.name_of(rule.domain) for rule in self.rules if rule.matches(question, source)), None)


def _begins(text: str, prefix: str) -> bool:
    """Whether a text begins with a prefix that ends where a word does."""
    rest = text[len(prefix) :]
    return text.startswith(prefix) and not (rest[:1].isalnum() and prefix[-1:].isalnum())


@lru_cache(maxsize=16)
def _taxonomy_of(descriptions: tuple[tuple[str, str], ...]) -> Taxonomy:
    return Taxonomy.of(dict(descriptions))
