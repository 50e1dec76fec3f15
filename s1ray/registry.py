"""What can be added from outside: sources, benchmarks, teachers, strategies, scorers, graders, model aliases, by name.

Any package can add to a registry, with an entry point in its own `pyproject.toml`; nothing in s1ray changes:

    [project.entry-points."s1ray.sources"]
    putnam = "my_package.putnam:PutnamSource"

Then `kind: putnam` in a config finds it. Without a package, "module:attribute" in place of a name works as well, where
the module can be imported. What s1ray itself provides is listed here, and is imported only when it is asked for. The
miniature is not listed: it registers itself like any other package.
"""

from __future__ import annotations

import difflib
import importlib
import traceback
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import InitErrorDetails, PydanticCustomError

from s1ray.errors import InputError

T = TypeVar("T")


class Registry(Generic[T]):
    """The things of one kind, by name.

    Args:
        kind: what one of them is called, for messages ("source").
        group: of the entry points.
        built_in: name -> "module:attribute" of what s1ray provides.
    """

    def __init__(self, kind: str, group: str, built_in: Mapping[str, str]) -> None:
        self.kind, self.group, self._built_in = kind, group, built_in

    def names(self) -> list[str]:
        """All names, s1ray's own first."""
        return [*self._built_in, *sorted(_entry_points(self.group).keys() - self._built_in.keys())]

    def get(self, name: str) -> T:
        """What is registered under a name, or is found at "module:attribute".

        Raises:
            InputError: nothing is, or it cannot be imported; a module of s1ray's own that fails keeps its traceback.
        """
        target = self._target(name)
        module, _, attribute = target.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except (Exception, SystemExit) as error:
            if name in self._built_in and not isinstance(error, ImportError):
                raise
            where = "" if target == name else f" ({target})"
            lost = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
            advice = "; install its package, or put the folder that holds it on PYTHONPATH" if lost else ""
            raise InputError(f"the {self.kind} {name!r}{where} cannot be imported: {_told(error)}{advice}") from error
        loaded: T = found
        return loaded

    def _target(self, name: str) -> str:
        if name in self._built_in:
            return self._built_in[name]
        if (found := _entry_points(self.group).get(name)) is not None:
            return found.value
        module, colon, attribute = name.partition(":")
        if colon and all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
            return name
        close = difflib.get_close_matches(name, self.names(), n=1)
        meant = f"; did you mean {close[0]!r}?" if close else "."
        raise InputError(
            f"no {self.kind} is called {name!r}{meant} There are {', '.join(self.names()) or 'none'}; a package "
            f'adds one with an entry point in the group "{self.group}", or give "module:attribute"'
        )


def _told(error: BaseException) -> str:
    if isinstance(error, ImportError | AttributeError | SyntaxError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno})"


