"""An exported folder is the same model to transformers 4.57, the installed and the newest transformers, and vLLM.

The models are small and random, with rotary parameters that are not the defaults, and prompts are long enough for lost
ones to show. Base models come in both spellings: as published (version 4's) and as version 5 saves them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from s1ray.miniature import BASE_MODEL_DIR
from s1ray.miniature.tokenizer import save_tokenizer, train_tokenizer
from tests.support.readers import differences, read
from tests.support.training_runs import training_config

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from s1ray.training.model.engine import Engine

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

PROMPTS = [f"What is {n} + {n * 7 % 50}? " + "The set has a rule and a name. " * (n % 9) for n in range(50)]
VERSION_4 = ("transformers==4.57.6", "tokenizers==0.22.2", "huggingface_hub==0.36.2")
NEWEST = ("transformers>=5.24",)
SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 128}
FAMILIES: dict[str, dict[str, object]] = {
    "qwen2": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "qwen3": {"rope_parameters": YARN, "head_dim": 32},
    "llama": {"rope_parameters": LLAMA3, "head_dim": 32},
    # SmolLM2's.
    "llama-tied": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e5}, "tie_word_embeddings": True},
}


@pytest.fixture(scope="session")
def version_4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _install(VERSION_4, tmp_path_factory.mktemp("version-4"))


@pytest.fixture(scope="session")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _install(NEWEST, tmp_path_factory.mktemp("newest"))


def _install(packages: tuple[str, ...], folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", folder]
    done = subprocess.run([*map(str, command), *packages], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{packages[0]} cannot be installed here: {done.stderr[-300:]}")
    return folder


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(documents_read=200)


@pytest.fixture(params=["as-published", "saved-by-version-5"])
def spelling(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def write_base(folder: Path, family: str, tokenizer: PreTrainedTokenizerFast, spelling: str) -> Path:
    """A base model in one version's spelling only."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    torch.manual_seed(0)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    settings = SHAPE | {"vocab_size": len(tokenizer) + 8} | ids | FAMILIES[family]
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family.split("-")[0]](**settings))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.15)
    model.save_pretrained(folder)
    if spelling == "saved-by-version-5":
        tokenizer.save_pretrained(folder)
        return folder
    save_tokenizer(tokenizer, folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config |= {"rope_theta": rope.pop("rope_theta"), "torch_dtype": config.pop("dtype")}
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    path.write_text(json.dumps(config))
    return folder


def exported(base: Path, folder: Path) -> Path:
    """The base model as a run would export it that had not changed its weights."""
    from transformers import AutoTokenizer

    from s1ray.training.model.export import export
    from s1ray.training.model.loading import load_network

    config = training_config(model=str(base), zero_stage=0, precision="fp32", export_dtype="float32")
    engine = cast("Engine", SimpleNamespace(model=load_network(str(base)), adapter=None))
    export(engine, AutoTokenizer.from_pretrained(base), "<|im_end|>\n", config, folder, rank=0)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_every_reader_finds_the_same_model(
    family: str,
    spelling: str,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    version_4: Path,
    newest: Path,
) -> None:
    base = write_base(tmp_path / "base", family, tokenizer, spelling)
    folder = exported(base, tmp_path / "model")
    ours = read("transformers", folder, PROMPTS, tmp_path / "ours")
    assert differences(ours, read("transformers", base, PROMPTS, tmp_path / "of-base")) == []
    assert len({tuple(ids) for ids in ours.output_ids}) > 25, "the answers should differ"
    assert max(map(len, ours.prompt_ids)) > 90
    old = read("transformers", folder, PROMPTS, tmp_path / "version-4", version_4)
    assert old.version.startswith("4.57")
    assert differences(ours, old) == []
    assert differences(ours, read("transformers", folder, PROMPTS, tmp_path / "newest", newest)) == []
    if spelling == "saved-by-version-5":
        # What this is all about: the base as it is, or its config alone, is another model to version 4.
        (folder / "config.json").write_bytes((base / "config.json").read_bytes())
        lost = read("transformers", folder, PROMPTS, tmp_path / "lost", version_4)
        assert len(differences(ours, lost)) > 25
        return
    pytest.importorskip("vllm", reason="needs vLLM")
    assert differences(ours, read("vllm", folder, PROMPTS, tmp_path / "vllm")) == []


def test_every_reader_finds_the_same_miniature(tmp_path: Path, version_4: Path, newest: Path) -> None:
    folder = exported(Path(BASE_MODEL_DIR), tmp_path / "model")
    ours = read("transformers", folder, PROMPTS, tmp_path / "ours")
    for name, packages in (("version-4", version_4), ("newest", newest)):
        for path in (folder, Path(BASE_MODEL_DIR)):
            assert differences(ours, read("transformers", path, PROMPTS, tmp_path / name, packages)) == []
    pytest.importorskip("vllm", reason="needs vLLM")
    assert differences(ours, read("vllm", folder, PROMPTS, tmp_path / "vllm")) == []
