"""Teachers behind an API: any OpenAI-compatible one, Anthropic's Messages API, OpenAI's Responses API.

They differ in their wire format and in what it can say; a mistake in that is found when the config is read.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, model_validator

from s1ray.config import HTTPAddress, PlainText
from s1ray.errors import InputError
from s1ray.generation.base import GenerationRequest, Generator, OnCall
from s1ray.generation.wires import AnthropicMessages, ChatCompletions, OpenAIResponses, Wire
from s1ray.generation.wires.base import answer_limit, merged
from s1ray.generation.wires.openai_responses import Summary
from s1ray.models import FormatRef
from s1ray.schemas import Question
from s1ray.secrets import FreeFields, Secret
from s1ray.storage import Location
from s1ray.teachers.base import Ask, RunningTeacher
from s1ray.teachers.batches.config import BatchConfig
from s1ray.teachers.batches.exchange import Exchange
from s1ray.teachers.batches.records import read_records, refuse_open_batches
from s1ray.teachers.bill import MOST_MONEY, Prices
from s1ray.teachers.language_models import LanguageModelTeacher, RunningModel
from s1ray.teachers.spending import allowance

log = logging.getLogger("s1ray")

if TYPE_CHECKING:
    from s1ray.teachers.batches.client import Client
    from s1ray.teachers.batches.provider import Provider

RETRIED_REASONS = ("abort", "error", "insufficient_system_resource")
"""Finish reasons that are the server's fault."""
OF_CALLS = ("concurrency", "requests_per_minute", "tokens_per_minute", "timeout", "attempts")
"""Fields about calls one by one."""
UNREADABLE = ("stream", "n", "best_of", "background")
"""Fields of a request that make an answer of another form, or several answers of which one is read."""
ASKED = ("model", "messages", "input", "prompt")
"""Fields of a request that say who is asked what."""
WITH_VERSION = ("api.openai.com", "api.anthropic.com")
"""Hosts whose API is under `/v1`."""


