"""The configuration of the curation stage: where questions come from, what is dropped, how the final set is chosen."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from s1ray.config import Config, NodeLabels, StageConfig
from s1ray.curation.difficulty.config import Difficulty
from s1ray.curation.domains.config import DomainConfig
from s1ray.curation.quality.config import QualityConfig
from s1ray.curation.sources import Source
from s1ray.models import ModelPath
from s1ray.reading.where import WhereConfig
from s1ray.registry import SOURCES, registered
from s1ray.storage import location


class DeduplicationConfig(Config):
    """Which rows are duplicates. Of a group, the row that comes first in the sources stays."""

    normalised: bool = True
    """Also rows whose text differs only in case, spacing and punctuation (equal text is always removed)."""
    jaccard: float | None = Field(default=0.8, gt=0, le=1)
    """Also rows where one question only adds words to the other and they share this much of their word triples. None:
    off."""
    cross_source_ngrams: bool = False
    """s1's rule across sources: drop a question that shares a word 8-gram with an earlier source's question."""


class Benchmark(Config):
    """A benchmark whose questions must not be trained on."""

    path: str
    """A registered benchmark's name ("miniature"), or a file or folder in any format that a source reads."""
    name: str | None = None
    """What dropped rows call it. None: the file's or folder's name."""
    question: str = "question"
    """A file's column of the question, or a template, as in a source of kind `files`."""
    where: WhereConfig = Field(default_factory=dict)
    """Only a file's rows whose columns fulfil these conditions, as in a source of kind `files`."""
    private_text: bool = False
    """Its questions are not to be published: what is like one of them is listed and reported without its text.
    Registered benchmarks (gpqa_diamond) say so themselves."""

    @property
    def label(self) -> str:
        """What dropped rows call it."""
        return self.name or location(self.path).stem


Tier = Literal["whole", "letters", "s1_ngrams", "ngrams", "template", "overlap", "embedding"]
"""A way in which a row can be like a benchmark question; see `s1ray.curation.decontamination`."""


class DecontaminationConfig(Config):
    """What counts as a leak of a benchmark question."""

    benchmarks: list[Benchmark] = Field(default_factory=list)
    recipe: Literal["tiers", "s1_code"] = "tiers"
    """`s1_code`: a question that shares `ngram` words in a row with a benchmark question is dropped, boilerplate too,
    and nothing else is looked for. `tiers`: the fields below."""
    drop: list[Tier] = Field(default=["whole", "letters"])
    """Tiers that drop a row. A row has one reason: the first tier of `whole`, `letters`, `ngrams`, `template`,
    `overlap`, `embedding`, `s1_ngrams` that finds something."""
    review: list[Tier] = Field(default=["s1_ngrams", "ngrams", "template", "overlap"])
    """Tiers whose finds are listed, with the text of both sides."""
    ngram: int = Field(default=8, ge=1)
    """Words in a row of `s1_ngrams` (s1: 8)."""
    normal_ngram: int = Field(default=13, ge=2)
    """Words, letters and numbers in a row of `ngrams`."""
    boilerplate: int | None = Field(default=3, ge=2)
    """n-grams that this many benchmark questions share are stock phrases and do not count, nor do those of a short list
    of phrases. None: all count."""
    overlap: float = Field(default=0.6, gt=0, le=1)
    """Share of the weight of a question's tokens and pairs of tokens that `overlap` asks for."""
    encoder: ModelPath | None = None
    """Folder of a sentence encoder for the tier `embedding` (config.json, tokenizer.json, model.safetensors), such as
    all-MiniLM-L6-v2; some ten milliseconds a row on a CPU."""
    cosine: float = Field(default=0.75, gt=0, le=1)
    """Closeness of two meanings that `embedding` asks for."""
    same_numbers: bool = True
    """`embedding` asks for the same numbers, too."""
    solutions: bool = True
    """Also look for whole benchmark questions in the rows' solutions."""

    @model_validator(mode="after")
    def _has_encoder(self) -> DecontaminationConfig:
        if self.encoder is None and "embedding" in {*self.drop, *self.review}:
            raise ValueError("the tier `embedding` needs `encoder`: the folder of a sentence encoder")
        return self

    def tiers(self) -> tuple[frozenset[Tier], frozenset[Tier]]:
        """The tiers that drop, and those that are reviewed only."""
        if self.recipe == "s1_code":
            return frozenset({"s1_ngrams"}), frozenset()
        return frozenset(self.drop), frozenset(self.review) - frozenset(self.drop)


