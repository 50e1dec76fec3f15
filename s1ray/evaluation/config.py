"""What a benchmark run is told: the questions, the models behind an endpoint, and the settings (arms) to measure each
with.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, ValidationError, field_validator, model_validator

from s1ray.config import Config, StageConfig
from s1ray.models import FormatRef, ModelPath
from s1ray.thinking.budget import ThinkingBudget
from s1ray.thinking.format import PRESETS

LABEL_PATTERN = r"^[^\s/\\][^/\\\n\r\t]{0,79}$"
"""Labels name columns, legends and files: one line, no slashes."""


class ServedModel(Config):
    """One model behind the endpoint."""

    label: str = Field(pattern=LABEL_PATTERN)
    """Its name in the results and the report ("base", "sft", ...); the first model is what the others are compared
    with.
    """
    name: str
    """Its name at the endpoint (the `model` field of a request)."""
    weights: ModelPath | None = None
    """Folder of its weights, or "miniature-base". With it a retrained model is not taken for the one measured before,
    and thinking is counted a second time, from the token ids."""
    thinking_format: FormatRef = PRESETS["s1"]
    """Its thinking delimiters (a preset, or a mapping with strings of your own), for that second count and the
    segmented driver."""
    driver: Literal["engine", "segmented"] = "engine"
    """Who forces the budgets. engine: the server, which must be s1ray's. segmented: this side, call by call, at any
    server that takes and returns token ids (`vllm serve`); needs `weights`."""
    arms: list[str] | None = None
    """Labels of the arms to measure it with. None: all."""

    @model_validator(mode="after")
    def _has_what_its_driver_needs(self) -> Self:
        if self.driver == "segmented" and self.weights is None:
            raise ValueError(
                "weights: driver segmented needs the model's folder (tokenizer and generation_config.json are enough)"
            )
        return self


class Arm(Config):
    """One test-time setting of budget forcing, measured on every question."""

    label: str | None = Field(default=None, pattern=LABEL_PATTERN)
    """Name in the results. None: made from the settings, for example "max=256 waits=2"."""
    max_tokens: int | None = Field(default=None, ge=0)
    """Most thinking tokens. None: what the context allows."""
    min_tokens: int = Field(default=0, ge=0)
    """Fewest thinking tokens: earlier ends are suppressed."""
    waits: int = Field(default=0, ge=0)
    """How often an attempt to stop thinking is replaced by the wait text."""
    wait_text: str | list[str] | None = "Wait"
    """What is written instead of the end; several are cycled. None: the end is only suppressed."""

    @model_validator(mode="after")
    def _is_a_budget(self) -> Self:
        try:
            self.budget()
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            field = "".join(f"{part}: " for part in problem["loc"][:1])
            raise ValueError(field + problem["msg"].removeprefix("Value error, ")) from None
        return self

    def budget(self, answer_reserve: int | None = None) -> ThinkingBudget:
        """What a request of this arm asks for; tokens kept for the answer may be said."""
        return ThinkingBudget(
            max_tokens=self.max_tokens,
            min_tokens=self.min_tokens,
            waits=self.waits,
            wait_text=self.wait_text,
            answer_reserve=answer_reserve,
        )

    @property
    def name(self) -> str:
        """The label, given or made from the settings."""
        if self.label is not None:
            return self.label
        parts = ["max=none" if self.max_tokens is None else f"max={self.max_tokens}"]
        if self.min_tokens:
            parts.append(f"min={self.min_tokens}")
        if self.waits:
            parts.append(f"waits={self.waits}")
            if self.wait_text != "Wait":
                texts = self.budget().wait_texts or ("no text",)
                parts.append(f"({', '.join(' '.join(text.replace('/', ' ').split()) for text in texts)})")
        return " ".join(parts)


class Sweep(Config):
    """Shorthand for the two series of arms of s1, figure 4a: growing maxima, then waits at the largest of them."""

    max_tokens: list[NonNegativeInt] = Field(min_length=1)
    """Maximum thinking tokens of the arms without waits."""
    waits: list[NonNegativeInt] = Field(default_factory=list)
    """Waits of further arms at the largest maximum (0 is there already)."""
    wait_text: str | list[str] | None = "Wait"

    def arms(self) -> list[Arm]:
        """The arms, in ascending order of thinking."""
        largest = max(self.max_tokens)
        return [Arm(max_tokens=tokens) for tokens in sorted(set(self.max_tokens))] + [
            Arm(max_tokens=largest, waits=waits, wait_text=self.wait_text) for waits in sorted(set(self.waits) - {0})
        ]


class Sampling(Config):
    """How tokens are drawn, thinking and answer alike."""

    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    samples: int = Field(default=1, ge=1)
    """Samples a question; more than one needs a temperature above 0."""
    answer_tokens: int = Field(default=512, ge=1)
    """Tokens kept for the answer after the longest thinking that an arm allows; shorter thinking leaves it more."""

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"samples is {self.samples}, but at temperature 0 they would all be the same")
        return self


class Endpoint(Config):
    """Where the models are served, and how hard to press."""

    base_url: str = "http://127.0.0.1:8000/v1"
    """OpenAI-compatible address, with its /v1."""
    api_key_env: str | None = None
    """Environment variable that holds the API key. None: no key."""
    concurrency: int = Field(default=64, ge=1)
    """Requests in flight."""
    timeout: float = Field(default=3600.0, gt=0)
    """Seconds that one request may take: a long answer at full batch takes a quarter of an hour, and one that is given
    up is begun again."""
    attempts: int = Field(default=4, ge=1)
    """Tries of one request before it counts as failed."""

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://, for example http://127.0.0.1:8000/v1")
        return value.rstrip("/")


class EvalConfig(StageConfig):
    """One benchmark run: every model with every one of its arms on every question."""

    # How the same questions reach the same model does not decide the result.
    incidental: ClassVar[frozenset[str]] = frozenset({"output", "endpoint", "max_failed_share"})

    benchmark: str
    """Parquet file (or folder) of Question rows with answers, or "miniature"."""
    limit: int | None = Field(default=None, ge=1)
    """Questions to ask: the first by id, which is a hash, so a fixed random choice. None: all."""
    models: list[ServedModel] = Field(min_length=1)
    sweep: Sweep | None = None
    """Shorthand for a series of arms; `arms` come after it."""
    arms: list[Arm] = Field(default_factory=list)
    sampling: Sampling = Field(default_factory=Sampling)
    endpoint: Endpoint = Field(default_factory=Endpoint)
    max_failed_share: float = Field(default=0.0, ge=0, le=1)
    """Share of requests that may fail for good and the run still count as complete; failed ones count as wrong."""

    @model_validator(mode="after")
    def _labels_are_unique(self) -> Self:
        models = [model.label for model in self.models]
        arms = [arm.name for arm in self.all_arms()]
        if not arms:
            raise ValueError("no arm to measure: give `sweep` or `arms`")
        for kind, labels in (("models", models), ("arms", arms)):
            twice = sorted({label for label in labels if labels.count(label) > 1})
            if twice:
                raise ValueError(f"{kind}: label {twice[0]!r} is given more than once; set `label` to tell them apart")
        for model in self.models:
            unknown = [label for label in model.arms or [] if label not in arms]
            if unknown:
                raise ValueError(f"models: {model.label!r} asks for arm {unknown[0]!r}; there are {', '.join(arms)}")
            if model.arms == []:
                raise ValueError(f"models: {model.label!r} has an empty list of arms; leave `arms` out to take all")
        return self

    def all_arms(self) -> list[Arm]:
        """The sweep's arms, then the listed ones."""
        return (self.sweep.arms() if self.sweep else []) + self.arms

    def arms_of(self, model: ServedModel) -> list[Arm]:
        """The arms that `model` is measured with."""
        return [arm for arm in self.all_arms() if model.arms is None or arm.name in model.arms]
