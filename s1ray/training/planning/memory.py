"""How much memory a run needs, estimated before anything starts: what is allocated, and when.

Model states follow the ZeRO paper (arXiv 1910.02054, section 3) and equal those of DeepSpeed's own estimators. On top
come the tensors that autograd saves in a decoder layer as transformers writes it, the chunks of the cross-entropy, and
the buffers in which DeepSpeed reduces gradients and gathers weights. Not all of them exist at once, so the peak is the
largest of four moments of a step: the loss, the backward pass, the reduction of the gradients, and the update.

Bytes everywhere; nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property

from s1ray.training.config import TrainingConfig

REDUCE_BUCKET = 500_000_000
"""Gradients that DeepSpeed reduces at once, in elements (its default)."""
LIVE_PARAMETERS = 1_000_000_000
"""Parameters that ZeRO-3 keeps gathered at most, in elements (its default)."""
SUB_GROUP = 1_000_000_000
"""Parameters that ZeRO-3 updates at once, in elements (its default)."""
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""A weight in four bits with its part of the two levels of scales (arXiv 2305.14314, section 3)."""
GPU_RUNTIME = 2 * 2**30
"""CUDA context, NCCL's channels and the kernels' workspaces on each GPU."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The sizes of a decoder model that the estimate depends on."""

    parameters: int
    """All weights; tied ones once."""
    largest_module: int
    """Weights of the module with the most weights of its own (usually the embedding): ZeRO-3 gathers at least these at
    once."""
    layers: int
    hidden_size: int
    attention_size: int
    """Width of the queries: heads x head size."""
    key_value_size: int
    """Width of the keys, and of the values."""
    heads: int
    intermediate_size: int
    """Width of the MLP; in a mixture of experts, of all the experts that a token goes through."""
    vocabulary: int
    normalised_queries: bool = False
    """Queries and keys have norms of their own (Qwen3)."""
    trained: int | None = None
    """Weights that are trained, if not all are (LoRA)."""
    linear: int = 0
    """Weights of the linear layers but the output layer: those that QLoRA keeps in four bits."""
    largest_linear: int = 0
    """Weights of the largest of them."""
    experts: bool = False
    """A mixture of experts: transformers rearranges its files on loading, and each worker then has all weights in main
    memory for a moment."""

    @property
    def key_value_heads(self) -> int:
        """Heads of the keys, and of the values."""
        return self.key_value_size * self.heads // self.attention_size

    @property
    def trainable(self) -> int:
        """Weights that have gradients."""
        return self.parameters if self.trained is None else self.trained


