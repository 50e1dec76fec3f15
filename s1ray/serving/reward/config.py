"""The `args` of a reward model's application."""

from __future__ import annotations

from pydantic import Field, model_validator

from s1ray.config import Config, NodeLabels
from s1ray.models import ModelPath


class RewardConfig(Config):
    """A process reward model: a checkpoint that gives each step of a response a score between 0 and 1."""

    name: str = "reward"
    """What clients call it."""
    model: ModelPath
    """Folder, Hugging Face id, or registered alias. With a head for token classification its scores are read at the
    separator behind each step; with one for sequence classification each step is scored by the text up to its end."""
    separator: str = "<extra_0>"
    """Behind each step; one token of the model's. Qwen2.5-Math-PRM: <extra_0>."""
    system_prompt: str | None = None
    """Before the question. Qwen2.5-Math-PRM: "Please reason step by step, and put your final answer within
    \\\\boxed{}."."""
    good_label: int = Field(default=1, ge=0)
    """Of the head's classes, the one whose probability is the score. A head with one output gives a logit instead."""
    trust_remote_code: bool = False
    """Run code that comes with the checkpoint: Qwen2.5-Math-PRM has its class there."""
    device: str = Field(default="auto", pattern="^(auto|cpu|gpu)$")
    """auto: a GPU if the cluster has any."""
    node_labels: NodeLabels | None = None
    """Labels of the nodes that the replicas run on. None: any node."""
    max_tokens: int = Field(default=4096, ge=1)
    """Of a question with its steps; longer ones are refused."""
    batch: int = Field(default=16, ge=1)
    """Responses that are scored together."""
    batch_wait_ms: float = Field(default=5.0, ge=0)
    """How long a batch waits to become full."""
    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int = Field(default=1, ge=1)
    target_ongoing_requests: float = Field(default=16.0, gt=0)
    """Requests that a replica should have at once, waiting ones included; more bring up another one."""

    @model_validator(mode="after")
    def _replicas_are_in_order(self) -> RewardConfig:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas: {self.min_replicas} is more than max_replicas, {self.max_replicas}")
        return self
