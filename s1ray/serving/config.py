"""The arguments of the Serve application: models, thinking budgets, replicas, access and limits.

In a Serve YAML they are under `applications[].args`, next to `import_path: s1ray.serving.app:build_app`. An unknown or
misplaced key is an error that names it. (Serve itself silently drops unknown keys; `s1ray.serving.check` checks the
rest of the file.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from s1ray.config import Config, NodeLabels
from s1ray.models import EngineConfig

Effort = Annotated[int, Field(ge=0)] | Literal["auto"]

DEFAULT_EFFORT: dict[str, Effort] = {
    "none": 0,
    "minimal": 512,
    "low": 1024,
    "medium": 4096,
    "high": 16384,
    "xhigh": "auto",
    "max": "auto",
}
"""The effort names of the public APIs, from the least to the most; the numbers span the range of the s1 paper (500 to
16,000)."""


class Budgets(Config):
    """Default and maximum thinking budget of a model."""

    default: int | None = Field(default=None, ge=0)
    """Thinking tokens of a request that gives no budget. None: only `maximum` limits it."""
    maximum: int | None = Field(default=None, ge=0)
    """Largest budget of a request. None: only the context limits it."""
    over_maximum: Literal["clamp", "refuse"] = "clamp"
    """What becomes of a request that asks for more than `maximum`, or than its API key's maximum. clamp: it gets the
    maximum, and its response says what was asked for (`thinking.clamped_from`). refuse: 400; 403 if only the key is in
    the way."""

    effort: dict[str, Effort] = Field(default_factory=dict, validate_default=True)
    """Thinking tokens of each effort name that a request may give instead of a number (`reasoning_effort`); "auto":
    what the context and `maximum` allow. Names of the public APIs that are missing here (none, minimal, low, medium,
    high, xhigh, max) get what the next lower one has, or else the next higher one; `none` is always 0. Without any of
    them all have their defaults, cut to `maximum`."""

    @field_validator("effort")
    @classmethod
    def _complete_effort(cls, effort: dict[str, Effort], info: ValidationInfo) -> dict[str, Effort]:
        maximum = info.data.get("maximum")
        for name, tokens in effort.items():
            if isinstance(tokens, int) and maximum is not None and tokens > maximum:
                raise ValueError(f"{name}: {tokens} is more than maximum ({maximum})")
        if effort.get("none", 0) != 0:
            raise ValueError(f"none: must be 0, because chat templates turn thinking off for it, not {effort['none']}")
        return complete_effort(effort, maximum)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.default is not None and self.maximum is not None and self.default > self.maximum:
            raise ValueError(f"default: {self.default} is more than maximum ({self.maximum})")
        return self

    def within(self, maximum: int | None) -> Budgets:
        """These budgets cut to a client's own maximum, effort names included."""
        if maximum is None or (self.maximum is not None and self.maximum <= maximum):
            return self
        default = None if self.default is None else min(self.default, maximum)
        effort = {name: n if n == "auto" else min(n, maximum) for name, n in self.effort.items()}
        return self.model_copy(update={"default": default, "maximum": maximum, "effort": effort})


def complete_effort(effort: Mapping[str, Effort], maximum: int | None) -> dict[str, Effort]:
    """An effort map that has every name of the public APIs.

    A missing name has the tokens of the next lower name, or else of the next higher one: a client that asks for more
    than the map knows gets the most that it gives, and one that asks for less never gets no thinking at all.
    """
    known = [name for name in DEFAULT_EFFORT if name != "none" and name in effort]
    if not known:
        default = {name: n if n == "auto" or maximum is None else min(n, maximum) for name, n in DEFAULT_EFFORT.items()}
        return default | dict(effort)
    complete: dict[str, Effort] = {"none": 0}
    tokens = effort[known[0]]
    for name in DEFAULT_EFFORT:
        if name != "none":
            complete[name] = tokens = effort.get(name, tokens)
    return complete | dict(effort)


REPORTED_WITHIN_S = 20.0
"""Seconds after which Serve's controller is sure to know of a request."""