@cache
def _entry_points(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


def registered(
    registry: Registry[type[BaseModel]], base: type[BaseModel], *, key: str = "kind", default: str | None = None
) -> WrapValidator:
    """For a config's field: validate a mapping with the registered class that its `key` names.

    Args:
        registry: of config classes.
        base: what they all derive from.
        key: the mapping's field that holds the name.
        default: the name where the mapping has no such field. None: the field is required.
    """

    def validate(value: object, handler: ValidatorFunctionWrapHandler) -> object:
        if not isinstance(value, Mapping):
            return handler(value)
        name = value.get(key, default)
        if not isinstance(name, str):
            raise PydanticCustomError(
                "registered", "needs `{key}`: one of {names}", {"key": key, "names": ", ".join(registry.names())}
            )
        config_class = registry.get(name)
        if not (isinstance(config_class, type) and issubclass(config_class, base)) or config_class is base:
            raise PydanticCustomError(
                "registered",
                "the {kind} {name} is no class derived from {base}",
                {"kind": registry.kind, "name": repr(name), "base": f"{base.__module__}.{base.__name__}"},
            )
        unknown = [field for field in value if field not in config_class.model_fields]
        if unknown and config_class.model_config.get("extra") == "forbid":
            # Whoever reports pydantic's own error knows the fields of the base class only.
            known = {"known": ", ".join(config_class.model_fields)}
            problem = PydanticCustomError("unknown", "unknown field; the fields here are {known}", known)
            raise ValidationError.from_exception_data(
                name, [InitErrorDetails(type=problem, loc=(field,), input={}) for field in unknown]
            )
        return config_class.model_validate({key: name, **value})

    return WrapValidator(validate)


SOURCES: Registry[type[BaseModel]] = Registry(
    "source",
    "s1ray.sources",
    {
        "files": "s1ray.curation.file_source:FileSource",
        "hub": "s1ray.curation.hub_source:HubSource",
        "s1_math": "s1ray.curation.s1_sources.mathematics:Math",
        "numina_math": "s1ray.curation.s1_sources.mathematics:NuminaMath",
        "omni_math": "s1ray.curation.s1_sources.mathematics:OmniMath",
        "olympiad_bench": "s1ray.curation.s1_sources.mathematics:OlympiadBench",
        "aime_1983_2021": "s1ray.curation.s1_sources.mathematics:AIME",
        "theorem_qa": "s1ray.curation.s1_sources.mathematics:TheoremQA",
        "s1_prob": "s1ray.curation.s1_sources.mathematics:S1Prob",
        "s1_teasers": "s1ray.curation.s1_sources.mathematics:S1Teasers",
        "olympic_arena": "s1ray.curation.s1_sources.science:OlympicArena",
        "sci_eval": "s1ray.curation.s1_sources.science:SciEval",
        "jee_bench": "s1ray.curation.s1_sources.science:JEEBench",
        "agieval": "s1ray.curation.s1_sources.science:AGIEval",
        "gpqa_extended": "s1ray.curation.s1_sources.science:GPQA",
        "xword": "s1ray.curation.s1_sources.science:Crosswords",
        "usaco": "s1ray.curation.s1_sources.science:USACO",
        "live_code_bench": "s1ray.curation.s1_sources.science:LiveCodeBench",
    },
)
"""Where questions come from: config classes derived from `s1ray.curation.sources.Source`."""

BENCHMARKS: Registry[Any] = Registry(
    "benchmark",
    "s1ray.benchmarks",
    {
        "aime24": "s1ray.benchmarks.named:AIME24",
        "aime24_figures": "s1ray.benchmarks.named:AIME24_FIGURES",
        "aime25": "s1ray.benchmarks.named:AIME25",
        "math500": "s1ray.benchmarks.named:MATH500",
        "gpqa_diamond": "s1ray.benchmarks.named:GPQA_DIAMOND",
        "amc23": "s1ray.benchmarks.named:AMC23",
        "olympiadbench": "s1ray.benchmarks.named:OLYMPIADBENCH",
        "olymmath": "s1ray.benchmarks.named:OLYMMATH",
        "olymmath_easy": "s1ray.benchmarks.named:OLYMMATH_EASY",
        "minerva": "s1ray.benchmarks.named:MINERVA",
        "gsm8k": "s1ray.benchmarks.named:GSM8K",
    },
)
"""Held-out questions: objects of `s1ray.benchmarks.Benchmark`, or functions without arguments that give `Question`
rows."""

TEACHERS: Registry[type[BaseModel]] = Registry(
    "teacher",
    "s1ray.teachers",
    {
        "vllm": "s1ray.teachers.language_models:VLLMTeacher",
        "openai": "s1ray.teachers.endpoints:OpenAITeacher",
        "anthropic": "s1ray.teachers.endpoints:AnthropicTeacher",
        "responses": "s1ray.teachers.endpoints:ResponsesTeacher",
    },
)
"""Who writes traces: config classes derived from `s1ray.teachers.base.Teacher`."""

STRATEGIES: Registry[type[BaseModel]] = Registry(
    "strategy",
    "s1ray.strategies",
    {
        "budget_forcing": "s1ray.evaluation.strategies.budget_forcing:BudgetForcing",
        "plain": "s1ray.evaluation.strategies.plain:Plain",
        "token_conditional": "s1ray.evaluation.strategies.token_conditional:TokenConditional",
        "step_conditional": "s1ray.evaluation.strategies.step_conditional:StepConditional",
        "class_conditional": "s1ray.evaluation.strategies.class_conditional:ClassConditional",
        "rejection": "s1ray.evaluation.strategies.rejection:Rejection",
        "majority": "s1ray.evaluation.strategies.majority:Majority",
        "weighted_vote": "s1ray.evaluation.strategies.weighted_vote:WeightedVote",
        "early_exit": "s1ray.evaluation.strategies.early_exit:EarlyExitArm",
        "schedule": "s1ray.evaluation.strategies.schedule:ScheduleArm",
        "short_m_at_k": "s1ray.evaluation.strategies.short_m_at_k:ShortMAtK",
        "served_votes": "s1ray.evaluation.strategies.served_votes:ServedVotes",
        "best_of": "s1ray.evaluation.strategies.best_of:BestOf",
        "best_by_reward": "s1ray.evaluation.strategies.best_by_reward:BestByReward",
        "rebase": "s1ray.evaluation.strategies.rebase:Rebase",
    },
)
"""Test-time strategies: config classes derived from `s1ray.evaluation.strategies.base.Strategy`."""

SCORERS: Registry[Any] = Registry(
    "scorer",
    "s1ray.scorers",
    {
        "shortest": "s1ray.evaluation.strategies.scorers:shortest",
        "longest": "s1ray.evaluation.strategies.scorers:longest",
    },
)
"""What best of n takes: functions with the signature of `s1ray.evaluation.strategies.scorers.Scorer`."""

GRADERS: Registry[Any] = Registry("grader", "s1ray.graders", {"rules": "s1ray.grading.grade:grade"})
"""Who decides whether a response is right: functions with the signature of `s1ray.grading.Grader`."""

MODEL_ALIASES: Registry[Any] = Registry("model alias", "s1ray.models", {})
"""Short names of models: paths of folders, or Hugging Face ids."""
