"""Teachers: who is asked, for traces, for the difficulty of questions, or as a judge.

A teacher is a config class in the registry `TEACHERS`: a mapping of a config (`teacher:` of traces, say) is validated
with the class that its `kind` names, and the methods of the class tell the stage everything else. A new teacher is one
file:

    class MyTeacher(Teacher):
        def start(self, seed: int, folder: Location) -> RunningTeacher: ...

The stage starts the teacher inside a Ray actor and hands it asks, some at a time. It gives back each response as soon
as it is there, in any order; a response that could not be had says why instead of ending the run. Language models are
in `language_models`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from pydantic import JsonValue, PrivateAttr

from s1ray.config import Config, NodeLabels
from s1ray.generation.base import OnCall, Usage
from s1ray.manifests import RunError, without
from s1ray.schemas import Question
from s1ray.storage import Location
from s1ray.teachers.bill import Prices

HOPELESS = 32
"""Questions in a row without an answer that make an actor stop: a wrong key, an empty account, a dead server."""


class TeacherError(RunError):
    """Nothing more may be asked; the message says why and what to do. It ends the run, which can be started again."""


@dataclass(frozen=True)
class Ask:
    """One trace to write."""

    question: Question
    """Its id, text, answer, domain and metadata."""
    sample: int

    @property
    def id(self) -> str:
        """Key of the trace."""
        return f"{self.question.id}-{self.sample}"


@dataclass(frozen=True)
class Response:
    """What a teacher wrote."""

    thinking: str = ""
    attempt: str = ""
    finish_reason: str = "stop"
    """"stop": it is complete. "length", "refusal" and others: it is not."""
    error: str | None = None
    """Why there is no response."""
    usage: Usage | None = None
    """As the provider counts. None: nobody counted."""
    model_version: str | None = None
    """What the provider says has answered."""
    raw_finish_reason: str | None = None
    """In the provider's words."""
    stale: bool = False
    """The error is of a call that an earlier start made, and says nothing about calls of this one."""


class RunningTeacher(Protocol):
    """Writes traces. The same asks under the same seed should give the same traces."""

    def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
        """Each ask with its response, in the order in which they are finished.

        Args:
            asks: some of the run's, with different ids.
            calls: may be told of every call to a provider, with the ask's id, when it is sent and when it has ended, in
                any thread; "answered" before the response is given. Where it raises, the call must not be sent.

        Raises:
            TeacherError: nothing more may be asked. Of any other exception only the ask that it is raised for fails.
        """

    def close(self) -> None:
        """Release what the teacher holds."""


@dataclass(frozen=True)
class Placement:
    """The Ray actors that a teacher runs in."""

    actors: int = 1
    options: Mapping[str, object] = field(default_factory=dict)
    """Of each actor (`num_cpus`, `num_gpus`, ...)."""


class Teacher(Config):
    """Base of every teacher's config."""

    incidental: ClassVar[frozenset[str]] = frozenset()
    """Fields that cannot change what the teacher writes (dotted names are of fields within fields)."""

    kind: str
    """Name in the registry."""
    node_labels: NodeLabels | None = None
    """Labels of the nodes that the teacher's actors run on: an engine's, or those that ask an API. None: any node."""
    _config_field: str = PrivateAttr("teacher")

    def incidental_fields(self) -> frozenset[str]:
        """The incidental fields; where the teacher runs is one, whatever its class says."""
        return super().incidental_fields() | {"node_labels"}

    @property
    def config_field(self) -> str:
        """The field of the stage's config that holds it, for messages: "teacher" or "judge"."""
        return self._config_field

    def held_by(self, field: str) -> None:
        """Say which field of the stage's config holds it."""
        self._config_field = field

    @property
    def label(self) -> str:
        """What `Trace.teacher` says."""
        return self.kind

    @property
    def max_response_tokens(self) -> int | None:
        """Tokens of one response at most, for the plan. None: not known."""
        return None

    @property
    def price_list(self) -> Prices | None:
        """What its tokens cost. None: nothing, or nobody knows."""
        return None

    @property
    def spending_limit(self) -> float | None:
        """Money, by `price_list`, that all starts of a run may cost together. None: there is no limit."""
        return None

    @property
    def tells_before_sending(self) -> bool:
        """Whether every call is told of before it goes out, so that `spending_limit` can hold it back.

        Where it is not, no more is asked at a time than can be paid for at the most that it can cost.
        """
        return False

    @property
    def hopeless_after(self) -> int:
        """Questions in a row without an answer after which an actor stops asking."""
        return HOPELESS

    def at_once(self) -> Teacher:
        """The same teacher, whose answers do not take a day: for a few questions to begin with."""
        return self

    def in_json(self, schema: Mapping[str, object]) -> Teacher | None:
        """The same teacher, whose answers are JSON of a schema. None: it cannot be told that.

        Args:
            schema: every object in it says that it has all of its properties, and no others.
        """
        return None

    def duration(self, requests: int, seconds: float) -> float | None:
        """Seconds that many requests take, where one takes `seconds`. None: it cannot be told from that."""
        return None

    def prompt_tokens_at_most(self, question: str) -> int:
        """Tokens that the prompt for a question can have: no tokenizer makes more of them than there are bytes."""
        return len(question.encode(errors="replace"))

    def sampling(self, ask: str, seed: int) -> dict[str, JsonValue] | None:
        """How the trace of an ask is sampled, for the row. None: there is nothing to say."""
        return None

    def under_way(self, folder: Location) -> frozenset[str]:
        """Ids of asks that an earlier start has asked, and that are paid for whether their answers are taken or not.

        Args:
            folder: that `start` gets.
        """
        return frozenset()

    def check(self) -> None:
        """Find mistakes before anything is started.

        Raises:
            S1rayError: the teacher cannot be started like this.
        """

    def inputs(self) -> dict[str, str]:
        """Name -> local file or folder whose content decides what the teacher writes."""
        return {}

    def fingerprint(self) -> dict[str, JsonValue]:
        """What decides what the teacher writes, besides the asks and the seed."""
        decisive = without(self.model_dump(mode="json"), self.incidental_fields())
        assert isinstance(decisive, dict)
        return decisive

    def placement(self) -> Placement:
        """Where the teacher runs. Ray is connected."""
        return Placement()

    def start(self, seed: int, folder: Location) -> RunningTeacher:
        """Start the teacher; called inside the actor.

        Args:
            seed: the stage's.
            folder: for what must outlive the process; the same in every start of a run, and for all actors. The teacher
                creates it when it needs it.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement start")
