"""Shows that a family is trained as it is served, on a small copy of the model, before anything starts.

The copy has random weights and the model's own code. A few examples go through it as in training, packed or padded, and
each alone through transformers' own attention and loss. Losses and gradients must be equal; a family whose layers would
do otherwise in training is refused, and so is one that cannot be tried.

Imports torch at the top: for the checks before a run, and for training workers.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch

from s1ray.config import ConfigError
from s1ray.errors import S1rayError
from s1ray.training.data.collate import IGNORE, Dataset, collate
from s1ray.training.model import attention
from s1ray.training.model.loss import LossModel
from s1ray.training.model.shrinking import ROWS, VOCABULARY, limits_in_tokens, shrink

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from s1ray.training.config import TrainingConfig
    from s1ray.training.model.engine import Engine

LOSS_TOLERANCE = 1e-5
"""Largest relative difference of two losses that count as equal, in fp32."""
GRADIENT_TOLERANCE = 1e-3
"""Largest relative difference of all gradients together (norm of the difference over norm), in fp32."""
LOADED_TOKENS = 32
"""Length of the example that a loaded model is compared on."""
LOADED_TOLERANCE = {"fp32": 1e-3, "bf16": 0.1}
"""Largest difference of its two losses, by precision. On 25 texts, rounding gave SmolLM2-135M at most 2.5e-5 in fp32
and 0.022 in bf16; an example that sees the other one, at least 0.96."""
MAX_WEIGHTS = 20_000_000
"""Most weights of a small copy: more would take long."""
CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A family trained, and computed plainly."""

    loss: float
    """Mean over the trained tokens, as in training."""
    plain_loss: float
    """The same by transformers, each example alone."""
    gradient_difference: float
    """Norm of the difference over the norm of the plain one."""

    @property
    def equal(self) -> bool:
        """Whether the difference is rounding."""
        difference = abs(self.loss - self.plain_loss)
        return difference <= LOSS_TOLERANCE * abs(self.plain_loss) and self.gradient_difference <= GRADIENT_TOLERANCE


def prove(network: PreTrainedModel, config: TrainingConfig) -> None:
    """Refuse a model that would not be trained as it is served.

    Args:
        network: its weights are not read, and may be on the meta device.

    Raises:
        ConfigError: losses or gradients differ, or a small copy cannot be made or run.
    """
    family, model_config, packing = type(network), network.config, config.packing

    def problem(packing: bool, longest_example: int, longest_row: int) -> str | None:
        small = shrink(model_config, longest_example=longest_example, longest_row=longest_row)
        return _problem(family, small, packing=packing)

    longest_example, longest_row = config.max_length, config.micro_batch
    found = problem(packing, longest_example, longest_row)
    if found is None:
        return
    advice = ""
    limits = limits_in_tokens(model_config)
    met = {field: limit for field, limit in limits.items() if limit < longest_row}
    if packing and problem(False, longest_example, longest_row) is None:
        advice = "; with packing: false it can be"
    elif met and problem(packing, 0, 0) is None:
        fields = ", ".join(f"{field} {limit:,}" for field, limit in met.items())
        advice = f"; it can be with max_length and micro_batch_tokens of at most {min(met.values()):,} ({fields})"
    raise ConfigError(
        f"model {config.model} ({family.__name__}) cannot be trained here as it is served: {found}{advice}"
    )


def _problem(family: type[PreTrainedModel], small: PretrainedConfig, *, packing: bool) -> str | None:
    """What is wrong with a small model in training, if anything is."""
    try:
        found = compare(family, small, packing=packing)
    except S1rayError as error:
        return str(error)
    except _NeedsMaskError as error:
        return f"its layers need a mask, and training here tells them where examples begin instead ({error})"
    except Exception as error:  # Whatever a family's code raises here, a worker would raise later.
        if isinstance(error, KeyError) and attention.SEGMENTS in error.args:
            return "its attention is of its own making, and cannot be replaced"
        return f"a small copy of it cannot be run ({said(error)})"
    if found.equal:
        return None
    rows = "one packed row" if packing else "padded rows"
    if abs(found.loss - found.plain_loss) > LOSS_TOLERANCE * abs(found.plain_loss):
        return (
            f"a small copy of it has a loss of {found.loss:.4f} on examples in {rows}, "
            f"and of {found.plain_loss:.4f} on each alone"
        )
    return (
        f"in a small copy of it, the gradients of examples in {rows} differ from those of each alone by "
        f"{100 * found.gradient_difference:.2g} %"
    )