class Autoscaling(Config):
    """How many replicas a model has, and which policy decides."""

    policy: Literal["queue_depth", "ray"] = "queue_depth"
    """queue_depth: for requests that take minutes (see `s1ray.serving.scaling.policy`). ray: Ray's default policy,
    replicas = requests (running and queued) / `target_ongoing_requests`; of the fields below it uses that one,
    `upscale_delay_s` and `downscale_delay_s`."""
    min_replicas: int = Field(default=1, ge=0)
    """Fewest replicas. 0: none while there are no requests; the first request then waits for a replica to start."""
    max_replicas: int = Field(default=1, ge=1)
    """Most replicas."""
    target_ongoing_requests: float | None = Field(default=None, gt=0)
    """Requests that a replica should have. None: three quarters of `max_ongoing_requests`. (ray.serve.llm's default,
    1e9, never scales.)"""
    upscale_delay_s: float = Field(default=10.0, ge=0)
    """Seconds that more replicas must be needed before they are added."""
    downscale_delay_s: float = Field(default=300.0, ge=0)
    """Seconds that fewer replicas must suffice before any is removed: at least as long as a long answer takes."""
    target_kv_cache_usage: float = Field(default=0.9, gt=0, le=1)
    """Fraction of its KV cache that a replica's requests should fill. With long thinking the cache is full before
    `target_ongoing_requests` is reached, and further requests wait inside the engine."""
    tolerated_queue: float = Field(default=0.0, ge=0)
    """Waiting requests per running replica that are ignored when scaling up: above 0 accepts some waiting for fewer
    replicas."""
    downscale_step_delay_s: float = Field(default=30.0, ge=0)
    """Seconds between two steps down while the load stays low."""
    downscale_load: float = Field(default=0.75, gt=0, lt=1)
    """Fraction of its target that each remaining replica may have after a step down. A lower value removes replicas
    later, and adds them back less often."""
    downscale_fraction: float = Field(default=0.2, gt=0, le=1)
    """Largest fraction of the replicas that one step removes; one replica may always go."""
    scale_to_zero_delay_s: float | None = Field(default=None, ge=0)
    """With `min_replicas: 0`, seconds without any request before the last replica is removed. None:
    `downscale_delay_s`. At least 20, because callers report their requests every 10 s."""
    replica_start_s: float = Field(default=120.0, ge=0)
    """Seconds that a replica takes to start, node and weights included. A queue of requests that are shorter than that
    counts less, because most of it is gone when the replica is ready."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas: {self.min_replicas} is more than max_replicas ({self.max_replicas})")
        if self.policy == "ray":
            for name in sorted(QUEUE_DEPTH_ONLY):
                if getattr(self, name) == type(self).model_fields[name].get_default(call_default_factory=True):
                    continue
                raise ValueError(f"{name}: has no effect with policy 'ray'; leave it out, or use 'queue_depth'")
        if self.scale_to_zero_delay_s is not None and self.min_replicas > 0:
            raise ValueError(f"scale_to_zero_delay_s: min_replicas is {self.min_replicas}, not 0; leave it out")
        to_zero = self.downscale_delay_s if self.scale_to_zero_delay_s is None else self.scale_to_zero_delay_s
        if self.min_replicas == 0 and to_zero < REPORTED_WITHIN_S:
            raise ValueError(
                f"scale_to_zero_delay_s: {to_zero:g} s is too short with min_replicas 0: callers report their requests "
                f"every 10 s, and the last replica could go while some wait; give {REPORTED_WITHIN_S:g} or more"
            )
        return self


QUEUE_DEPTH_ONLY = frozenset(
    {
        "target_kv_cache_usage",
        "tolerated_queue",
        "downscale_step_delay_s",
        "downscale_load",
        "downscale_fraction",
        "replica_start_s",
    }
)
"""Fields of `Autoscaling` that Ray's default policy does not use."""


