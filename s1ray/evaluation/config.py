"""The eval stage's config: the questions, the models behind an endpoint, and the arms to measure each with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, SerializeAsAny, model_validator

from s1ray.benchmarks import Benchmark, BenchmarkRef, find_benchmark, named_definition
from s1ray.config import LABEL_PATTERN, Config, HTTPAddress, StageConfig
from s1ray.evaluation.strategies.base import Sampling, Strategy
from s1ray.evaluation.strategies.budget_forcing import BUDGET_FORCING, BudgetForcing
from s1ray.evaluation.strategies.plain import Plain
from s1ray.evaluation.strategies.short_m_at_k import ShortMAtK
from s1ray.evaluation.strategies.step_conditional import StepConditional
from s1ray.grading import RULES, GraderName
from s1ray.models import FormatRef, ModelPath
from s1ray.registry import STRATEGIES, registered
from s1ray.secrets import FreeFields, Secret
from s1ray.teachers.bill import Prices
from s1ray.thinking.format import PRESETS

MOST_IN_FLIGHT = 65_536
"""Requests at one endpoint: no client has more connections than ports."""


class ServedModel(Config):
    """One model behind the endpoint."""

    label: str = Field(pattern=LABEL_PATTERN)
    """Its name in the results and the report ("base", "sft", ...); the first model is what the others are compared
    with.
    """
    name: str
    """Its name at the endpoint (the `model` field of a request)."""
    weights: ModelPath | None = None
    """Folder of its weights, or a registered alias ("miniature-base"). Where it is given, a retrained model is not
    taken for the one measured before, and thinking is counted a second time, from the token ids."""
    thinking_format: FormatRef = PRESETS["s1"]
    """Its thinking delimiters (a preset, or a mapping with strings of your own), for that second count and the
    segmented driver."""
    driver: Literal["engine", "segmented"] = "engine"
    """What forces the budgets. engine: the server, which must be s1ray's. segmented: this process, call by call, at any
    server that takes and returns token ids (`vllm serve`); needs `weights`."""
    extra_body: FreeFields = Field(default_factory=dict)
    """Further fields of every request for it; they win over the others, and an object is merged into theirs."""
    arms: list[str] | None = None
    """Labels of the arms to measure it with. None: all."""

    @model_validator(mode="after")
    def _has_what_its_driver_needs(self) -> Self:
        if self.driver == "segmented" and self.weights is None:
            raise ValueError(
                "weights: driver segmented needs the model's folder (tokenizer and generation_config.json are enough)"
            )
        return self


class Sweep(Config):
    """Shorthand for s1's two series of arms (figure 4a): growing maxima, then waits at the largest of them."""

    max_tokens: list[NonNegativeInt] = Field(min_length=1)
    """Maximum thinking tokens of the arms without waits."""
    waits: list[NonNegativeInt] = Field(default_factory=list)
    """Waits of further arms at the largest maximum (0 is there already)."""
    wait_text: str | list[str] | None = "Wait"

    def arms(self) -> list[Strategy]:
        """The arms, in ascending order of thinking."""
        largest = max(self.max_tokens)
        waits = sorted(set(self.waits) - {0})
        return [
            *(BudgetForcing(max_tokens=tokens) for tokens in sorted(set(self.max_tokens))),
            *(BudgetForcing(max_tokens=largest, waits=count, wait_text=self.wait_text) for count in waits),
        ]


class Endpoint(Config):
    """Where models are served, and how many requests they get at once."""

    base_url: HTTPAddress = "http://127.0.0.1:8000/v1"
    """The address, with its /v1."""
    replicas: list[HTTPAddress] = Field(default_factory=list)
    """Further addresses that serve the same models. Each request goes to the least loaded; what fails at one is asked
    at the others, and one that is down is left alone for a while."""
    api: Literal["openai", "anthropic", "responses"] = "openai"
    """What it speaks: OpenAI's chat completions (our server's, vLLM's), Anthropic's Messages, OpenAI's Responses. The
    latter two can be told how long to think, but force no budget: arms of `strategy: plain` only."""
    models: list[str] | None = None
    """Labels of the models that are served here. None: those that no other endpoint names."""
    api_key: Secret | None = None
    """Where the key is: env:NAME (an environment variable) or file:/path (which nobody else may read). None: no key."""
    prices: Prices | None = None
    """Of its tokens, for a million; the run then says what it spends. None: tokens are counted, money is not."""
    concurrency: int = Field(default=64, ge=1, le=MOST_IN_FLIGHT)
    """Requests in flight, at all of its addresses together."""
    timeout: float = Field(default=3600.0, gt=0)
    """Seconds that one request may take. A long answer in a full batch takes a quarter of an hour, and a request that
    times out starts over."""
    attempts: int = Field(default=4, ge=1)
    """Tries of one request before it counts as failed, at each of the addresses."""

    @model_validator(mode="after")
    def _addresses_differ(self) -> Self:
        if len(set(self.addresses)) < len(self.addresses):
            raise ValueError("replicas: an address is given more than once")
        return self

    @property
    def addresses(self) -> list[str]:
        """All of them."""
        return [self.base_url, *self.replicas]