@dataclasses.dataclass(frozen=True)
class Workload:
    """The largest micro-batch of a worker, and how many a step has."""

    tokens: int
    """Padding included."""
    trained_tokens: int
    several_examples: bool = True
    """Whether it is a packed row of more than one example."""
    accumulates: bool = True
    """Whether any step has more than one micro-batch, so that gradients of earlier ones are there already."""

    @classmethod
    def full(cls, config: TrainingConfig) -> Workload:
        """The largest that the config allows."""
        tokens = -(-config.micro_batch // config.sequence_parallel)
        return cls(tokens, tokens, config.packing)


@dataclasses.dataclass(frozen=True)
class ModelStates:
    """Memory of a worker that does not depend on the rows."""

    weights: int
    gradients: int
    optimizer: int
    gathered: int
    """ZeRO-3: one module's whole weights and gradients."""
    host: int = 0
    """Offloaded to the host's memory."""

    @property
    def total(self) -> int:
        """On the worker's device."""
        return self.weights + self.gradients + self.optimizer + self.gathered


def model_states(architecture: Architecture, config: TrainingConfig) -> ModelStates:
    """Model states by ZeRO stage, as DeepSpeed's `estimate_zero{2,3}_model_states_mem_needs` count them."""
    n, stage, mixed = config.num_workers, config.zero_stage, config.precision != "fp32"
    width = 2 if mixed else 4
    trained = architecture.trainable
    weights = width * architecture.parameters // (n if stage == 3 else 1)
    if _quantized(config):
        weights = width * (architecture.parameters - architecture.linear) + int(NF4_BYTES * architecture.linear)
    if mixed:
        # ZeRO-2 holds the 16-bit gradients beside the fp32 ones that they are added to.
        gradients = {0: 2 * trained, 1: 4 * trained, 2: 6 * trained // n, 3: 4 * trained // n}[stage]
        optimizer = 12 * trained // (n if stage else 1)
    else:
        gradients = 4 * trained // (n if stage >= 2 else 1)
        # ZeRO keeps a master copy of weights that are fp32 already, too.
        optimizer = 12 * trained // n if stage else 8 * trained
    gathered = 2 * width * architecture.largest_module if stage == 3 else 0
    host = 0
    if config.offload.optimizer == "cpu":
        host += 16 * trained // n
        gradients = optimizer = 0
    if config.offload.parameters == "cpu":
        host += weights
        weights = 0
    return ModelStates(weights, gradients, optimizer, gathered, host)


def layer_activations(architecture: Architecture, config: TrainingConfig, workload: Workload, *, on_gpu: bool) -> int:
    """Bytes that autograd keeps of one decoder layer (RMSNorm, attention, RMSNorm, gated MLP) for its backward pass."""
    a, mixed = architecture, config.precision != "fp32"
    w = 2 if mixed else 4
    # Each norm: the input in fp32, the normalised one (unless the norm's weight is frozen), the output.
    norm_width = 4 + (w if config.lora is None else 0) + w
    per_token = 2 * norm_width * a.hidden_size + 2 * 4
    if a.normalised_queries:
        per_token += (norm_width - w) * (a.attention_size + a.key_value_size)
    # Queries, keys, values and the output, in fp32 on a CPU (see `attention.segment_attention`), and a sum a head.
    core = 4 if mixed and not on_gpu else w
    per_token += core * (2 * a.attention_size + 2 * a.key_value_size) + 4 * a.heads
    flash = on_gpu and mixed and config.attention != "segments"
    if core != w or (workload.several_examples and not flash):
        per_token += w * a.attention_size  # the output again: converted, or joined from the examples' pieces
    # Gate, its activation, up, and their product.
    per_token += 4 * w * a.intermediate_size
    if config.lora is not None:
        per_token += 7 * w * config.lora.rank
    return per_token * workload.tokens


@dataclasses.dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one worker."""

    states: ModelStates
    activations: int
    """Kept for the backward pass, all layers."""
    moments: dict[str, dict[str, int]]
    """Moment of a step -> what exists then."""
    loading: int = 0
    """Main memory that the worker needs for a moment while it loads the model."""
    updates_only: bool = False
    """LoRA."""

    @cached_property
    def peak_moment(self) -> str:
        """The moment that needs the most memory."""
        return max(self.moments, key=lambda name: sum(self.moments[name].values()))

    @property
    def total(self) -> int:
        """The peak on the worker's device (on a CPU: beside the interpreter and its libraries)."""
        return sum(self.moments[self.peak_moment].values())

    @property
    def host(self) -> int:
        """Host memory that the worker needs for offloaded states."""
        return self.states.host


def estimate(
    architecture: Architecture, config: TrainingConfig, workload: Workload | None = None, *, on_gpu: bool | None = None
) -> MemoryEstimate:
    """Peak memory of one worker.

    Args:
        workload: the largest micro-batch. None: the largest that the config allows.
        on_gpu: None: follows `config.device`; auto counts as a GPU.
    """
    a = architecture
    load = Workload.full(config) if workload is None else workload
    gpu = config.device != "cpu" if on_gpu is None else on_gpu
    states = model_states(a, config)
    mixed = config.precision != "fp32"
    w = 2 if mixed else 4
    hidden = w * a.hidden_size * load.tokens

    layer = layer_activations(a, config, load, on_gpu=gpu)
    positions = 2 * w * (a.attention_size // a.heads) * load.tokens
    last_norm = layer_norm(a, config) * load.tokens
    kept = a.layers * hidden if config.gradient_checkpointing else a.layers * layer
    activations = kept + positions + last_norm

    head = 0 if config.lora is not None else a.vocabulary * a.hidden_size
    picked = w * a.hidden_size * load.trained_tokens
    # The gradients of the hidden states and of the output layer, the latter in fp32, are taken in the forward pass.
    loss_kept = picked + 4 * head
    chunk = min(config.logits_chunk, load.trained_tokens) * a.vocabulary
    # Logits in fp32 and logsumexp's copy; then the slope in the training's precision and its product.
    loss_now = hidden + picked + max(8 * chunk, (4 + (w if mixed else 0)) * chunk + w * head)
    loss_back = picked + 4 * head + (w * head if mixed else 0)

    # The widest point of a layer's backward pass: the gradients of the MLP's product and of its two factors, when the
    # product itself is no longer needed.
    working = (2 * w * a.intermediate_size + 2 * w * a.hidden_size) * load.tokens
    if _quantized(config):
        working += w * a.largest_linear  # widened
    recomputed = layer if config.gradient_checkpointing else 0

    gradients = Gradients.of(a, config, states, gpu=gpu)
    fixed = {"weights": states.weights, "optimizer": states.optimizer, "buffers": gradients.buffers}
    fixed["gathered"] = gradients.gathered
    if gpu:
        fixed["runtime"] = GPU_RUNTIME
    earlier = gradients.accumulated if load.accumulates else gradients.always
    moments = {
        "loss": fixed
        | {"gradients": earlier, "activations": activations, "logits": loss_kept + max(loss_now, loss_back)},
        "backward pass": fixed
        | {
            "gradients": earlier + w * head,
            "activations": activations - last_norm + recomputed + working,
        },
        "reduction": fixed | {"gradients": earlier + gradients.fresh + gradients.reduced, "activations": hidden},
        "update": fixed | {"gathered": 0, "gradients": gradients.update},
    }
    loading = 2 * a.parameters if a.experts else 0
    return MemoryEstimate(states, activations, moments, loading, updates_only=config.lora is not None)


def _quantized(config: TrainingConfig) -> bool:
    return config.lora is not None and config.lora.quantize != "none"


def layer_norm(architecture: Architecture, config: TrainingConfig) -> int:
    """Bytes that the last norm keeps of a token: its input in fp32, and the normalised one."""
    return (4 + (4 if config.precision == "fp32" else 2)) * architecture.hidden_size


@dataclasses.dataclass(frozen=True)
class Gradients:
    """Gradients and DeepSpeed's buffers over a step."""

    always: int
    """From the start of the step."""
    accumulated: int
    """After an earlier micro-batch."""
    fresh: int
    """Of one backward pass, before their reduction."""
    reduced: int
    """What the reduction adds."""
    update: int
    """During the update."""
    buffers: int
    """Buckets, for the whole step."""
    gathered: int
    """ZeRO-3: whole weights that are kept for reuse."""

    @classmethod
    def of(cls, a: Architecture, config: TrainingConfig, states: ModelStates, *, gpu: bool) -> Gradients:
        """For a stage and a device."""
        n, stage, mixed = config.num_workers, config.zero_stage, config.precision != "fp32"
        w = 2 if mixed else 4
        trained = a.trainable
        bucket = min(trained, REDUCE_BUCKET)
        fresh = w * bucket
        if stage == 0:
            return cls(0, w * trained, w * trained, w * bucket, w * trained, 0, 0)
        if stage == 3:
            always = 0 if config.offload.optimizer == "cpu" else 4 * trained // n
            gathered = w * min(a.parameters, LIVE_PARAMETERS)
            update = always + min(always, 4 * SUB_GROUP)
            return cls(always, always, fresh, w * bucket, update, w * REDUCE_BUCKET if gpu else 0, gathered)
        if stage == 1 and mixed:
            # DeepSpeed's bf16 optimizer keeps whole fp32 gradients, and reduces copies of them.
            return cls(4 * trained, 4 * trained, fresh, 4 * bucket, 4 * trained, 0, 0)
        part = 4 * trained // n
        accumulated = part if stage == 2 else 4 * trained
        return cls(0, accumulated, fresh, w * bucket, 2 * part, 2 * w * REDUCE_BUCKET if gpu else 0, 0)