class Adapters(Config):
    """LoRA adapters of a model, which clients ask for as `<model's name>:<adapter's name>`. Loaded on first use."""

    folder: str = Field(min_length=1)
    """Folder with one subfolder per adapter: a path that every node sees, or cloud storage (s3://, gs://, abfss://,
    azure://)."""
    max_rank: Literal[8, 16, 32, 64, 128, 256] = 32
    """Largest rank of an adapter; memory is reserved for it."""
    max_in_batch: int = Field(default=4, ge=1)
    """Most adapters in one batch."""
    max_per_replica: int = Field(default=16, ge=1)
    """Most adapters that a replica keeps; it evicts the least recently used."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "://" in self.folder and not self.folder.startswith(("s3://", "gs://", "abfss://", "azure://")):
            raise ValueError(f"folder: {self.folder}: unknown storage; use a path, s3://, gs://, abfss:// or azure://")
        if self.max_per_replica < self.max_in_batch:
            raise ValueError(f"max_per_replica: {self.max_per_replica} is less than max_in_batch ({self.max_in_batch})")
        return self


class ServedModel(EngineConfig):
    """One model of the application."""

    name: str = Field(min_length=1, max_length=128)
    """The model's name in the API: what clients give as `model`."""
    aliases: list[str] = Field(default_factory=list)
    """Other names under which clients may ask for the model, for those that know only names such as gpt-5. `*` stands
    for any text ("claude-*"). A model's own name comes first, then an alias without `*`, then the one with the most
    other characters. Responses repeat the name that was asked for."""
    budgets: Budgets = Budgets()
    """Thinking budgets."""
    autoscaling: Autoscaling = Autoscaling()
    """Number of replicas."""
    adapters: Adapters | None = None
    """LoRA adapters. None: only the model itself is served."""
    max_ongoing_requests: int | None = Field(default=None, ge=1)
    """Requests that a replica takes at once; further ones wait in the queue, where autoscaling counts them. None:
    `max_num_seqs`."""
    max_queued_requests: int = Field(default=1024, ge=-1)
    """Requests that wait in each HTTP worker while all replicas are full; further ones are refused with 429. At least
    1; -1: no limit."""
    graceful_shutdown_timeout_s: float = Field(default=600.0, ge=0)
    """Seconds that a replica which is being removed may take to finish its responses."""
    start_attempts: int = Field(default=3, ge=1)
    """Attempts to start a replica before the deployment fails."""
    accelerator_type: str | None = None
    """GPU type that a replica needs, by Ray's name (H100, H200, A100-80G, L40S, ...). None: any."""
    node_labels: NodeLabels | None = None
    """Labels of the nodes that a replica's workers run on. None: any node."""
    strategy: str = Field(default="STRICT_PACK", pattern="^(STRICT_PACK|PACK|SPREAD|STRICT_SPREAD)$")
    """Placement of a replica's workers. STRICT_PACK: all on one node. PACK: tensor parallelism may span nodes."""
    cpus_per_worker: float = Field(default=1.0, gt=0)
    """CPUs reserved for each worker; a CPU engine runs as many threads."""

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", name):
            raise ValueError(
                "must begin with a letter or digit and contain only letters, digits, '.', '_', '/' and '-'"
            )
        return name

    @field_validator("aliases")
    @classmethod
    def _check_aliases(cls, aliases: list[str]) -> list[str]:
        for alias in aliases:
            if not re.fullmatch(r"[A-Za-z0-9*][A-Za-z0-9._/*-]*", alias):
                raise ValueError(
                    f"{alias!r}: must begin with a letter, digit or '*' and contain only letters, digits, '.', '_', "
                    "'/', '-' and '*'"
                )
        return aliases

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_queued_requests == 0:
            raise ValueError("max_queued_requests: must be 1 or more, or -1 for no limit")
        if self.device == "cpu" and self.accelerator_type is not None:
            raise ValueError("accelerator_type: has no effect on device 'cpu'; leave it out")
        target = self.autoscaling.target_ongoing_requests
        if target is not None and target > self.ongoing_limit:
            raise ValueError(
                f"autoscaling.target_ongoing_requests: {target:g} is more than a replica takes "
                f"(max_ongoing_requests, {self.ongoing_limit}), so no replica would ever be added"
            )
        for key in RESERVED_ENGINE_KWARGS.keys() & self.engine_kwargs.keys():
            raise ValueError(f"engine_kwargs.{key}: {RESERVED_ENGINE_KWARGS[key]}")
        return self

    @property
    def ongoing_limit(self) -> int:
        """Requests that one replica takes at once."""
        return self.max_ongoing_requests or self.max_num_seqs


RESERVED_ENGINE_KWARGS = {
    "model": "give it as the model's own field `model`",
    "served_model_name": "give it as the model's own field `name`",
    "tokenizer": "give it as the model's own field `tokenizer`",
    "tensor_parallel_size": "give it as the model's own field `tensor_parallel_size`",
    "max_model_len": "give it as the model's own field `max_model_len`",
    "max_num_seqs": "give it as the model's own field `max_num_seqs`",
    "dtype": "give it as the model's own field `dtype`",
    "enable_lora": "set by the model's field `adapters`",
    "max_loras": "give it as `adapters.max_in_batch`",
    "max_lora_rank": "give it as `adapters.max_rank`",
    "max_cpu_loras": "give it as `adapters.max_per_replica`",
    "logits_processors": "the server loads budget forcing here",
    "disable_log_stats": "autoscaling needs the statistics; `log_engine_metrics: false` stops their export",
    "reasoning_parser": "set by `thinking_format`",
    "reasoning_parser_plugin": "set by `thinking_format`",
    "speculative_config": "vLLM skips logits processors under speculative decoding, so budgets would not be enforced",
}
"""Engine arguments that `engine_kwargs` may not set: where they belong, or why they are refused."""