def check_arms_at(endpoint: Endpoint, model: ServedModel, arms: Iterable[Strategy]) -> None:
    """Look whether an endpoint's API can say what the arms of a model there ask for.

    Raises:
        ValueError: it cannot; the message says what to do.
    """
    for arm in arms:
        if model.driver == "segmented" and not arm.outside:
            raise ValueError(
                f"arms: {arm.name!r} asks the server for what {model.label!r} cannot ask with driver: segmented; leave "
                "the driver out, or measure that model with other arms (its `arms` names them)"
            )
        told = isinstance(arm, Plain) and arm.thinking_tokens is not None
        if endpoint.api != "openai" and arm.forces:
            raise ValueError(
                f"arms: {arm.name!r} forces the thinking of {model.label!r}, which an endpoint of `api: "
                f"{endpoint.api}` cannot do; measure that model with arms of `strategy: plain` (its `arms` names them)"
            )
        if endpoint.api != "anthropic" and told:
            raise ValueError(
                f"arms: {arm.name!r} tells {model.label!r} how many tokens to think, which is for endpoints of `api: "
                "anthropic`; elsewhere give `effort`, or force a budget (strategy: budget_forcing)"
            )
    if endpoint.api != "openai" and model.weights is not None:
        raise ValueError(
            f"models: {model.label!r} has weights, but an endpoint of `api: {endpoint.api}` gives no token ids to "
            "count its thinking from; leave `weights` out"
        )