def compare(family: type[PreTrainedModel], small: PretrainedConfig, *, packing: bool) -> Comparison:
    """Loss and gradients of a small model in training, and plainly; random weights and examples, always the same."""
    dataset = examples()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = build(family, small, "eager")
        spread(plain)
        attention.register()
        trained = build(family, small, attention.SEGMENTS)
    trained.load_state_dict(plain.state_dict())
    plain_loss = sum(
        _plain_loss(plain, torch.from_numpy(tokens), torch.from_numpy(labels))
        for tokens, labels in zip(dataset.tokens, dataset.labels, strict=True)
    )
    inputs = collate(dataset, range(len(ROWS)), packing=packing, flash=False, device=CPU)
    try:
        loss = LossModel(trained, logits_chunk=16)(**inputs)
    except (AttributeError, TypeError) as error:
        # It has just been run with a mask.
        if "NoneType" in str(error):
            raise _NeedsMaskError(said(error)) from error
        raise
    count = sum(dataset.trained)
    (plain_loss / count).backward()
    (loss / count).backward()
    return Comparison(loss.item() / count, float(plain_loss.detach()) / count, _difference(trained, plain))


class _NeedsMaskError(Exception):
    """A family's layers read the mask, which is None in training."""


def said(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def examples() -> Dataset:
    """Made-up rows, always the same."""
    draw = np.random.default_rng(0)
    tokens = [draw.integers(1, VOCABULARY - 1, size=length) for length in ROWS]
    masks = [np.arange(length) >= length // 3 for length in ROWS]
    return Dataset([str(row) for row in range(len(ROWS))], tokens, masks)


def build(family: type[PreTrainedModel], small: PretrainedConfig, implementation: str) -> PreTrainedModel:
    """A small model in fp32, in evaluation mode, with an attention function.

    Raises:
        ConfigError: it is not small.
    """
    with torch.device("meta"):
        size = sum(p.numel() for p in family._from_config(copy.deepcopy(small)).parameters())
    if size > MAX_WEIGHTS:
        raise ConfigError(f"its config is not known well enough to make it small: {size:,} weights remain")
    settings = {"dtype": torch.float32, "attn_implementation": implementation}
    return family._from_config(copy.deepcopy(small), **settings).eval()


def spread(network: torch.nn.Module) -> None:
    """Draw the weights so that a term that is left out would show: none is 0 or 1, as many are at first."""
    for parameter in network.parameters():
        with torch.no_grad():
            if parameter.dim() > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
            else:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)


def _plain_loss(network: PreTrainedModel, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sum over an example's trained tokens; `labels` are those of the next tokens."""
    own = torch.cat([labels.new_full((1,), IGNORE), labels[:-1]])
    loss: torch.Tensor = network(input_ids=tokens[None], labels=own[None], use_cache=False).loss
    return loss * (labels != IGNORE).sum()


def _difference(trained: PreTrainedModel, plain: PreTrainedModel) -> float:
    expected = dict(plain.named_parameters())
    difference, norm = 0.0, 0.0
    for name, parameter in trained.named_parameters():
        found, own = (torch.zeros_like(p) if p.grad is None else p.grad for p in (parameter, expected[name]))
        difference += float((found - own).double().square().sum())
        norm += float(own.double().square().sum())
    return float((difference / norm) ** 0.5)


def prove_loaded(engine: Engine, dataset: Dataset, config: TrainingConfig) -> None:
    """Compare a loaded model in training with transformers' own attention and loss; every worker must call it.

    The second of two short examples must have the same loss beside the first one as alone, on the model's real weights,
    with the run's attention, precision and workers. The first one begins with the second, so that a model that sees it
    knows every token.

    Raises:
        ConfigError: the losses differ.
    """
    tokens = dataset.tokens[0]
    longer, shorter = tokens[: 2 * LOADED_TOKENS], tokens[:LOADED_TOKENS]
    rows = Dataset(
        ["longer", "shorter"],
        [longer, shorter],
        [np.zeros(len(longer), dtype=bool), np.ones(len(shorter), dtype=bool)],
    )
    count = rows.trained[1]
    trained = engine.evaluate([engine.inputs(rows, (0, 1))])
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(trained)
        trained /= config.data_parallel
    plain = engine.evaluate_plainly(torch.from_numpy(shorter), torch.from_numpy(rows.labels[1]))
    loss, plain_loss = float(trained) / count, float(plain) / count
    tolerance = LOADED_TOLERANCE[config.precision]
    if not abs(loss - plain_loss) <= tolerance * max(1.0, abs(plain_loss)):
        family = type(engine.model).__name__
        raise ConfigError(
            f"model {config.model} ({family}) cannot be trained here as it is served: with its weights, an example has "
            f"a loss of {loss:.4f} beside another one, and of {plain_loss:.4f} alone (tolerance {tolerance:g})"
        )