class EndpointTeacher(LanguageModelTeacher):
    """What teachers behind an API have in common."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        {
            *("concurrency", "requests_per_minute", "tokens_per_minute", "timeout", "attempts"),
            *("retry_finish_reasons", "prices", "max_spend", "api_key"),
            "batch",
        }
    )

    base_url: HTTPAddress
    """The address with its `/v1`."""
    model: PlainText
    api_key: Secret | None = None
    """Where the key is: env:NAME (an environment variable) or file:/path (which nobody else may read). None: no key is
    sent."""
    reasoning_effort: PlainText | None = None
    """How long to think, in the provider's words ("low", "high", ...). None: not said."""
    thinking_format: FormatRef | None = None
    """Splits the reasoning from the answer where both come within the text: a preset ("deepseek_r1": `<think>`), or a
    mapping with strings of your own."""
    concurrency: int = Field(default=32, ge=1, le=100_000)
    """Requests in flight at once."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Requests started per minute. None: no limit of ours; after a 429 all requests wait as long as the provider says,
    or longer each time."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """Tokens per minute, of prompts and responses together: estimated when a request starts, and corrected by the
    provider's count. None: no limit of ours."""
    timeout: float = Field(default=3600, gt=0, le=864_000)
    """Seconds of one attempt."""
    attempts: int = Field(default=6, ge=1, le=1000)
    """Tries of one request."""
    retry_finish_reasons: tuple[str, ...] = RETRIED_REASONS
    """Finish reasons, ours or in the provider's words, whose requests are sent again as far as `attempts` go. The last
    response stays as it is."""
    extra_body: FreeFields = Field(default_factory=dict)
    """Further fields of every request; they win over the others, and an object is merged into theirs."""
    prices: Prices | None = None
    """The provider's, for a million tokens. None: tokens are counted, money is not."""
    max_spend: float | None = Field(default=None, ge=0, le=MOST_MONEY)
    """Money that all starts of a run may cost together, by `prices`. A call counts with the most that it can cost until
    its answer says what it did; what could exceed the limit is not sent, and the run ends and goes on when the limit is
    raised. None: no limit."""
    batch: BatchConfig | None = None
    """Ask through the provider's batch API, at a share of the price and within a day; `concurrency`, `timeout`,
    `attempts` and the limits a minute have no effect then. None: one by one."""

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        for name in UNREADABLE:
            if self.extra_body.get(name) not in (None, False):
                raise ValueError(f"extra_body.{name}: whole answers are read, one a request; leave it out")
        for name in ASKED:
            if name in self.extra_body:
                raise ValueError(f"extra_body.{name}: `model` and `prompt` say who is asked what; leave it out")
        if "stop" in self.retry_finish_reasons:
            raise ValueError('retry_finish_reasons: "stop" is how whole responses end; leave it out')
        address = urlsplit(self.base_url)
        if address.hostname in WITH_VERSION and not address.path.endswith("/v1"):
            raise ValueError(f"base_url: the API is under /v1: write https://{address.hostname}/v1")
        try:
            _ = self.max_response_tokens
            json.dumps(self.example_body(), ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("extra_body: holds half of a surrogate pair, which UTF-8 cannot write") from None
        except InputError as error:
            within = "extra_body." if str(error).partition(":")[0] in self.extra_body else ""
            raise ValueError(f"{within}{error}") from None
        return self

    @property
    def wire(self) -> Wire:
        """The API's format."""
        raise NotImplementedError(f"{type(self).__name__} does not implement wire")

    @property
    def label(self) -> str:
        """The model."""
        return self.model

    @property
    def price_list(self) -> Prices | None:
        """The configured prices, or the share of them that a batch costs."""
        return self.prices if self.prices is None or self.batch is None else self.prices.times(self.batch.price_share)

    @property
    def hopeless_after(self) -> int:
        """What is in one batch has been asked, however much of it fails."""
        return super().hopeless_after if self.batch is None else max(super().hopeless_after, self.batch.requests + 1)

    @property
    def max_response_tokens(self) -> int | None:
        """What a request says, with the fields of `extra_body`.

        Raises:
            InputError: the API does not take such a request.
        """
        return answer_limit(self.wire, self.example_body())

    def example_body(self) -> dict[str, Any]:
        """A request for a question without text.

        Raises:
            InputError: the API does not take such a request.
        """
        request = self.request(Ask(Question(id="", question=""), 0), 0)
        return self.wire.body(request, self.model, self.extra_body)

    @property
    def spending_limit(self) -> float | None:
        """The configured limit."""
        return self.max_spend

    @property
    def tells_before_sending(self) -> bool:
        """Each HTTP call is. A request in a batch is told of when the batch has ended."""
        return self.batch is None

    def under_way(self, folder: Location) -> frozenset[str]:
        """What is in batches that have not ended.

        Raises:
            RunError: a record of one cannot be read.
        """
        return frozenset(ask for record in read_records(folder) if record.failed is None for ask in record.asks)

    def at_once(self) -> EndpointTeacher:
        """Without batches."""
        return self if self.batch is None else self.model_copy(update={"batch": None})

    def in_json(self, schema: Mapping[str, object]) -> EndpointTeacher:
        """By further fields of the request."""
        return self.model_copy(update={"extra_body": merged(self.wire.json_answers(schema), self.extra_body)})

    def duration(self, requests: int, seconds: float) -> float | None:
        """By the requests in flight at once, and by those that may be started a minute. None: batches take a while."""
        if self.batch is not None:
            return None
        # The last requests take as long as one, however few there are.
        rounds = max(requests / self.concurrency, min(requests, 1))
        return max(rounds * seconds, requests * 60 / (self.requests_per_minute or math.inf))

    def read_key(self) -> str | None:
        """The key, read where the config says. None: none is sent.

        Raises:
            SecretError: it is not there, or no key.
        """
        return None if self.api_key is None else self.api_key.resolve(f"{self.config_field}.api_key", self.base_url)

    def request(self, ask: Ask, seed: int) -> GenerationRequest:
        """With the effort."""
        return replace(super().request(ask, seed), reasoning_effort=self.reasoning_effort)

    def sampling(self, ask: str, seed: int) -> dict[str, JsonValue] | None:
        """With the effort and the further fields of the request."""
        further: dict[str, JsonValue] = {"reasoning_effort": self.reasoning_effort, "extra_body": self.extra_body}
        return (super().sampling(ask, seed) or {}) | {name: value for name, value in further.items() if value}

    def check(self) -> None:
        """Look whether the API key is there, and `max_spend` can be held and is enough for a call."""
        allowed = allowance(self)
        if allowed is not None and allowed.money < (one := allowed.at_most(self.prompt_tokens_at_most(""))):
            log.warning(
                "%s.max_spend: one call can cost %s, and %s is less: nothing would be asked",
                *(self.config_field, f"{one:,.4f}", f"{allowed.money:,.4f}"),
            )
        self.read_key()
        if self.batch is not None and (given := self._differ(OF_CALLS)):
            log.warning("%s.%s: no effect in batches", self.config_field, ", ".join(given))

    def _differ(self, names: Collection[str]) -> list[str]:
        """Which fields do not have their defaults."""
        return [name for name in names if getattr(self, name) != type(self).model_fields[name].default]

    def start(self, seed: int, folder: Location) -> RunningTeacher:
        """Open the connections.

        Raises:
            TeacherError: batches of an earlier start are under way, and `batch` is not given any more.
            RunError: their records cannot be used.
        """
        if self.batch is None:
            refuse_open_batches(folder)
            return RunningModel(self._generator, self, seed, self.concurrency)
        from s1ray.teachers.batches.client import Client
        from s1ray.teachers.batches.running import RunningBatches

        key = self.read_key()
        exchange = Exchange(
            wire=self.wire,
            model=self.model,
            extra_body=self.extra_body,
            thinking_format=self.thinking_format,
            retried_reasons=self.retry_finish_reasons,
            request=lambda ask: self.request(ask, seed),
        )
        provider = self.batch_api(Client(self.base_url, self.wire.headers(key), key))
        return RunningBatches(provider, exchange, self.batch, folder)

    def batch_api(self, client: Client) -> Provider:
        """The provider's batch API."""
        from s1ray.teachers.batches.openai import OpenAIBatches

        return OpenAIBatches(client)

    def _generator(self, calls: OnCall) -> Generator:
        from s1ray.generation.http import HTTPGenerator

        return HTTPGenerator(
            self.base_url,
            self.model,
            wire=self.wire,
            api_key=self.read_key(),
            concurrency=self.concurrency,
            timeout=self.timeout,
            attempts=self.attempts,
            retried_reasons=self.retry_finish_reasons,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            thinking_format=self.thinking_format,
            extra_body=self.extra_body,
            on_call=calls,
        )


class OpenAITeacher(EndpointTeacher):
    """A reasoning model behind an OpenAI-compatible API that returns its reasoning apart (`reasoning_content`).

    A budget (`thinking`) is for our own server, which alone takes it in this format.
    """

    @property
    def wire(self) -> Wire:
        """Chat completions."""
        return ChatCompletions()


class AnthropicTeacher(EndpointTeacher):
    """A model behind Anthropic's Messages API; `thinking.max_tokens` is its budget, "auto" its adaptive thinking.

    Without `thinking` a model of Anthropic's does not think, and its traces are dropped.
    """

    seeded: ClassVar[bool] = False

    temperature: float | None = Field(default=None, ge=0, le=1)
    """None: the provider's default, 1, which is the only one while a model thinks."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """None: the provider's default; at least 0.95 while a model thinks."""

    def check(self) -> None:
        """Say, too, where a teacher would not think."""
        super().check()
        thinking = self.example_body().get("thinking")
        thinks = isinstance(thinking, Mapping) and thinking.get("type") != "disabled"
        if self.config_field == "teacher" and not thinks:
            log.warning(
                "teacher.thinking: without it a model of Anthropic's does not think, and traces without thinking are "
                "dropped; give thinking.max_tokens, a number or auto"
            )

    @property
    def wire(self) -> Wire:
        """The Messages API."""
        return AnthropicMessages()

    def batch_api(self, client: Client) -> Provider:
        """Message Batches."""
        from s1ray.teachers.batches.anthropic import AnthropicBatches

        return AnthropicBatches(client)


class ResponsesTeacher(EndpointTeacher):
    """A model behind OpenAI's Responses API, or a server that speaks it.

    OpenAI's own models give a summary of their reasoning, and the trace has that in place of the reasoning; others
    (gpt-oss on vLLM) give the reasoning itself.
    """

    seeded: ClassVar[bool] = False

    temperature: float | None = Field(default=None, ge=0, le=2)
    """None: the provider's default, which is the only one of OpenAI's reasoning models."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """None: the provider's default."""
    reasoning_summary: Summary | None = "auto"
    """How detailed a summary of the reasoning is asked for. None: none is."""

    @property
    def wire(self) -> Wire:
        """The Responses API."""
        return OpenAIResponses(self.reasoning_summary)
