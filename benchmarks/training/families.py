"""Which families can be fine-tuned: every causal language model that transformers has, tried out.

    python -m benchmarks.training.families     # about ten minutes on one core

Writes families.json and the table in docs/families.md. Each family is a tiny random model with sliding windows and
chunks of a few tokens. `check_network` accepts it, or refuses it in words, as at the start of a run. What it
accepts is computed here in two ways, with other weights and rows than its own: three rows in training, and each row
alone through transformers' own attention, all logits and torch's cross-entropy. The losses must be equal.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from s1ray.config import ConfigError, validate_config
from s1ray.training.config import TrainingConfig
from s1ray.training.data.collate import IGNORE, Dataset, collate
from s1ray.training.model import attention
from s1ray.training.model.loss import LossModel
from s1ray.training.model.shrinking import OUT_OF_REACH, VOCABULARY, shrink
from s1ray.training.planning.architecture import network_without_weights
from s1ray.training.planning.requirements import check_network

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

LENGTHS = (9, 23, 16)
TOLERANCE = 1e-5
HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "docs" / "families.md"

# fmt: off
ENCODERS = [
    "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert",
    "reformer", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl",
    "xmod",
]
# fmt: on
FIELDS: dict[str, dict[str, Any]] = {
    # Families that are decoders only if their config says so.
    **{name: {"is_decoder": True} for name in ENCODERS},
    # Families whose default config lacks what every published one has.
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "ministral": {"head_dim": 128},
    "nemotron": {"head_dim": 128, "num_key_value_heads": 8},
    "lfm2": {"layer_types": ["conv", "conv", "full_attention", "conv"], "num_hidden_layers": 4},
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention", "conv"], "num_hidden_layers": 4},
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2, sliding windows": ("qwen2", {"use_sliding_window": True, "max_window_layers": 1}),
    "qwen2_moe, sliding windows": ("qwen2_moe", {"use_sliding_window": True, "max_window_layers": 1}),
    "phimoe, sliding windows": ("phimoe", {"sliding_window": 131072}),
    "gemma2, no softcapping": ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "gemma2, only the logits capped": ("gemma2", {"attn_logit_softcapping": None}),
    "granite, scaled": ("granite", {"logits_scaling": 8.0, "residual_multiplier": 0.22, "embedding_multiplier": 12.0}),
    "llama 3.1": (
        "llama",
        {
            "num_key_value_heads": 8,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        },
    ),
    "qwen2, YaRN": (
        "qwen2",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e6,
                "factor": 4.0,
                "original_max_position_embeddings": 32768,
            }
        },
    ),
    "falcon, no ALiBi": ("falcon", {"alibi": False, "new_decoder_architecture": True, "num_kv_heads": 8}),
}
"""Published configs of a family that take other paths through its code: label -> family, fields."""
# fmt: off
COMMON = [
    "apertus", "bloom", "cohere", "cohere2", "deepseek_v2", "deepseek_v3", "doge", "ernie4_5", "ernie4_5_moe",
    "exaone4", "falcon", "gemma", "gemma2", "gemma3_text", "gemma4_text", "glm4", "glm4_moe", "gpt2",
    "gpt_neox", "gpt_oss", "granite", "hunyuan_v1_dense", "lfm2", "llama", "llama4_text", "minimax",
    "ministral3", "mistral", "mixtral", "mpt", "nemotron", "olmo", "olmo2", "olmo3", "olmoe", "phi", "phi3",
    "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next", "seed_oss", "smollm3", "stablelm",
    "starcoder2",
]
# fmt: on
"""Families that people use most."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of a family."""

    family: str
    packing: bool
    refused: str | None
    """Why it was refused; None: it is trained."""
    difference: float | None = None
    """Relative difference of the losses, where it is trained."""


def families() -> list[str]:
    """All that are tried: transformers' names, and variants."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return [*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *VARIANTS]


def tiny_config(family: str) -> PretrainedConfig:
    """A tiny config whose sliding windows and chunks are shorter than the rows, while its positions suffice."""
    from transformers import AutoConfig

    name, fields = VARIANTS.get(family, (family, FIELDS.get(family, {})))
    return shrink(AutoConfig.for_model(name, **fields), longest_example=0, longest_row=2**40)


def judge(family: str, *, packing: bool) -> Verdict:
    """Try a family.

    Anything but a refusal in words is raised, and is a fault.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            config = tiny_config(family)
            config.save_pretrained(folder)
        except Exception as error:
            # Nor can a run have such a config.
            return Verdict(family, packing, f"transformers has no default config for it ({_line(error)})")
        try:
            check_network(network_without_weights(folder), _run_config(folder, packing))
        except ConfigError as error:
            return Verdict(family, packing, str(error).replace(folder, "M"))
    return Verdict(family, packing, None, _difference(config, packing=packing))


