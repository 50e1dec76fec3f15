"""Weights that a model's files lack are never made up: not by the dry run, and not by the workers."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.training.families import tiny_config
from s1ray.config import ConfigError
from s1ray.training.model.loading import load_network
from s1ray.training.model.weights import check_report, check_weights
from s1ray.training.planning.architecture import network_without_weights
from tests.support.random_qwen import make_random_model

Change = Callable[[Path], None]
WEIGHTS = "model.safetensors"


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Change:
    def apply(folder: Path) -> None:
        save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})

    return apply


def config(**fields: object) -> Change:
    def apply(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return apply


def layers(count: int) -> Change:
    return config(num_hidden_layers=count, layer_types=["full_attention"] * count)


CHANGED: dict[str, tuple[Change, str]] = {
    "a layer is absent": (
        weights(lambda all_: {name: w for name, w in all_.items() if "layers.1." not in name}),
        r"lack 12 of the 27 weights of Qwen2ForCausalLM \(model\.layers\.1\.input_layernorm\.weight, .*, \.\.\.\)",
    ),
    "another prefix": (weights(lambda all_: {f"its.{name}": w for name, w in all_.items()}), "lack 27 of the 27"),
    "more layers in the config": (layers(3), r"lack 12 of the 39 .*model\.layers\.2\."),
    "fewer layers in the config": (layers(1), r"hold more layers .*12 weights would be left out \(model\.layers\.1\."),
    "an output layer that is not there": (config(tie_word_embeddings=False), r"lack 1 .*\(lm_head\.weight\)"),
    "another width": (config(intermediate_size=48), r"6 weights .*down_proj\.weight: 32 x 64 instead of 32 x 48"),
}


def changed(base: Path, folder: Path, change: Change) -> str:
    shutil.copytree(base, folder)
    change(folder)
    return str(folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_model(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("case", CHANGED)
def test_files_that_are_not_whole_are_refused_before_and_by_the_workers(base: Path, tmp_path: Path, case: str) -> None:
    change, problem = CHANGED[case]
    model = changed(base, tmp_path / "model", change)
    with pytest.raises(ConfigError, match=problem) as before:
        check_weights(model, network_without_weights(model))
    with pytest.raises(ConfigError) as loaded:
        load_network(model)
    assert str(loaded.value) == str(before.value)
    assert "\n" not in str(before.value)


def write(name: str, content: str | bytes) -> Change:
    def apply(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return apply


def index(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    content = {"weight_map": {"model.embed_tokens.weight": "model-00001-of-00002.safetensors"}}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(content))


def wrong_index(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / f"{WEIGHTS}.index.json").write_text("[]")


def half(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda folder: (folder / WEIGHTS).unlink(), "has no weights: there is no model.safetensors"),
        (index, r"names 1 file\(s\) that are not there \(model-00001-of-00002.safetensors\)"),
        (wrong_index, r"model.safetensors.index.json cannot be read \(TypeError"),
        (write(WEIGHTS, "version https://git-lfs.github.com/spec/v1\noid sha256:a\n"), "only a pointer of Git LFS"),
        (half, r"model.safetensors is damaged \(SafetensorError"),
        (write(WEIGHTS, b""), "model.safetensors is damaged"),
    ],
    ids=["no file", "no shard", "index", "pointer", "truncated", "empty"],
)
def test_files_that_cannot_be_read_are_refused(base: Path, tmp_path: Path, change: Change, problem: str) -> None:
    model = changed(base, tmp_path / "model", change)
    with pytest.raises(ConfigError, match=problem):
        check_weights(model, network_without_weights(model))
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_network(model)


@pytest.mark.parametrize("family", ["qwen3_moe", "deepseek_v3", "gpt2"])
def test_whole_files_pass_also_where_transformers_rearranges_them(tmp_path: Path, family: str) -> None:
    AutoModelForCausalLM.from_config(tiny_config(family)).save_pretrained(tmp_path)
    check_weights(str(tmp_path), network_without_weights(str(tmp_path)))


def test_weights_of_an_image_encoder_may_be_left_out(
    base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("s1ray"), "propagate", True)
    model = changed(
        base,
        tmp_path / "model",
        weights(lambda all_: all_ | {f"visual.blocks.{n}.weight": torch.ones(2) for n in range(9)}),
    )
    with caplog.at_level(logging.WARNING, "s1ray"):
        check_weights(model, network_without_weights(model))
    assert "9 weights in its files are no part of Qwen2ForCausalLM" in caplog.text
    load_network(model)


def test_layers_that_predict_further_tokens_follow_the_decoders() -> None:
    names = ["model.layers.2.eh_proj.weight", "model.layers.3.eh_proj.weight"]

    def report(*unexpected: str) -> dict[str, Any]:
        return {"missing_keys": set(), "mismatched_keys": set(), "unexpected_keys": set(unexpected)}

    settings = AutoConfig.for_model("qwen2", num_hidden_layers=2, num_nextn_predict_layers=1, hidden_size=32)
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(settings)
    assert check_report(report(names[0]), network, "m") == names[:1]
    with pytest.raises(ConfigError, match="more layers"):
        check_report(report(*names), network, "m")


def test_a_buffer_that_is_computed_may_be_missing() -> None:
    network = torch.nn.BatchNorm1d(2)
    report = {"missing_keys": {"running_mean"}, "mismatched_keys": set(), "unexpected_keys": set()}
    network.config = SimpleNamespace(get_text_config=SimpleNamespace)
    assert check_report(report, network, "m") == []


@pytest.mark.parametrize("downloaded", [True, False])
def test_what_is_in_the_hubs_cache_is_checked_and_the_rest_is_left_to_the_workers(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, downloaded: bool
) -> None:
    snapshot = tmp_path / "models--an--id" / "snapshots" / "c0ffee"
    shutil.copytree(base, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("c0ffee")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    network = network_without_weights(str(base))
    check_weights("an/id", network)
    if downloaded:
        half(snapshot)
        with pytest.raises(ConfigError, match="is damaged"):
            check_weights("an/id", network)
    else:
        (snapshot / WEIGHTS).unlink()
        check_weights("an/id", network)
