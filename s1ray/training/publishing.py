"""Publishing the exported model: its model card, and the upload to the Hugging Face Hub.

Nothing is uploaded unless the config names a repository; whether the upload can work is checked before training.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path

from s1ray import __version__
from s1ray.config import ConfigError
from s1ray.manifests import RunError
from s1ray.storage import Location, StorePath, location
from s1ray.training.config import TrainingConfig

log = logging.getLogger("s1ray")

CARD = "README.md"
HOW_TO_USE = """\
The model thinks between `{start}` and `{end}`. `s1ray serve run` serves it with budgets for its thinking; any engine
that reads Hugging Face folders runs it without."""


def check_upload(config: TrainingConfig) -> None:
    """Find out before training whether `push_to` can work; does nothing without it.

    Raises:
        ConfigError: there is no token.
    """
    if config.push_to is None:
        return
    import huggingface_hub

    if huggingface_hub.get_token() is None:
        raise ConfigError(
            f"push_to {config.push_to}: no Hugging Face token here; log in with `hf auth login`, set HF_TOKEN, or "
            "leave push_to out and upload later (the same command with push_to uploads a run that is complete)"
        )


def upload(config: TrainingConfig, folder: Path) -> str:
    """Upload the exported folder to `config.push_to`, which is created as a private repository if it does not exist.

    Returns:
        The address of the commit.

    Raises:
        RunError: the upload failed; the model stays where it is.
    """
    import huggingface_hub

    assert config.push_to is not None
    log.info("train: uploading %s to %s", folder, config.push_to)
    try:
        huggingface_hub.create_repo(config.push_to, private=True, exist_ok=True)
        commit = huggingface_hub.upload_folder(
            repo_id=config.push_to, folder_path=folder, commit_message=f"Fine-tuned with s1ray {__version__}"
        )
    except Exception as error:
        # The hub's client passes on whatever its HTTP client raises, and that differs between versions.
        what = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(
            f"push_to {config.push_to}: {what}; the model is complete in {folder}, and the "
            "same command tries the upload again"
        ) from error
    return str(commit.commit_url)


def write_card(config: TrainingConfig, folder: Location, *, examples: int, figures: Mapping[str, object]) -> None:
    """Write the model card of a finished run into the exported folder.

    Args:
        examples: rows that were trained on.
        figures: the run's, including "steps" and "loss".
    """
    (folder / CARD).write_text(model_card(config, examples=examples, figures=figures), encoding="utf-8")


def model_card(config: TrainingConfig, *, examples: int, figures: Mapping[str, object]) -> str:
    """The card as Markdown, with the metadata for the hub at its top."""
    base, licence = base_model(config)
    is_adapter = config.lora is not None and config.lora.export == "adapter"
    tags = ["s1ray", "sft", "reasoning", "test-time-scaling"] + (["lora"] if config.lora is not None else [])
    metadata: dict[str, str] = {"base_model": base} if "/" in base else {}
    metadata |= {"license": licence} if licence else {}
    metadata |= {"library_name": "peft" if is_adapter else "transformers", "pipeline_tag": "text-generation"}
    head = [f"{key}: {json.dumps(value)}" for key, value in {**metadata, "tags": tags}.items()]
    optimizer = config.optimizer
    rows: dict[str, object] = {
        "base model": base,
        "licence of the base model": licence or "see the base model",
        "examples": f"{examples:,} ({location(config.traces).name})",
        "epochs, global batch": f"{config.epochs}, {config.global_batch}",
        "optimizer steps": figures.get("steps", "unknown"),
        "loss at the last step": _number(figures.get("loss")),
        "AdamW": f"betas {optimizer.betas}, weight decay {optimizer.weight_decay:g}, "
        f"gradients clipped at {optimizer.gradient_clip:g}",
        "learning rate": f"{optimizer.learning_rate:g}, {optimizer.schedule} after {optimizer.warmup_ratio:.0%} of "
        "warm-up",
        "longest row": f"{config.max_length:,} tokens allowed, none cut",
        "precision": figures.get("precision", config.precision),
        "workers": f"{config.num_workers}, ZeRO-{config.zero_stage}",
    }
    if config.lora is not None:
        rows["LoRA"] = f"rank {config.lora.rank}, alpha {config.lora.alpha:g}, exported {config.lora.export}"
        if config.lora.quantize != "none":
            rows["base in training"] = "linear layers in four bits (NF4)"
    if config.conditional_control != "none":
        rows["conditional control"] = config.conditional_control
    rows |= {"seed": config.seed, "s1ray": __version__}
    fmt = config.thinking_format
    lines = [
        "---",
        *head,
        "---",
        "",
        f"# {location(config.output).name}",
        "",
        f"{base}, fine-tuned on reasoning traces.",
        "",
    ]
    lines += ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows.items()), ""]
    lines += [HOW_TO_USE.format(start=fmt.start, end=fmt.end), ""]
    return "\n".join(lines)


def base_model(config: TrainingConfig) -> tuple[str, str | None]:
    """The base model's public name, and its licence if its card, in the same folder or in the cache, names one."""
    place = location(config.model)
    if isinstance(place, StorePath) or place.is_dir():
        return place.name, _licence(place / CARD)
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(config.model, CARD)
    return config.model, _licence(Path(cached)) if isinstance(cached, str) else None


def _licence(card: Location) -> str | None:
    import yaml

    try:
        text = card.read_text(encoding="utf-8")
        data = yaml.safe_load(text.split("---")[1]) if text.startswith("---") else None
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return None
    licence = data.get("license") if isinstance(data, dict) else None
    return licence if isinstance(licence, str) else None


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) and math.isfinite(value) else "unknown"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