def _run_config(model: str, packing: bool) -> TrainingConfig:
    settings = {
        "output": "x",
        "traces": "x",
        "model": model,
        "packing": packing,
        "max_length": max(LENGTHS),
        "micro_batch_tokens": OUT_OF_REACH,
    }
    return validate_config(TrainingConfig, settings, "families")


def _difference(config: PretrainedConfig, *, packing: bool) -> float:
    draw = np.random.default_rng(7)
    tokens = [draw.integers(1, VOCABULARY - 1, size=length) for length in LENGTHS]
    masks = [np.arange(length) >= 4 for length in LENGTHS]
    dataset = Dataset([str(row) for row in range(len(LENGTHS))], tokens, masks)
    attention.register()
    torch.manual_seed(7)
    plain, trained = (_model(config, name) for name in ("eager", attention.SEGMENTS))
    with torch.no_grad():
        for weight in plain.parameters():
            weight.add_(torch.randn_like(weight) * 0.15)
        trained.load_state_dict(plain.state_dict())
        expected = sum(
            float(
                torch.nn.functional.cross_entropy(
                    plain(input_ids=torch.from_numpy(row)[None], use_cache=False).logits[0],
                    torch.from_numpy(labels),
                    ignore_index=IGNORE,
                    reduction="sum",
                )
            )
            for row, labels in zip(dataset.tokens, dataset.labels, strict=True)
        )
        inputs = collate(dataset, range(len(LENGTHS)), packing=packing, flash=False, device=torch.device("cpu"))
        found = float(LossModel(trained, logits_chunk=8)(**inputs))
    return abs(found - expected) / expected


def _model(config: PretrainedConfig, implementation: str) -> PreTrainedModel:
    from transformers import AutoConfig, AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        own = AutoConfig.from_pretrained(folder)
    return AutoModelForCausalLM.from_config(own, dtype=torch.float32, attn_implementation=implementation).eval()


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _reason(verdict: Verdict) -> str:
    """The refusal without the model's name, and for any size."""
    text = (verdict.refused or "").split(" cannot be trained here as it is served: ")[-1]
    limit = r"; it can be with max_length and micro_batch_tokens of at most \d+ \((.*)\)"
    text = re.sub(limit, lambda found: "; it can be with rows of at most " + re.sub(r" \d+", "", found[1]), text)
    return text.replace("|", "/")


def _cell(verdict: Verdict) -> str:
    return "yes" if verdict.refused is None else f"no: {_reason(verdict)}"


def write_table(verdicts: list[tuple[Verdict, Verdict]]) -> str:
    """The page of the documentation."""
    import transformers

    packed = sum(verdict.refused is None for verdict, _ in verdicts)
    either = sum(verdict.refused is None or padded.refused is None for verdict, padded in verdicts)
    lines = [
        "# Model families",
        "",
        f"Every causal language model of transformers {transformers.__version__}, and some variants, as a tiny random "
        'model with sliding windows and chunks of a few tokens. "Yes": the loss of three rows equals that of each row '
        f"alone through transformers' own attention to {TOLERANCE:g}; the largest difference is "
        f'{max(v.difference or 0 for pair in verdicts for v in pair):.1g}. "No": the run is refused in these words '
        f"before anything starts. {packed} of {len(verdicts)} are trained in packed rows, {either} in packed or padded "
        "ones. Written by `python -m benchmarks.training.families`.",
        "",
        "| family | packed rows | padded rows (`packing: false`) |",
        "|---|---|---|",
        *(f"| {verdict.family} | {_cell(verdict)} | {_cell(padded)} |" for verdict, padded in verdicts),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Try all families, and write the results.

    Raises:
        SystemExit: one is trained otherwise than it is served.
    """
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    verdicts = []
    for family in families():
        pair = judge(family, packing=True), judge(family, packing=False)
        verdicts.append(pair)
        print(family, "|", _cell(pair[0]), "|", _cell(pair[1]), flush=True)
    rows = [dataclasses.asdict(verdict) for pair in verdicts for verdict in pair]
    lines = ",\n".join(json.dumps(row) for row in rows)
    (HERE / "families.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    TABLE.write_text(write_table(verdicts), encoding="utf-8")
    if wrong := [row["family"] for row in rows if (row["difference"] or 0) > TOLERANCE]:
        raise SystemExit(f"trained otherwise than served: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