class EvalConfig(StageConfig):
    """The eval stage: every model with every one of its arms on every question of one or several benchmarks."""

    # How requests reach the same models does not decide the result.
    incidental: ClassVar[frozenset[str]] = frozenset({"output", "endpoint", "endpoints", "max_failed_share"})

    benchmark: str | None = None
    """The questions, with answers: a registered name ("miniature", "aime24"), or a path of rows with a question and an
    answer. Shorthand for `benchmarks` with one element, which takes its place where the name has a definition."""
    benchmarks: list[BenchmarkRef] = Field(default_factory=list)
    """One or several of them: names, or mappings with the fields of a `Benchmark`."""
    limit: int | None = Field(default=None, ge=1)
    """Questions to ask of each benchmark: the first by id, which is a hash, so a fixed random choice. Of
    several benchmarks, one that has fewer is asked whole. None: all."""
    models: list[ServedModel] = Field(min_length=1)
    sweep: Sweep | None = None
    """Shorthand for a series of arms; `arms` come after it."""
    arms: list[
        Annotated[SerializeAsAny[Strategy], registered(STRATEGIES, Strategy, key="strategy", default=BUDGET_FORCING)]
    ] = Field(default_factory=list)
    """Settings to measure; `strategy` names a registered strategy, and the other fields are that strategy's."""
    grader: GraderName = RULES
    """Grades the answers: a registered grader, or "module:attribute"."""
    sampling: Sampling = Field(default_factory=Sampling)
    repeats: int = Field(default=1, ge=1)
    """Independent repetitions of the whole run, each with seeds of its own; the first is the run without repetitions.
    More than one needs arms that draw: at temperature 0 the answers would all be the same."""
    endpoint: Endpoint | None = None
    """Where the models are served. Shorthand for `endpoints` with one element. Neither: this machine's port 8000."""
    endpoints: list[Endpoint] = Field(default_factory=list)
    """Several of them, each with its own `models`: ours beside an API's in one run."""
    max_failed_share: float = Field(default=0.0, ge=0, le=1)
    """Share of requests that may fail for good in a run that counts as complete; they count as wrong answers."""

    @model_validator(mode="before")
    @classmethod
    def _holds_the_definition(cls, data: object) -> object:
        # A run is known by its config: by a name, it would go on after its definition was changed.
        if isinstance(data, dict) and isinstance(name := data.get("benchmark"), str) and not data.get("benchmarks"):
            found = named_definition(name)
            return data if found is None else data | {"benchmark": None, "benchmarks": [found]}
        return data

    @model_validator(mode="after")
    def _has_benchmarks(self) -> Self:
        if (self.benchmark is None) == (not self.benchmarks):
            raise ValueError("benchmark: give either `benchmark` (one, by name or path) or `benchmarks` (a list)")
        return self

    @model_validator(mode="after")
    def _labels_are_unique(self) -> Self:
        models = [model.label for model in self.models]
        arms = [arm.name for arm in self.all_arms()]
        if not arms:
            raise ValueError("no arm to measure: give `sweep` or `arms`")
        for kind, labels in (
            ("models", models),
            ("arms", arms),
            ("benchmarks", [each.name for each in self.benchmarks]),
        ):
            twice = sorted({label for label in labels if labels.count(label) > 1})
            field = "name" if kind == "benchmarks" else "label"
            if twice:
                raise ValueError(
                    f"{kind}: {field} {twice[0]!r} is given more than once; set `{field}` to tell them apart"
                )
        for model in self.models:
            unknown = [label for label in model.arms or [] if label not in arms]
            if unknown:
                raise ValueError(f"models: {model.label!r} asks for arm {unknown[0]!r}; there are {', '.join(arms)}")
            if model.arms == []:
                raise ValueError(f"models: {model.label!r} has an empty list of arms; leave `arms` out to take all")
        return self

    @model_validator(mode="after")
    def _repeats_differ(self) -> Self:
        greedy = [arm.name for arm in self.all_arms() if not arm.temperature_of(self.sampling)]
        if self.repeats > 1 and greedy:
            raise ValueError(
                f"repeats is {self.repeats}, but arm {greedy[0]!r} asks at temperature 0, where all of them would be "
                "the same; set sampling.temperature, or measure that arm in a run of its own"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _is_somewhere(cls, data: object) -> object:
        if isinstance(data, dict) and not data.get("endpoints") and data.get("endpoint") is None:
            return data | {"endpoint": {}}
        return data

    @model_validator(mode="after")
    def _models_are_at_one_endpoint(self) -> Self:
        if self.endpoints and self.endpoint is not None:
            raise ValueError("endpoints: give either `endpoint` (one) or `endpoints` (a list)")
        labels = {model.label for model in self.models}
        for index, endpoint in enumerate(self.all_endpoints()):
            if unknown := set(endpoint.models or ()) - labels:
                raise ValueError(f"endpoints.{index}.models: there is no model {min(unknown)!r}")
            if self.endpoints and not any(endpoint in self._endpoints_of(model) for model in self.models):
                raise ValueError(f"endpoints.{index}: no model is there; name some in its `models`, or leave it out")
        addresses = [address for endpoint in self.endpoints for address in endpoint.addresses]
        for model in self.models:
            if len(found := self._endpoints_of(model)) != 1:
                where = "no endpoint" if not found else f"{len(found)} endpoints"
                raise ValueError(f"endpoints: model {model.label!r} is at {where}; name it in the `models` of one")
            check_arms_at(found[0], model, self.arms_of(model))
        if len(set(addresses)) < len(addresses):
            raise ValueError("endpoints: an address is given more than once; give that endpoint all of its models")
        return self

    @model_validator(mode="after")
    def _all_k_run_at_once(self) -> Self:
        for model in self.models:
            places = self.endpoint_of(model).concurrency
            for arm in self.arms_of(model):
                if isinstance(arm, ShortMAtK) and arm.cancel and arm.k > places:
                    raise ValueError(
                        f"arms: {arm.name!r} takes the first of {arm.k} requests, which must all run at once, but "
                        f"endpoint.concurrency is {places}; raise it, or set cancel: false"
                    )
        return self

    @model_validator(mode="after")
    def _steps_can_be_told(self) -> Self:
        for model in self.models:
            for arm in self.arms_of(model):
                if isinstance(arm, StepConditional):
                    try:
                        arm.check_format(model.thinking_format)
                    except ValueError as error:
                        raise ValueError(f"arms: {arm.name!r} for model {model.label!r}: {error}") from None
        return self

    def all_benchmarks(self) -> list[Benchmark]:
        """The benchmarks, however they are given.

        Raises:
            S1rayError: `benchmark` is neither a name nor a path.
        """
        return self.benchmarks if self.benchmark is None else [find_benchmark(self.benchmark)]

    def all_endpoints(self) -> list[Endpoint]:
        """The endpoints, however they are given."""
        return [self.endpoint] if self.endpoint is not None else self.endpoints

    def endpoint_of(self, model: ServedModel) -> Endpoint:
        """Where `model` is served."""
        return self._endpoints_of(model)[0]

    def _endpoints_of(self, model: ServedModel) -> list[Endpoint]:
        every = self.all_endpoints()
        named = [each for each in every if each.models is not None and model.label in each.models]
        return named or [each for each in every if each.models is None]

    def all_arms(self) -> list[Strategy]:
        """The sweep's arms, then the listed ones."""
        return [*(self.sweep.arms() if self.sweep else []), *self.arms]

    def arms_of(self, model: ServedModel) -> list[Strategy]:
        """The arms that `model` is measured with."""
        return [arm for arm in self.all_arms() if model.arms is None or arm.name in model.arms]
