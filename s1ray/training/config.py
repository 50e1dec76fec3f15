"""The config of a fine-tuning run: the model, the traces, the recipe, and how the work is spread.

The defaults are s1's published recipe (arXiv 2501.19393, section 4.1 and appendix C). Global batch, learning-rate
schedule and loss do not depend on how the work is spread: `num_workers`, `micro_batch_tokens`, `packing` and the ZeRO
stage change speed and memory only.
"""

from __future__ import annotations

import datetime
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, model_validator

from s1ray.config import Config, NodeLabels, StageConfig
from s1ray.grading.grade import RULES, GraderName
from s1ray.models import ModelRef
from s1ray.storage import is_address
from s1ray.thinking.budget import ThinkingBudget


class OptimizerConfig(Config):
    """AdamW and its learning-rate schedule. Biases and norms have no weight decay, as in transformers' Trainer."""

    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """After the warm-up: cosine or linear down to 0, or constant."""
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    """Part of all optimizer steps with linear warm-up from 0, rounded up to whole steps."""
    weight_decay: float = Field(default=1e-4, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0)
    gradient_clip: float = Field(default=1.0, ge=0)
    """Largest global gradient norm. 0: gradients are not clipped."""

    @model_validator(mode="after")
    def _betas_in_range(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: both must be at least 0 and below 1, got {list(self.betas)}")
        return self


class CheckpointsConfig(Config):
    """Checkpoints to resume from: model, optimizer, random state, step. The exported model is separate."""

    every: int | None = Field(default=100, ge=1)
    """Optimizer steps between checkpoints; the last step is always followed by one. None: another is written only when
    the run is asked to stop or is about to lose a node; a run that is killed in another way starts again."""
    keep: int = Field(default=1, ge=1)
    """How many are kept: the newest, or under `validation` those with the lowest loss, in addition to the newest."""
    background: bool = True
    """Write to the workers' temporary folder (TMPDIR), and copy to the run folder while training continues. False:
    write to the run folder and wait for it, which also happens if the temporary folder has no room."""


class ValidationConfig(Config):
    """Traces held out of training to measure the loss on: whole questions, drawn by the seed."""

    size: int | None = Field(default=None, ge=1)
    """Traces to hold out (a few more, if a question has several). Give this or `fraction`."""
    fraction: float | None = Field(default=None, gt=0, lt=1)
    """Part of the traces to hold out."""
    every: int = Field(default=50, ge=1)
    """Optimizer steps between measurements. The last step is always measured."""
    export: Literal["last", "best"] = "last"
    """Which model is exported: the last, or the one with the lowest loss on the held-out traces (each new lowest loss
    writes a checkpoint)."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.size is None) == (self.fraction is None):
            raise ValueError("give either size (traces) or fraction (of the traces)")
        return self


class AccuracyConfig(Config):
    """Held-out questions that the model answers while it is trained, which says what the loss only hints at.

    A vLLM engine of its own answers them: on GPUs that no worker has, or on CPUs beside the workers.
    """

    incidental: ClassVar[frozenset[str]] = frozenset({"pause", "tensor_parallel_size", "kv_cache_gib", "node_labels"})

    benchmark: str = Field(min_length=1)
    """The questions: a registered benchmark, or a file of rows with questions and answers. None of them may
    be among the traces'."""
    size: int | None = Field(default=100, ge=1)
    """How many of them, drawn by the seed. None: all."""
    every: int = Field(default=50, ge=1)
    """Optimizer steps between measurements. The last step is always measured."""
    budget: ThinkingBudget = ThinkingBudget(max_tokens=4096)
    """How long a response thinks, as in a request to the server (`max_tokens`, `waits`, ...)."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Tokens of a whole response at most. None: what the context allows."""
    temperature: float = Field(default=0.0, ge=0)
    """0: greedy."""
    grader: GraderName = RULES
    pause: bool = False
    """Training waits for each measurement: on a machine that has nothing to spare."""
    export: Literal["last", "best"] = "last"
    """Which model is exported: the last, or the one with the highest accuracy (of equal ones the latest)."""
    tensor_parallel_size: int = Field(default=1, ge=1)
    """GPUs of the engine."""
    max_model_len: int | None = Field(default=None, ge=1)
    """The engine's context in tokens. None: the model's own."""
    kv_cache_gib: float = Field(default=1.0, gt=0)
    """KV cache of an engine on CPUs, in GiB."""
    node_labels: NodeLabels | None = None
    """Labels of the nodes that the engine runs on. None: any node."""


class DivergenceConfig(Config):
    """What happens at a step whose loss or gradient norm is not finite, or is a spike."""

    action: Literal["stop", "skip"] = "stop"
    """stop: end the run, naming the step's rows. skip: skip the update on all workers, and continue."""
    loss_factor: float | None = Field(default=None, gt=1)
    """A loss above this multiple of the median of the last `window` steps is a spike. None: no finite loss is."""
    gradient_factor: float | None = Field(default=None, gt=1)
    """The same for the gradient norm before clipping."""
    window: int = Field(default=50, ge=2)
    """Steps of the running median; no step counts as a spike before there are as many."""
    max_skips: int = Field(default=10, ge=0)
    """The run ends if it skips more steps than this."""


class WandbConfig(Config):
    """The run's place in Weights & Biases. The key comes from WANDB_API_KEY or `wandb login`."""

    project: str
    entity: str | None = None
    mode: Literal["online", "offline"] = "online"


class MlflowConfig(Config):
    """The run's place in MLflow."""

    experiment: str
    tracking_uri: str | None = None
    """A server's address or a database (sqlite:///...). User and password come from
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. None: MLflow's own setting (MLFLOW_TRACKING_URI)."""


class TrackingConfig(Config):
    """Services that get each step, in addition to `<output>/metrics.jsonl`, from the machine that starts the run."""

    tensorboard: bool = True
    """Event files for TensorBoard in `<output>/tensorboard`."""
    wandb: WandbConfig | None = None
    mlflow: MlflowConfig | None = None
    peak_tflops: float | None = Field(default=None, gt=0)
    """What one device can do in dense bf16, in TFLOP/s, for the model FLOPs utilization (MFU). None: looked up for the
    GPU; if it is not known, no MFU is reported."""


class OffloadConfig(Config):
    """Model states kept in the host's memory: a larger model fits on a GPU, and each step copies them."""

    optimizer: Literal["none", "cpu"] = "none"
    """fp32 master weights and AdamW's moments; the update then runs on the CPU. Needs ZeRO-1 or higher."""
    parameters: Literal["none", "cpu"] = "none"
    """Each worker's part of the weights, fetched layer by layer. Needs ZeRO-3."""


class LoraConfig(Config):
    """LoRA (arXiv 2106.09685): the weights are frozen, and only low-rank updates to them are trained."""

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    """The update is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of the updates' inputs. Above 0 the result depends on how the work is spread, as every worker draws its own."""
    target_modules: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)] = "all-linear"
    """Layers that get an update, by name (q_proj, v_proj, ...). all-linear: all linear layers but the output layer."""
    quantize: Literal["none", "nf4"] = "none"
    """nf4: the frozen linear layers are kept in four bits (QLoRA, arXiv 2305.14314), about a quarter of their memory in
    bf16, and widened as they compute. Needs the package bitsandbytes, and a ZeRO stage below 3."""
    export: Literal["merged", "adapter"] = "merged"
    """merged: the updates are added to the weights, which gives a model like any other. adapter: peft's folder of a few
    megabytes, which is loaded on top of the base model. (Under `quantize`, merged is the model that was trained, with
    the rounding of its four bits; on top of the base model itself, an adapter gives slightly other answers.)"""