class Access(Config):
    """Where the API keys are."""

    keys_file: str | None = Field(default=None, min_length=1)
    """The key file. It must be on every node that builds the application (the head) or answers HTTP (those of the HTTP
    workers, or of the replicas), and is reloaded when it changes. None: the keys are in the environment variable
    `S1RAY_API_KEYS` (the text of a key file) where the application is built. With `serve deploy` that is the cluster,
    not the shell: set it there, or under `runtime_env.env_vars` of the application. If that is unset too, the server
    needs no key."""
    required: bool = False
    """Refuse to start without keys."""


class Limits(Config):
    """Limits of a single request."""

    request_bytes: int = Field(default=4 * 2**20, ge=1024)
    """Largest request body in bytes; a larger one gets 413. A prompt of 128,000 tokens is about half a MiB."""
    request_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds that a client may take to send the request body."""
    sequences: int = Field(default=64, ge=1)
    """Most responses for one request (its prompts times `n`). Each takes a slot in the engine's batch."""
    first_token_timeout_s: float | None = Field(default=600.0, gt=0)
    """Seconds until a stream's first token, queueing included; then 503, or an error event after `keep_alive_s`. None:
    no limit."""
    total_timeout_s: float | None = Field(default=3600.0, gt=0)
    """Seconds until a response must be complete; then 504, or an error event in a stream. None: no limit."""
    keep_alive_s: float | None = Field(default=10.0, gt=0)
    """Seconds of silence after which a stream sends a comment that clients pass over, so that no proxy takes it for
    dead: while it waits in a queue, and while its thinking is hidden. A request that is refused later than that has
    begun its stream, and ends with an error event in place of an HTTP status. None: streams wait silently."""
    stream_interval_ms: float = Field(default=20.0, ge=0)
    """Shortest interval between two events of a stream after its first tokens; the tokens in between are sent
    together, because each event costs time in two processes. 0: one event per token."""
    stream_parts_per_s: float | None = Field(default=None, gt=0)
    """Events per second that all streams of a replica send together: the more streams, the more tokens in each event.
    None: 200 per core of the machine, or 50 with `http: worker`, where each costs more. No stream waits longer than a
    second."""
    stalled_after_s: float = Field(default=120.0, gt=0)
    """Seconds without an answer from an engine's scheduler (it answers between two steps) after which the replica is
    replaced. While the engine runs a compiler, up to five times as many."""


class ServingConfig(Config):
    """The whole application: `args` in the Serve YAML."""

    models: list[ServedModel] = Field(min_length=1)
    """The models to serve, each with its own replicas."""
    http: Literal["auto", "direct", "worker"] = "auto"
    """Where HTTP requests are answered. direct: in the model's replicas themselves, one process for request and engine;
    for an application with one model. worker: in processes of their own in front of all models. auto: direct with one
    model that always has a replica; worker with several, and with `min_replicas: 0`, where any request, even one
    without a key, would start a replica to be read."""
    ingress_replicas: int = Field(default=1, ge=1)
    """Processes that take HTTP requests and pass them to the models (`http: worker`). One is enough for a few hundred
    streams."""
    log_engine_metrics: bool = True
    """Export vLLM's metrics through Ray's."""
    access: Access = Access()
    """API keys. Without them, everyone who reaches the server may use it."""
    limits: Limits = Limits()
    """Limits of a single request."""
    playground: bool = True
    """Serve the page at `/playground`. It is a client like any other and needs a key where the API does."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [model.name for model in self.models]
        if self.http == "direct" and len(names) > 1:
            raise ValueError(
                f"http: direct is for one model, and this application has {len(names)}: use worker, or an application "
                "with a route of its own for each"
            )
        if self.direct and "ingress_replicas" in self.model_fields_set and self.ingress_replicas != 1:
            raise ValueError(
                "ingress_replicas: the model's replicas answer HTTP themselves; leave it out, or set http: worker"
            )
        for name in sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"models: the name {name!r} is given twice")
        owners: dict[str, str] = {}
        for model in self.models:
            for alias in model.aliases:
                if alias in names:
                    raise ValueError(
                        f"models: the alias {alias!r} of {model.name!r} is the name of a model; leave it out"
                    )
                if alias in owners:
                    raise ValueError(f"models: the alias {alias!r} is given twice ({owners[alias]}, {model.name})")
                owners[alias] = model.name
        return self

    @property
    def direct(self) -> bool:
        """Whether the model's replicas answer HTTP themselves."""
        if self.http != "auto":
            return self.http == "direct"
        return len(self.models) == 1 and self.models[0].autoscaling.min_replicas > 0
