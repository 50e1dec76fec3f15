"""The arguments of the Serve application: which models, how long they may think, how many requests they take.

In a Serve YAML they stand under `applications[].args`, beside `import_path: s1ray.serving.app:build_app`. Every key is
checked: an unknown or misplaced one is an error that names it (Serve itself drops unknown keys without a word;
`s1ray.serving.check` covers the rest of the file).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from s1ray.config import Config
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
"""The names that OpenAI's and Anthropic's clients know; numbers from the range of the s1 paper (500 to 16,000)."""


class Budgets(Config):
    """How long a model thinks, where a request does not say, and where it asks for too much."""

    default: int | None = Field(default=None, ge=0)
    """Thinking tokens at most where a request gives no `max_tokens` of its own. None: no cap but `maximum`."""
    maximum: int | None = Field(default=None, ge=0)
    """The largest budget that a request may ask for; more is answered with 400. None: no limit but the context."""

    effort: dict[str, Effort] = Field(default_factory=lambda: dict(DEFAULT_EFFORT))
    """Thinking tokens for each name that a request may give instead of a number (`reasoning_effort`); "auto": what the
    context and `maximum` allow. A map given here replaces the default one, whose numbers stop at `maximum`."""

    @model_validator(mode="before")
    @classmethod
    def _default_effort(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "effort" in data or not isinstance(data.get("maximum"), int):
            return data
        maximum = data["maximum"]
        within = {name: n if n == "auto" else min(n, maximum) for name, n in DEFAULT_EFFORT.items()}
        return data | {"effort": within}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.default is not None and self.maximum is not None and self.default > self.maximum:
            raise ValueError(f"default: {self.default} is more than maximum ({self.maximum})")
        for name, tokens in self.effort.items():
            if isinstance(tokens, int) and self.maximum is not None and tokens > self.maximum:
                raise ValueError(f"effort.{name}: {tokens} is more than maximum ({self.maximum})")
        if self.effort.get("none", 0) != 0:
            raise ValueError(
                f"effort.none: must be 0, as chat templates switch thinking off for it, not {self.effort['none']}"
            )
        return self

    def within(self, maximum: int | None) -> Budgets:
        """The same for a client with a maximum of its own: an effort's name then means no more than that."""
        if maximum is None or (self.maximum is not None and self.maximum <= maximum):
            return self
        default = None if self.default is None else min(self.default, maximum)
        effort = {name: n if n == "auto" else min(n, maximum) for name, n in self.effort.items()}
        return Budgets(default=default, maximum=maximum, effort=effort)


REPORTED_WITHIN_S = 20.0
"""Seconds within which Serve's controller knows of every request."""


class Autoscaling(Config):
    """How many replicas a model has, and what decides it."""

    policy: Literal["queue_depth", "ray"] = "queue_depth"
    """queue_depth: ours, for requests that take minutes (`s1ray.serving.scaling.policy` says how it decides). ray:
    Ray's own, replicas = requests (running and queued) / `target_ongoing_requests`; of the fields below it knows only
    that and the first two delays."""
    min_replicas: int = Field(default=1, ge=0)
    """Replicas at least. 0: none while nobody asks; the first request then waits until one has started."""
    max_replicas: int = Field(default=1, ge=1)
    """Replicas at most."""
    target_ongoing_requests: float | None = Field(default=None, gt=0)
    """Requests that a replica should have. None: three quarters of `max_ongoing_requests`. (ray.serve.llm's own
    default, 1e9, never scales.)"""
    upscale_delay_s: float = Field(default=10.0, ge=0)
    """Seconds of load before replicas are added."""
    downscale_delay_s: float = Field(default=300.0, ge=0)
    """Seconds of calm before replicas are removed: at least as long as a long answer takes."""
    target_kv_cache_usage: float = Field(default=0.9, gt=0, le=1)
    """Part of its KV cache that a replica's requests should take: where they think long, it is full before
    `target_ongoing_requests` is reached, and further requests wait inside the engine."""
    tolerated_queue: float = Field(default=0.0, ge=0)
    """Waiting requests, for each running replica, that ask for no more replicas: above 0 trades their wait for fewer
    replicas."""
    downscale_step_delay_s: float = Field(default=30.0, ge=0)
    """Seconds from one step down to the next, while the calm lasts."""
    downscale_load: float = Field(default=0.75, gt=0, lt=1)
    """Part of its target that each of the remaining replicas may have after a step down. Less removes replicas later,
    and brings them back less often."""
    downscale_fraction: float = Field(default=0.2, gt=0, le=1)
    """Part of the replicas that may go in one step; one may always."""
    scale_to_zero_delay_s: float | None = Field(default=None, ge=0)
    """With `min_replicas: 0`, seconds without any request before the last replica goes. None: `downscale_delay_s`.
    At least 20, as callers report their requests every 10 s."""
    replica_start_s: float = Field(default=120.0, ge=0)
    """Seconds that a replica takes to start, node and weights included. A queue of requests that are shorter than that
    counts less: most of it is gone when the replica comes."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas: {self.min_replicas} is more than max_replicas ({self.max_replicas})")
        if self.policy == "ray":
            for name in sorted(self.model_fields_set & QUEUE_DEPTH_ONLY):
                raise ValueError(f"{name}: means nothing to policy 'ray'; leave it out, or use 'queue_depth'")
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
"""Fields of `Autoscaling` that Ray's own policy has no use for."""