class LengthConfig(Config):
    """How the length of a reference working is counted; selection prefers long ones, a proxy for hard ones."""

    tokenizer: ModelPath | None = None
    """Folder or Hub id with a `tokenizer.json`. None: count words."""


class TrustedRule(Config):
    """Rows that are taken before any sampling, if all conditions hold."""

    source: str = Field(min_length=1)
    """Part of the source's name."""
    min_length: int | None = None
    """The row's length must exceed this."""
    metadata: dict[str, str | int | bool] = Field(default_factory=dict)
    """Values that the row's metadata must hold."""


class BestSources(Config):
    """Only some of the sources count: few good ones may teach more than many (OpenThoughts, arXiv 2506.04178)."""

    count: int = Field(ge=1)
    """How many of the config's sources."""
    by: Literal["length", "left"] = "length"
    """What makes one good: the mean length of its rows that are left, or the share of its rows that is left after all
    filters (with `difficulty`, hard ones)."""


class SelectionConfig(Config):
    """How the final set is chosen."""

    method: Literal["s1", "algorithm1", "random", "longest", "diverse", "all"] = "s1"
    """s1, as its code has it: trusted rows, then from all domains equally, then by the benchmarks' weights, preferring
    long workings. algorithm1, as the paper prints it: without the weights. The others are the ablations of the paper's
    section 5.1; `all` is its 59K-full."""
    best_sources: BestSources | None = None
    """None: all sources."""
    size: int = Field(default=1000, ge=1)
    trusted: list[TrustedRule] = Field(default_factory=list, max_length=64)
    uniform_share: float = Field(default=0.7, ge=0, le=1)
    """Domains are equally likely until this share of `size` is reached, and weighted after that."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Domain -> weight in the weighted part. Empty: from `weight_sources`."""
    weight_sources: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list, max_length=2)
    """Parts of names of sources whose domains give the weights (s1: "AIME", "GPQA"; the second counts half as much).
    With neither these nor `weights`, the weighted part is drawn uniformly too."""

    @field_validator("weights")
    @classmethod
    def _positive(cls, weights: dict[str, float]) -> dict[str, float]:
        if any(not weight > 0 for weight in weights.values()):
            raise ValueError("weights must be above 0; leave a domain out instead")
        if not math.isfinite(sum(weights.values())):
            raise ValueError("weights add up to more than a number can hold; make them smaller")
        return weights

    @model_validator(mode="after")
    def _has_use_for_weights(self) -> SelectionConfig:
        if self.method == "algorithm1" and (self.weights or self.weight_sources):
            raise ValueError("method algorithm1 draws all domains alike; leave weights and weight_sources out")
        return self


class CurationConfig(StageConfig):
    """The curation stage: sources -> quality -> deduplication -> decontamination -> domains -> difficulty ->
    selection.
    """

    incidental: ClassVar[frozenset[str]] = frozenset({"output", "node_labels"})

    sources: list[Annotated[Source, registered(SOURCES, Source), SerializeAsAny()]] = Field(min_length=1)
    """In order: of two equal rows the earlier one stays."""
    quality: QualityConfig = QualityConfig()
    deduplication: DeduplicationConfig = DeduplicationConfig()
    decontamination: DecontaminationConfig = DecontaminationConfig()
    domains: DomainConfig = DomainConfig()
    length: LengthConfig = LengthConfig()
    cap_per_domain: int | None = Field(default=None, ge=1)
    """Measure the difficulty of at most this many rows per domain, drawn by seed; this bounds the cost."""
    difficulty: Difficulty | None = None
    """None: nothing is dropped as too easy."""
    selection: SelectionConfig = SelectionConfig()
    node_labels: NodeLabels | None = None
    """Labels of the nodes that the stage's own tasks run on: all but models, which have a `node_labels` of their own.
    None: any node."""

    @model_validator(mode="after")
    def _has_as_many_sources(self) -> CurationConfig:
        best = self.selection.best_sources
        if best is not None and best.count > len(self.sources):
            raise ValueError(f"selection.best_sources.count: {best.count}, of only {len(self.sources)} sources")
        return self

    @model_validator(mode="after")
    def _weighs_known_domains(self) -> CurationConfig:
        for domain in self.selection.weights:
            self.domains.check(domain, "selection.weights")
        return self

    @property
    def needed_metadata(self) -> list[str]:
        """The fields of the metadata that graders and the rules of the selection look at."""
        return sorted({"answer_kind", *(name for rule in self.selection.trusted for name in rule.metadata)})
