"""How rows get their domain."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, SerializeAsAny, field_validator, model_validator

from s1ray.config import Config, PlainText
from s1ray.curation.domains.taxonomy import Taxonomy
from s1ray.models import ModelPath
from s1ray.reading.where import WhereConfig
from s1ray.registry import TEACHERS, registered
from s1ray.teachers.base import Teacher

NO_DOMAIN, NOT_IN_TAXONOMY = "no domain", "domain not in the taxonomy"
"""Why a row has none: its source says none, or one that the taxonomy does not have."""


class DomainRule(Config):
    """Gives a domain to the rows that match."""

    domain: PlainText
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


class Examples(Config):
    """Questions whose domain is known."""

    path: str = Field(min_length=1)
    """File or folder, in any format that a source reads."""
    question: str = "question"
    """Column, or a template, as in a source of kind `files`."""
    domain: str = "domain"
    """Column of the domain; it is understood as those of the sources, by `mapping` and `prefixes` too."""
    where: WhereConfig = Field(default_factory=dict)
    """Only rows whose columns fulfil these conditions."""


class EmbeddingClassifier(Config):
    """A sentence encoder on CPUs, without a judge: some ten milliseconds a row."""

    kind: Literal["embedding"]
    encoder: ModelPath
    """Folder of a sentence encoder (config.json, tokenizer.json, model.safetensors), such as all-MiniLM-L6-v2."""
    examples: Examples | None = None
    """Labelled questions that it learns from; domains without examples are never found then. None: a question has the
    domain whose description is closest."""
    min_score: float = Field(default=0.0, ge=0, le=1)
    """Least score of the best domain, else a row has none: its likelihood with `examples`, else the cosine of question
    and description."""


class JudgeClassifier(Config):
    """A language model that is asked for the domain of each question, as in s1."""

    incidental: ClassVar[frozenset[str]] = frozenset({"max_failed_share", "answers_from"})

    kind: Literal["judge"]
    teacher: Annotated[SerializeAsAny[Teacher], registered(TEACHERS, Teacher)]
    """Who is asked; a teacher's fields. A sentence or two and a code are enough: give a small `max_tokens`."""
    retries: int = Field(default=2, ge=0, le=100)
    """How often it is asked again where its answer names no domain."""
    structured: bool = False
    """Ask an API for JSON in a form that allows nothing but the codes of the taxonomy; not every server can do that.
    False: the last line of the answer must be a code."""
    max_failed_share: float = Field(default=0.02, ge=0, le=1)
    """Share of the questions that may have got no answer; above it, the run fails, and the next one repeats them."""
    answers_from: Annotated[str, Field(min_length=1), AfterValidator(os.path.expanduser)] | None = None
    """Run folder of another curate run with the same judge, taxonomy and seed, whose answers are not asked for again.
    They stay in that run's bill. None: none."""

    @model_validator(mode="after")
    def _teacher_knows_its_field(self) -> JudgeClassifier:
        self.teacher.held_by("domains.classifier.teacher")
        return self


Classifier = Annotated[EmbeddingClassifier | JudgeClassifier, Field(discriminator="kind")]


def _distinct(descriptions: dict[str, str]) -> dict[str, str]:
    Taxonomy.of(descriptions)
    return descriptions


class DomainConfig(Config):
    """How rows get their domain: from their source, by `mapping` and `prefixes`; else by the first of `rules`; else by
    the classifier; else `otherwise`.
    """

    taxonomy: Literal["msc"] | Annotated[dict[str, str], AfterValidator(_distinct)] | None = None
    """The domains that there are: `msc` (the 61 classes of MSC2020 that s1 has its domains from), or names with what
    belongs to them. What a source says counts where it is one's name or code, or `mapping` or `prefixes` make one of
    it. None: whatever the sources say is a domain."""
    from_sources: bool = True
    """Whether what sources say counts. False: a row has the domain that a rule gives it."""
    mapping: dict[str, PlainText] = Field(default_factory=dict)
    """The source's domain, whole -> ours."""
    prefixes: dict[str, PlainText] = Field(default_factory=dict)
    """Beginning of the source's domain, up to the end of a word -> ours; of several the longest. For paths: with
    "Mathematics -> Algebra", "Mathematics -> Algebra -> Prealgebra -> Integers" has its domain."""
    rules: list[DomainRule] = Field(default_factory=list)
    classifier: Classifier | None = None
    """A model that finds the domain, one of `taxonomy`, of rows that are left after deduplication without one. To have
    it find all: `from_sources: false`. None: no model does."""
    otherwise: PlainText | None = None
    """Domain of rows that have none. None: they are dropped."""

    @model_validator(mode="after")
    def _has_taxonomy(self) -> DomainConfig:
        if self.classifier is not None and self.taxonomy is None:
            raise ValueError("classifier: needs `taxonomy`: the domains that it chooses from")
        return self

    @model_validator(mode="after")
    def _gives_some(self) -> DomainConfig:
        if not (self.from_sources or self.rules or self.classifier is not None or self.otherwise is not None):
            raise ValueError(
                "from_sources: false, and neither `rules`, `classifier` nor `otherwise` is given, so no row would have "
                "a domain, and all be dropped"
            )
        return self

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

    def without_classifier(self) -> DomainConfig:
        """What comes before the classifier, for workers that need not know it."""
        return self if self.classifier is None else self.model_copy(update={"classifier": None, "otherwise": None})

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