class Adapters(Config):
    """LoRA adapters of a model, which clients ask for as `<model's name>:<adapter's name>`. Loaded on first use."""

    folder: str = Field(min_length=1)
    """Holds a subfolder for each adapter: a folder that all nodes see, or cloud storage (s3://, gs://, abfss://,
    azure://)."""
    max_rank: Literal[8, 16, 32, 64, 128, 256] = 32
    """Largest rank of an adapter; memory is reserved for it."""
    max_in_batch: int = Field(default=4, ge=1)
    """Adapters that one batch may mix."""
    max_per_replica: int = Field(default=16, ge=1)
    """Adapters that a replica keeps; the least recently used one makes room."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "://" in self.folder and not self.folder.startswith(("s3://", "gs://", "abfss://", "azure://")):
            raise ValueError(f"folder: {self.folder} is in no storage that is known (s3, gs, abfss, azure)")
        if self.max_per_replica < self.max_in_batch:
            raise ValueError(f"max_per_replica: {self.max_per_replica} is less than max_in_batch ({self.max_in_batch})")
        return self


class ServedModel(EngineConfig):
    """One model of the application, under the name that clients give in `model`."""

    name: str = Field(min_length=1, max_length=128)
    """The model's name in the API."""
    budgets: Budgets = Budgets()
    """Limits of thinking."""
    autoscaling: Autoscaling = Autoscaling()
    """Number of replicas."""
    adapters: Adapters | None = None
    """LoRA adapters beside the model itself. None: none."""
    max_ongoing_requests: int | None = Field(default=None, ge=1)
    """Requests that a replica takes at once; more wait in the queue, where autoscaling sees them. None:
    `max_num_seqs`."""
    max_queued_requests: int = Field(default=1024, ge=-1)
    """Requests that wait, at each caller, while all replicas are full; more are refused with 429. At least 1, or -1: no
    bound."""
    graceful_shutdown_timeout_s: float = Field(default=600.0, ge=0)
    """How long a replica that is removed may go on with the answers it has begun."""
    start_attempts: int = Field(default=3, ge=1)
    """How often a replica's start is tried before the deployment is given up."""
    accelerator_type: str | None = None
    """GPU type a replica must run on, in Ray's names (H100, H200, A100-80G, L40S, ...). None: any."""
    strategy: str = Field(default="STRICT_PACK", pattern="^(STRICT_PACK|PACK|SPREAD|STRICT_SPREAD)$")
    """Placement of a replica's workers. STRICT_PACK: all on one node; PACK lets tensor parallelism cross nodes."""
    cpus_per_worker: float = Field(default=1.0, gt=0)
    """CPUs reserved for each worker; on a CPU engine they are also its threads."""

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", name):
            raise ValueError("must begin with a letter or digit and hold only letters, digits, '.', '_', '/' and '-'")
        return name

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_queued_requests == 0:
            raise ValueError("max_queued_requests: must be 1 or more, or -1 for no bound")
        if self.device == "cpu" and self.accelerator_type is not None:
            raise ValueError("accelerator_type: means nothing on device 'cpu'; leave it out")
        target = self.autoscaling.target_ongoing_requests
        if target is not None and target > self.ongoing_limit:
            raise ValueError(
                f"autoscaling.target_ongoing_requests: {target:g} is more than a replica takes "
                f"(max_ongoing_requests, {self.ongoing_limit}), so replicas would never be added"
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
    "enable_lora": "follows from the model's field `adapters`",
    "max_loras": "give it as `adapters.max_in_batch`",
    "max_lora_rank": "give it as `adapters.max_rank`",
    "max_cpu_loras": "give it as `adapters.max_per_replica`",
    "logits_processors": "budget forcing is loaded here by the server",
    "disable_log_stats": "autoscaling needs the statistics; `log_engine_metrics: false` leaves them out of the metrics",
    "reasoning_parser": "follows from `thinking_format`",
    "reasoning_parser_plugin": "follows from `thinking_format`",
    "speculative_config": "vLLM runs no logits processors under speculative decoding, so budgets would not be kept",
}
"""Engine arguments that have another place here, or none; and why."""


