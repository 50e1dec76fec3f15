"""A valid Serve file with one fault at a time: each is refused or warned about, in words that say what to do."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from s1ray.cluster import Machine
from s1ray.config import ConfigError
from s1ray.serving.check import check_serve_config, serve_warnings

LAPTOP = Machine(cpus=8, gpus=0)
Data = dict[str, Any]


def write(data: Data, folder: Path) -> Path:
    path = folder.parent / "serve.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def changed(data: Data, dotted: str, value: object) -> Data:
    """The data with one field set: of the file ("http_options.port"), or of its model ("model.budgets.default")."""
    result = copy.deepcopy(data)
    *parents, last = dotted.split(".")
    node: Any = result
    if parents and parents[0] == "model":
        node, parents = result["applications"][0]["args"]["models"][0], parents[1:]
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
    node[last] = value
    return result


def test_the_valid_file_is_valid_and_gives_no_warning(valid: Data, folder: Path) -> None:
    path = write(valid, folder)
    assert [model.name for model in check_serve_config(path, LAPTOP)["app"].models] == ["m"]
    assert serve_warnings(path, LAPTOP) == []


REFUSED = [
    # What the file says of Serve itself.
    ("http_options.port", 65_536, "http_options.port: must be from 0 to 65535, not 65536"),
    ("http_options.port", -1, "http_options.port: must be from 0"),
    ("http_options.port", "http", "http_options.port: Input should be a valid integer"),
    ("http_options.host", "http://127.0.0.1", "http_options.host: .* is no address; give one without scheme"),
    ("http_options.host", "127.0.0.1:8000", "http_options.host: .* is no address"),
    ("http_options.host", "127.0.0.256", "http_options.host: .* is no address"),
    ("http_options.request_timeout_s", 0, "http_options.request_timeout_s: must be more than 0 seconds"),
    ("http_options.keep_alive_timeout_s", -5, "http_options.keep_alive_timeout_s: must be 0 seconds or more"),
    ("http_options.root_path", "api", "http_options.root_path: must begin with '/'"),
    ("grpc_options.port", 70_000, "grpc_options.port: must be from 0 to 65535"),
    ("applications.0.route_prefix", "chat", "route_prefix: must begin with '/' .* such as '/chat', not 'chat'"),
    ("applications.0.route_prefix", "/chat/", "route_prefix: must .* such as '/chat', not '/chat/'"),
    ("applications.0.import_path", "s1ray.serving.app:buildapp", "import_path: must be s1ray.serving.app:build_app"),
    ("applications.0.import_path", "slray.serving.app:build_app", "import_path: must be s1ray.serving.app:build_app"),
    # Where models, tokenizers, adapters and templates are.
    ("model.model", "runs/demo/train/modell", "model: 'runs/demo/train/modell': no such folder; train a model first"),
    ("model.model", "./modell", "model: './modell': no such folder"),
    ("model.model", "miniature-bse", "model: 'miniature-bse': no such folder or alias; did you mean 'miniature-base'"),
    ("model.model", "http://host/model", "model: http://host/model: unknown storage; use a path, s3://"),
    ("model.tokenizer", "../no/tokenizer", "tokenizer: '../no/tokenizer': no such folder"),
    ("model.adapters", {"folder": "no/adapters"}, "adapters.folder: there is no folder 'no/adapters'; give the full"),
    ("model.adapters", {"folder": "s4://b/adapters"}, "folder: s4://b/adapters: unknown storage"),
    ("model.engine_kwargs.chat_template", "no/template.jinja", "chat_template: there is no file"),
    ("model.engine_kwargs.chat_template", "{% if messages %}", "chat_template: no valid Jinja template: line 1"),
    # What the model's own files do not allow.
    ("model.thinking_format", "qwen3", "thinking_format: .*cannot mean the end of thinking.*can express: s1"),
    ("model.max_model_len", 2049, "max_model_len: 2049 is more than the model's own context, 2048; give that or less"),
    ("model.tensor_parallel_size", 3, "tensor_parallel_size: 3 does not divide the model's 4 .*; use one of 1, 2, 4"),
    ("model.engine_kwargs.quantization", "awq", "quantization: the model's weights are not quantized with awq"),
    ("model.kv_cache_gib", 0.001, "kv_cache_gib: 0.001 GiB cannot hold one request of 2048 tokens .* give more"),
    ("model.budgets", {"maximum": 2048, "default": 9}, "budgets.maximum: 2048 thinking tokens leave no room"),
    ("model.budgets", {"default": 5000}, "budgets.default: 5000 thinking tokens leave no room .* give less"),
    ("model.budgets", {"effort": {"high": 9999}}, "budgets.effort.high: 9999 thinking tokens leave no room"),
    # Values that vLLM does not know, and numbers that are none.
    ("model.dtype", "float61", "dtype: vLLM knows no 'float61'; did you mean 'float16'"),
    ("model.engine_kwargs.quantization", "awqq", "quantization: vLLM knows no 'awqq'; did you mean 'awq'"),
    ("model.engine_kwargs.load_format", "safetensor", "load_format: vLLM knows no 'safetensor'; did you mean"),
    ("model.engine_kwargs.kv_cache_dtype", "fp9", "kv_cache_dtype: vLLM knows no 'fp9'; did you mean 'fp8'"),
    ("model.engine_kwargs.tool_call_parser", "hermez", "tool_call_parser: vLLM has no tool parser 'hermez'; did you"),
    ("model.engine_kwargs.enable_auto_tool_choice", True, "enable_auto_tool_choice: needs `tool_call_parser`"),
    ("model.engine_kwargs.reasoning_parser", "qwen3", "reasoning_parser: set by `thinking_format`"),
    ("model.engine_kwargs.scheduling_policy", "fifo", "scheduling_policy: vLLM knows no 'fifo'; it knows fcfs"),
    ("model.engine_kwargs.gpu_memory_utilization", 1.5, "gpu_memory_utilization: must be more than 0 and at most 1"),
    ("model.engine_kwargs.gpu_memory_utilization", "0.9", "must be a number, not '0.9' .write it without quotes"),
    ("model.engine_kwargs.enforce_eager", "maybe", "enforce_eager: must be true or false, not 'maybe'"),
    ("model.engine_kwargs.seed", -1, "seed: must be at least 0"),
    ("model.engine_kwargs.max_num_batched_tokens", 4, "max_num_batched_tokens: 4 is less than max_num_seqs"),
    ("model.engine_kwargs.max_num_batched_tokens", 512, "512 is less than max_model_len .2048.; without chunked"),
    ("model.engine_kwargs.spec_tokens", 3, "spec_tokens: must not be set: vLLM runs no logits processors"),
    ("model.engine_kwargs.skip_tokenizer_init", True, "skip_tokenizer_init: must not be set"),
    ("model.engine_kwargs.runner", "pooling", "runner: 'pooling' generates no text; leave it out"),
    ("applications.0.runtime_env", {"env_vars": {"A": 1}}, "runtime_env.env_vars.A: must be a text, not 1; write it"),
    ("model.max_model_len", 0, "max_model_len: Input should be greater than or equal to 1"),
    ("model.max_model_len", "32k", "max_model_len: Input should be a valid integer"),
    ("model.max_num_seqs", True, "max_num_seqs: must be a number, not true"),
    ("model.max_num_seqs", -8, "max_num_seqs: Input should be greater"),
    ("model.kv_cache_gib", 0, "kv_cache_gib: Input should be greater than 0"),
    ("model.tensor_parallel_size", 0, "tensor_parallel_size: Input should be greater"),
    ("model.autoscaling.max_replicas", 0, "max_replicas: Input should be greater"),
    ("model.autoscaling.min_replicas", 3, "min_replicas: 3 is more than max_replicas"),
    ("model.device", "cuda", "device: String should match"),
    ("model.accelerator_type", "H100", "accelerator_type: has no effect on device 'cpu'"),
]


@pytest.mark.parametrize(("dotted", "value", "problem"), REFUSED, ids=[f"{name}={value}" for name, value, _ in REFUSED])
def test_a_wrong_value_is_refused(
    valid: Data, folder: Path, monkeypatch: pytest.MonkeyPatch, dotted: str, value: object, problem: str
) -> None:
    monkeypatch.chdir(folder.parent)
    with pytest.raises(ConfigError, match=f"(?s){problem}"):
        check_serve_config(write(changed(valid, dotted, value), folder), LAPTOP)


WARNED = [
    ("http_options", {"host": "0.0.0.0"}, "anyone who reaches 0.0.0.0 may use it: give args.access.keys_file"),
    ("http_options.port", 8265, "8265 is the port of Ray's dashboard; give another"),
    ("http_options.port", 80, "80 is below 1024"),
    ("model.model", "/nowhere/model", "no folder /nowhere/model on this machine"),
    ("model.tokenizer", "/nowhere/tokenizer", "no folder /nowhere/tokenizer on this machine"),
    ("model.model", "gpt2", "there is no folder 'gpt2', so it is taken for a Hugging Face id"),
    ("model.adapters", {"folder": "/nowhere/adapters"}, "no folder /nowhere/adapters on this machine"),
    ("applications.0.args.access", {"keys_file": "/nowhere/keys.yaml"}, "key file /nowhere/keys.yaml is not on"),
    ("model.engine_kwargs.chat_template", "/nowhere/t.jinja", "no file /nowhere/t.jinja on this machine"),
    ("model.engine_kwargs.trust_remote_code", True, "runs code from its model folder"),
    ("model.dtype", "float16", "dtype float16 is slow and imprecise on CPUs; leave it out"),
    ("applications.0.runtime_env", {"pipp": ["x"]}, "runtime_env.pipp: Ray knows no such field .did you mean 'pip'"),
    ("model.device", "gpu", "needs 1 GPU.* this machine has none"),
    ("model.tensor_parallel_size", 2, "2 CPU workers .* slower than one"),
    ("model.engine_kwargs.pipeline_parallel_size", 2, "2 CPU workers"),
    ("model.cpus_per_worker", 64, "needs 64 CPUs .* this machine has 8"),
]


@pytest.mark.parametrize(("dotted", "value", "warning"), WARNED, ids=[f"{name}={value}" for name, value, _ in WARNED])
def test_a_risky_value_is_warned_about(valid: Data, folder: Path, dotted: str, value: object, warning: str) -> None:
    found = serve_warnings(write(changed(valid, dotted, value), folder), LAPTOP)
    assert any(re.search(warning, line) for line in found), found


@pytest.mark.parametrize(
    ("device", "workers", "machine", "said"),
    [
        ("auto", 4, LAPTOP, "give tensor_parallel_size: 1, or device: gpu"),
        ("auto", 4, Machine(cpus=8, gpus=2), "needs 4 GPUs on one node .* this machine has 2"),
        ("gpu", 4, Machine(cpus=8, gpus=2), "needs 4 GPU"),
        ("auto", 4, Machine(cpus=8, gpus=4), None),
        ("gpu", 4, Machine(cpus=8, gpus=8), None),
        ("auto", 1, LAPTOP, None),
    ],
)
def test_parallel_workers_are_compared_with_the_machines_gpus(
    valid: Data, folder: Path, device: str, workers: int, machine: Machine, said: str | None
) -> None:
    data = changed(changed(valid, "model.device", device), "model.tensor_parallel_size", workers)
    found = serve_warnings(write(data, folder), machine)
    assert len(found) == (said is not None)
    assert said is None or re.search(said, found[0])


def test_a_cache_that_only_gpus_could_do_without_is_warned_about(valid: Data, folder: Path) -> None:
    data = changed(changed(valid, "model.device", "auto"), "model.kv_cache_gib", 0.001)
    (warning,) = serve_warnings(write(data, folder), LAPTOP)
    assert "without GPUs: kv_cache_gib: 0.001 GiB cannot hold one request" in warning
    assert serve_warnings(write(data, folder), Machine(cpus=8, gpus=1)) == []


def test_parallel_workers_without_cpus_for_them_are_refused(valid: Data, folder: Path) -> None:
    path = write(changed(valid, "model.tensor_parallel_size", 4), folder)
    with pytest.raises(
        ConfigError, match=r"on device cpu a replica is 4 workers .* this machine has 2; give tensor_par"
    ):
        check_serve_config(path, Machine(cpus=2, gpus=0))


def edit_json(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def split_weights(folder: Path) -> None:
    """Half of a model in two shards: the first, and an index that names both."""
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def training_leftovers_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "optimizer.pt")


def shard_without_index(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00003-of-00004.safetensors")


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: (f / "config.json").unlink(), "model: .* holds no model"),
    (lambda f: (f / "config.json").write_text("{"), "model: .*config.json cannot be read as JSON"),
    (lambda f: (f / "config.json").write_text("[]"), "config.json must hold a JSON object, not a list"),
    (lambda f: (f / "model.safetensors").unlink(), "model: .* holds no weights .*; copy them there"),
    (training_leftovers_only, "model: .* holds no weights"),
    (split_weights, "model-00002-of-00002.safetensors of .*index.json is missing; copy"),
    (shard_without_index, "model-00001-of-00004.safetensors, .* are missing in"),
    (lambda f: cut(f / "model.safetensors"), r"model.safetensors has \d+ bytes, but its header says \d+; copy"),
    (lambda f: (f / "model.safetensors").write_bytes(b""), "model.safetensors is empty"),
    (lambda f: (f / "model.safetensors").write_bytes(b"abc"), "model.safetensors is cut short"),
    (lambda f: (f / "model.safetensors").write_bytes(b"\x02" + b"\0" * 7 + b"[]"), "is no safetensors file"),
    (lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1"), "git lfs pull"),
    (lambda f: (f / "tokenizer.json").unlink(), "model: .* holds no tokenizer .* or give the field `tokenizer`"),
    (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json is no tokenizer"),
    (lambda f: edit_json(f / "config.json", max_position_embeddings=1024), "more than the model's own context, 1024"),
    (lambda f: edit_json(f / "config.json", num_attention_heads=0, max_position_embeddings=64), "own context, 64"),
]


@pytest.mark.parametrize(("damage", "problem"), DAMAGES, ids=[problem for _, problem in DAMAGES])
def test_a_damaged_model_folder_is_refused(
    valid: Data, folder: Path, damage: Callable[[Path], object], problem: str
) -> None:
    damage(folder)
    with pytest.raises(ConfigError, match=f"(?s){problem}"):
        check_serve_config(write(valid, folder), LAPTOP)


@pytest.mark.parametrize("name", ["generation_config.json", "TRAINING.json"])
def test_files_that_a_model_can_do_without_may_be_absent(valid: Data, folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert serve_warnings(write(valid, folder), LAPTOP) == []


def test_dummy_weights_need_no_files_and_another_tokenizer_no_own(valid: Data, folder: Path) -> None:
    tokenizer = folder.parent / "tokenizer"
    tokenizer.mkdir()
    for path in folder.glob("tokenizer*"):
        path.rename(tokenizer / path.name)
    for path in folder.glob("chat_template*"):
        path.rename(tokenizer / path.name)
    (folder / "model.safetensors").unlink()
    data = changed(changed(valid, "model.engine_kwargs.load_format", "dummy"), "model.tokenizer", str(tokenizer))
    assert serve_warnings(write(data, folder), LAPTOP) == []


ADAPTER = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none"}


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (ADAPTER | {"r": 64}, r"adapters.max_rank: the adapter .*one has rank 64, more than 16; raise max_rank"),
        (ADAPTER | {"rank_pattern": {"q": 32}}, r"adapters.max_rank: .* has rank 32"),
        (ADAPTER | {"use_dora": True}, "uses DoRA, which vLLM cannot serve"),
        (ADAPTER | {"modules_to_save": ["lm_head"]}, "has modules_to_save"),
        (ADAPTER | {"bias": "all"}, "trains biases"),
        ("[", "adapter_config.json cannot be read as JSON"),
    ],
)
def test_an_adapter_that_vllm_cannot_serve_is_refused(valid: Data, folder: Path, config: object, problem: str) -> None:
    adapter = folder.parent / "adapters" / "one"
    adapter.mkdir(parents=True)
    (adapter / "adapter_model.safetensors").touch()
    (adapter / "adapter_config.json").write_text(json.dumps(ADAPTER))
    data = changed(valid, "model.adapters", {"folder": str(adapter.parent), "max_rank": 16})
    assert serve_warnings(write(data, folder), LAPTOP) == []
    (adapter / "adapter_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(ConfigError, match=problem):
        check_serve_config(write(data, folder), LAPTOP)
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_config.json").write_text(json.dumps(ADAPTER))
    with pytest.raises(ConfigError, match="has no weights"):
        check_serve_config(write(data, folder), LAPTOP)


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        ({"route_prefix": "/"}, "route prefix"),
        ({"route_prefix": "/a", "name": "app"}, 'application "app"'),
        ({"route_prefix": "/x/"}, "applications.1.route_prefix: applications.0 has this route, too"),
    ],
)
def test_two_applications_need_names_and_routes_of_their_own(
    valid: Data, folder: Path, second: Data, problem: str
) -> None:
    first = valid["applications"][0]
    if second["route_prefix"] == "/x/":
        first["route_prefix"] = "/x"
    valid["applications"].append(copy.deepcopy(first) | {"name": "other"} | second)
    with pytest.raises(ConfigError, match=problem):
        check_serve_config(write(valid, folder), LAPTOP)


def test_a_longer_context_is_taken_where_the_replicas_allow_it(valid: Data, folder: Path) -> None:
    data = changed(valid, "model.max_model_len", 4096)
    env = {"env_vars": {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}}
    assert check_serve_config(write(changed(data, "applications.0.runtime_env", env), folder), LAPTOP)


def test_a_two_part_name_next_to_a_folder_is_probably_a_path(
    valid: Data, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent.parent)
    name = f"{folder.parent.name}/modell"
    (warning,) = serve_warnings(write(changed(valid, "model.model", name), folder), LAPTOP)
    assert f"did you mean the folder '{folder.parent.name}/model'" in warning