class ColumnsConfig(Config):
    """Which column of the rows holds what, where they are not called so already. Give `question` and `attempt` (and
    `thinking`, unless it is within the attempt), or `messages`.
    """

    question: str | None = None
    thinking: str | None = None
    attempt: str | None = None
    """The answer."""
    messages: str | None = None
    """A list of messages (role and content, or from and value), or its JSON."""
    system: str | None = None
    tools: str | None = None
    """Definitions of the tools that are called in the messages."""
    id: str | None = None
    """A name for each row. None: `id`, if there is one, or else made from the question."""


class TrainingConfig(ModelRef, StageConfig):
    """A fine-tuning run. The exported Hugging Face folder is `<output>/model`."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        # How a global batch is spread and processed, not what it is: a run may resume with more workers, or, after it
        # ran out of memory, with settings that need less.
        {
            "output",
            "num_workers",
            "sequence_parallel",
            "packing",
            "micro_batch_tokens",
            "gradient_checkpointing",
            "logits_chunk",
            "attention",
            "accelerator_type",
            "node_labels",
            "cpus_per_worker",
            "max_restarts",
            "checkpoints",
            "divergence",
            "tracking",
            "push_to",
        }
    )

    traces: str
    """The rows to train on: a Parquet or JSON Lines file (.jsonl, .jsonl.gz), a folder of them, or a data set of the
    Hugging Face Hub (org/name, org/name:split, org/name@revision:split). Known by their columns are s1ray's traces, s1K
    and s1K-1.1, messages or conversations, and prompt with completion."""
    columns: ColumnsConfig | None = None
    """Which columns to read, where they have other names."""
    system_prompt: str | None = Field(default=None, min_length=1)
    """System prompt of rows that have none of their own. None: whatever the chat template writes then."""
    train_on: Literal["all", "last"] = "all"
    """Which turns of a conversation are trained: all of the assistant's that have thinking, or only its last."""
    template_date: datetime.date | None = None
    """The date that the chat template is told, if it writes one (SmolLM3's, gpt-oss's). None: that of the run's first
    start, which a resumed run keeps."""
    conditional_control: Literal["none", "token", "step"] = "none"
    """s1's baselines to budget forcing (appendix of the paper): each question ends in "Think for up to N tokens."
    (token) or "... N steps." (step; the thinking is then written as steps that count down), where N is the trace's own
    length rounded up to a power of two."""
    max_length: int = Field(default=32768, ge=2)
    """Longest training sequence, in tokens. Nothing is ever cut: a longer row is unusable."""
    unusable_rows: Literal["refuse", "drop"] = "refuse"
    """What to do with rows that cannot be trained on whole (too long, cut by the teacher's limit, without answer or
    thinking, delimiters within the text): refuse the run, or drop them and record their ids in the manifest."""

    epochs: int = Field(default=5, ge=1)
    global_batch: int = Field(default=16, ge=1)
    """Examples per optimizer step, over all workers. An epoch's last, smaller batch is kept."""
    optimizer: OptimizerConfig = OptimizerConfig()

    router_loss: Literal["model", "off"] | NonNegativeFloat = "model"
    """Coefficient of the load-balancing loss of a mixture of experts (Switch Transformer, arXiv 2101.03961), which is
    then part of the loss. model: the model config's router_aux_loss_coef if it sets output_router_logits, else none."""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    """auto: one GPU per worker if the cluster (under `node_labels`: its nodes with them) has any, else CPUs."""
    accelerator_type: str | None = None
    """The GPUs that the workers run on, by Ray's name (H100, H200, A100-80G, L40S, ...). None: any."""
    node_labels: NodeLabels | None = None
    """Labels of the nodes that the workers run on. None: any node."""
    num_workers: int = Field(default=1, ge=1)
    """Workers, each with a part of the global batch (see also `sequence_parallel`)."""
    cpus_per_worker: int = Field(default=1, ge=1)
    """CPUs reserved for each worker; on CPU also its threads."""
    packing: bool = True
    """Put several examples into one row, each attending to itself only. False: pad each row to its micro-batch's
    longest."""
    micro_batch_tokens: int | None = Field(default=None, ge=2)
    """Most tokens, including padding, that a worker (under `sequence_parallel` the workers that share a row) takes
    through the model at once; a larger share of the global batch is accumulated. None: `max_length`."""
    sequence_parallel: int = Field(default=1, ge=1)
    """Workers that share each packed row, for rows whose activations fit no single GPU: DeepSpeed Ulysses (arXiv
    2309.14509). Each holds a part of the tokens, and during attention a part of the heads. Must divide `num_workers`
    and the model's attention heads; best within one node."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO: shard nothing (0), optimizer states (1), gradients too (2), parameters too (3)."""
    offload: OffloadConfig = OffloadConfig()
    lora: LoraConfig | None = None
    """None: all weights are trained."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """bf16: with fp32 master weights and optimizer states. auto: bf16 on GPUs and on CPUs that multiply it natively,
    else fp32 (emulated bf16 is several times slower)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: about a third more time for much less memory."""
    logits_chunk: int = Field(default=4096, ge=1)
    """Tokens whose logits exist at once in the cross-entropy (4,096 x 152,064 in fp32 are 2.5 GB). Unlike Liger's fused
    kernel, this loss needs no GPU, skips positions that are not trained, and gathers the output layer once under
    ZeRO-3."""
    attention: Literal["auto", "segments", "flash_attention_2"] = "auto"
    """segments: torch's attention, one example after the other. flash_attention_2: one kernel for all examples; needs
    the flash-attn package and a GPU. auto: flash_attention_2 where it can be used."""

    validation: ValidationConfig | None = None
    """None: all traces are trained on."""
    accuracy: AccuracyConfig | None = None
    """None: only losses are measured."""
    divergence: DivergenceConfig = DivergenceConfig()
    tracking: TrackingConfig = TrackingConfig()
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    max_restarts: int = Field(default=3, ge=0)
    """How often the workers are restarted from the newest checkpoint after one of them died; and as often, how often a
    start is tried again for which the cluster did not have the resources within ten minutes."""
    export_dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of the exported weights."""
    push_to: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    """Hugging Face repository ("organisation/name") to upload the exported model to; a new one is private. None:
    nothing is uploaded."""

    @model_validator(mode="after")
    def _refuse_what_no_store_can(self) -> Self:
        if not is_address(self.output):
            return self
        if self.accuracy is not None:
            raise ValueError(f"accuracy: its models pass through a folder; leave it out with output {self.output}")
        if self.tracking.wandb is not None or self.tracking.mlflow is not None:
            raise ValueError(
                f"tracking: wandb and mlflow need a folder for their files; leave them out with output {self.output}"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.micro_batch_tokens is not None and self.micro_batch_tokens < self.max_length:
            raise ValueError(
                f"micro_batch_tokens {self.micro_batch_tokens} is below max_length {self.max_length}: a row of full "
                "length would fit no micro-batch; raise the former or lower the latter"
            )
        if self.precision != "fp32" and self.export_dtype == "float32":
            raise ValueError("export_dtype float32 would only widen bf16 weights; use bfloat16, or precision: fp32")
        if self.attention == "flash_attention_2" and (self.device == "cpu" or self.precision == "fp32"):
            raise ValueError("attention flash_attention_2 needs a GPU and bf16; use auto or segments")
        if self.accelerator_type is not None and self.device == "cpu":
            raise ValueError("accelerator_type: has no effect with device: cpu; leave it out")
        return self

    @model_validator(mode="after")
    def _spread(self) -> Self:
        if self.num_workers % self.sequence_parallel:
            raise ValueError(
                f"sequence_parallel {self.sequence_parallel} does not divide num_workers {self.num_workers}; "
                "change one of the two"
            )
        if self.sequence_parallel > 1 and not self.packing:
            raise ValueError("sequence_parallel needs packed rows; set packing: true")
        offload = self.offload
        if offload.optimizer != "none" and self.zero_stage == 0:
            raise ValueError("offload.optimizer needs zero_stage 1, 2 or 3; zero_stage 0 partitions nothing")
        if offload.parameters != "none" and self.zero_stage != 3:
            raise ValueError(f"offload.parameters needs zero_stage 3, not {self.zero_stage}")
        if self.lora is not None and self.lora.quantize != "none" and self.zero_stage == 3:
            raise ValueError("lora.quantize needs zero_stage 0, 1 or 2: ZeRO-3 cannot partition weights of four bits")
        if self.device == "cpu" and (offload.optimizer, offload.parameters) != ("none", "none"):
            raise ValueError("offload moves states from GPUs to host memory; leave it out with device: cpu")
        return self

    @model_validator(mode="after")
    def _best_has_checkpoints(self) -> Self:
        if self.validation is not None and self.validation.export == "best" and self.checkpoints.every is None:
            raise ValueError("validation.export: best needs checkpoints; set checkpoints.every")
        return self

    @model_validator(mode="after")
    def _one_best(self) -> Self:
        if self.accuracy is None:
            return self
        if self.lora is not None and self.lora.export == "adapter":
            raise ValueError("accuracy is measured on whole models; set lora.export: merged, or leave accuracy out")
        if self.accuracy.export == "best" and self.validation is not None and self.validation.export == "best":
            raise ValueError("accuracy.export and validation.export cannot both be best; set one of them to last")
        return self

    @property
    def data_parallel(self) -> int:
        """Groups of workers that take different rows; a group is one worker, unless workers share rows."""
        return self.num_workers // self.sequence_parallel

    @property
    def micro_batch(self) -> int:
        """Tokens of a micro-batch, with the default resolved."""
        return self.max_length if self.micro_batch_tokens is None else self.micro_batch_tokens