class Access(Config):
    """Who may use the server."""

    keys_file: str | None = None
    """The key file: on every node that may build the application (the head) or run an HTTP worker, and read again when
    it changes. None: the keys are in the environment variable `S1RAY_API_KEYS` (the text of a key file) where the
    application is built. With `serve deploy` that is the cluster, not the shell: set it there, or under
    `runtime_env.env_vars` of the application. Where it is unset, too, nobody is asked for a key."""
    required: bool = False
    """Do not start without keys."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.keys_file == "":
            raise ValueError("keys_file: must not be empty; leave it out to serve without keys")
        return self


class Limits(Config):
    """Limits of a single request."""

    request_bytes: int = Field(default=4 * 2**20, ge=1024)
    """Bytes of a request's body at most; more is answered with 413. A prompt of 128,000 tokens is about half a MiB."""
    request_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds that a client may take to send its request's body."""
    sequences: int = Field(default=64, ge=1)
    """Responses that one request may ask for: its prompts, times `n`. Each takes a place in the engine's batch."""
    first_token_timeout_s: float | None = Field(default=600.0, gt=0)
    """Seconds until a stream begins, waiting in the queue included; then 503. None: no limit."""
    total_timeout_s: float | None = Field(default=3600.0, gt=0)
    """Seconds until a response is complete; then 504, or an error event in a stream. None: no limit."""
    stream_interval_ms: float = Field(default=20.0, ge=0)
    """A stream's first tokens are sent at once; later ones together, at most this often. Each event costs two
    processes' time. 0: every token by itself."""
    stream_parts_per_s: float | None = Field(default=None, gt=0)
    """Parts that a replica's streams send in a second, all together: of many streams each sends its tokens in larger
    groups. None: 50 for each core of its machine, which takes about a tenth of them. No stream waits longer than
    a second for it."""
    stalled_after_s: float = Field(default=120.0, gt=0)
    """Seconds without an answer from an engine's scheduler, which answers between two steps, after which its replica
    is replaced."""


class ServingConfig(Config):
    """All of the application: `args` in the Serve YAML."""

    models: list[ServedModel] = Field(min_length=1)
    """The models that the app serves, each with its own replicas."""
    ingress_replicas: int = Field(default=1, ge=1)
    """Processes that take HTTP requests and hand them to the models. More help beyond some hundred streams."""
    log_engine_metrics: bool = True
    """Export vLLM's metrics through Ray's."""
    access: Access = Access()
    """Who may use the server. Without keys, everybody who reaches it."""
    limits: Limits = Limits()
    """What a single request may be."""
    playground: bool = True
    """Show the page at `/playground`. It opens no door: it asks like any client, with a key where keys are needed."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [model.name for model in self.models]
        for name in sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"models: the name {name!r} is given twice")
        return self
