"""What is wrong with a model's place, its config or its tokenizer is said in one line, before anything is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from s1ray.config import ConfigError
from s1ray.miniature import BASE_MODEL_DIR
from s1ray.training.data.preparation import load_tokenizer
from s1ray.training.model import pretrained
from s1ray.training.model.pretrained import load_config
from s1ray.training.planning.architecture import network_without_weights
from s1ray.training.planning.requirements import check_requirements
from tests.support.training_runs import training_config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(BASE_MODEL_DIR, tmp_path / "model")
    return tmp_path / "model"


def check(model: str | Path) -> str:
    """The one line that a model is refused with."""
    with pytest.raises(ConfigError) as refused:
        check_requirements(training_config(model=str(model)))
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"model_type": "nonesuch"}, "model type `nonesuch` .*; install a newer transformers"),
        ({"num_hidden_layers": 3}, r"`num_hidden_layers` \(3\) must be equal to the number of `layer_types` \(6\)"),
        ({"hidden_size": "big"}, "'hidden_size' expected int, got str"),
        ({"dtype": "float3", "torch_dtype": "float3"}, "no attribute 'float3'"),
        ({"quantization_config": "fp8"}, "model: its config.json cannot be used|its weights are quantized"),
        ({"num_hidden_layers": 0, "layer_types": []}, "it has no layers"),
        ({"num_attention_heads": 0}, "cannot make a causal language model of its config"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused_in_one_line(
    folder: Path, fields: dict[str, object], problem: str
) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    with pytest.raises(ConfigError, match=problem):
        network_without_weights(str(folder))
    assert check(folder).startswith(f"model {folder}")


@pytest.mark.parametrize("content", ["[]", "{}", "{not json"])
def test_a_config_that_is_none_is_refused_in_one_line(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    assert "its config.json cannot be used" in check(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [("tokenizer.json", '{"version": "1.0"}'), ("tokenizer.json", '{"model":'), ("tokenizer_config.json", "[]")],
)
def test_a_damaged_tokenizer_is_refused_in_one_line(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(ConfigError, match=r"model .*: no tokenizer could be loaded; .*Error: .*\)$") as refused:
        load_tokenizer(training_config(model=str(folder)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("what", ["config", "tokenizer"])
def test_code_that_comes_with_a_model_is_neither_run_nor_asked_about(
    folder: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    executed = folder.parent / "executed"
    (folder / "own.py").write_text(f"open({str(executed)!r}, 'w')\n")
    maps = {"AutoConfig": "own.A", "AutoModelForCausalLM": "own.B", "AutoTokenizer": ["own.C", None]}
    file = folder / ("config.json" if what == "config" else "tokenizer_config.json")
    own = {"auto_map": maps, "model_type": "its_own", "tokenizer_class": "ItsOwn"}
    file.write_text(json.dumps(json.loads(file.read_text()) | own))
    words = "needs code of its own, which s1ray does not run"
    if what == "config":
        assert words in check(folder)
    else:
        (folder / "config.json").unlink()
        with pytest.raises(ConfigError, match=words):
            load_tokenizer(training_config(model=str(folder)))
    assert not executed.exists()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A Hub that answers as told; `asked` counts how often."""
    state: dict[str, Any] = {"asked": 0, "error": ConnectionError("no route")}

    def model_info(model: str, *, timeout: float) -> None:
        state["asked"] += 1
        assert timeout <= 10
        if state["error"] is not None:
            raise state["error"]

    monkeypatch.setattr(huggingface_hub, "model_info", model_info)
    monkeypatch.setattr("socket.getaddrinfo", lambda *arguments, **options: pytest.fail("asked the network"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    pretrained._hub_problem.cache_clear()
    return state


def test_a_hub_that_cannot_be_reached_is_named_after_one_attempt(hub: dict[str, Any]) -> None:
    said = check("nobody/nothing")
    assert said.startswith("model: 'nobody/nothing': no such folder, and the Hugging Face Hub cannot be reached")
    assert "no route" in said
    assert hub["asked"] == 1
    with pytest.raises(ConfigError, match=r"tokenizer: 'nobody/words': .*cannot be reached"):
        load_tokenizer(training_config(model=str(BASE_MODEL_DIR), tokenizer="nobody/words"))


def test_what_the_cache_holds_is_used_without_a_hub(hub: dict[str, Any], tmp_path: Path) -> None:
    repository = tmp_path / "cache" / "models--an--id"
    shutil.copytree(BASE_MODEL_DIR, repository / "snapshots" / "c0ffee")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c0ffee")
    assert load_config("an/id").model_type == "qwen2"
    assert len(load_tokenizer(training_config(model="an/id"))) == 1000


def test_a_model_that_the_hub_does_not_have_is_refused(hub: dict[str, Any]) -> None:
    class NotFoundError(huggingface_hub.errors.RepositoryNotFoundError):
        def __init__(self) -> None:
            pass

    hub["error"] = NotFoundError()
    assert "the Hugging Face Hub has no such model" in check("nobody/else")


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("miniature-bas", "model: 'miniature-bas': no such folder or alias; did you mean 'miniature-base'?"),
        ("/data/modelx", "model: '/data/modelx': no such folder"),
        ("s3://bucket/model", "training takes a folder or a Hugging Face id"),
    ],
)
def test_what_is_no_model_is_refused_without_asking_the_hub(hub: dict[str, Any], model: str, problem: str) -> None:
    assert problem in check(model)
    assert hub["asked"] == 0


def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    assert "holds no model" in check(tmp_path)
