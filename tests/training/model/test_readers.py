"""The tokenizer's files of an export: copied where they can be, saved anew where the tokenizer was changed."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import constants
from transformers import AutoTokenizer

from s1ray.miniature import BASE_MODEL_DIR
from s1ray.training.model.readers import join_config, write_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BASE = Path(BASE_MODEL_DIR)
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


@pytest.fixture(scope="module")
def published() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(BASE)


def copied(folder: Path) -> bool:
    return all((folder / name).read_bytes() == (BASE / name).read_bytes() for name in TOKENIZER)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of an export, with its config."""
    (tmp_path / "config.json").write_bytes((BASE / "config.json").read_bytes())
    return tmp_path


def test_an_unchanged_tokenizer_is_copied_byte_for_byte(published: PreTrainedTokenizerBase, folder: Path) -> None:
    write_tokenizer(folder, published, str(BASE), None)
    assert copied(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", *TOKENIZER]


def test_a_tokenizer_from_the_hub_is_copied_from_the_cache(
    published: PreTrainedTokenizerBase,
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    snapshot = cache / "models--an--id" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    for name in (*TOKENIZER, "config.json"):
        (snapshot / name).write_bytes((BASE / name).read_bytes())
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    write_tokenizer(folder, published, "an/id", "c0ffee")
    assert copied(folder)
    (folder / "config.json").write_text('{"model_type": "qwen2", "dtype": "float32"}')
    join_config(folder, "an/id", "c0ffee")
    config = json.loads((folder / "config.json").read_text())
    assert (config["rope_theta"], config["torch_dtype"]) == (10000.0, "float32")


def test_a_changed_tokenizer_is_saved_anew_and_readable(published: PreTrainedTokenizerBase, folder: Path) -> None:
    changed = copy.deepcopy(published)
    changed.chat_template = "{{ messages[0].content }}"
    write_tokenizer(folder, changed, str(BASE), None)
    found = AutoTokenizer.from_pretrained(folder)
    assert found.chat_template == changed.chat_template
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert settings["chat_template"] == changed.chat_template
    assert settings["tokenizer_class"] != "TokenizersBackend"
    assert not isinstance(settings.get("extra_special_tokens"), list)
    assert found("What is 2 + 3?")["input_ids"] == published("What is 2 + 3?")["input_ids"]


def test_a_tokenizer_that_is_nowhere_any_more_is_saved_anew(published: PreTrainedTokenizerBase, folder: Path) -> None:
    write_tokenizer(folder, published, "nobody/nothing", None)
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == published.get_vocab()


def test_files_of_version_5_are_mended_on_the_way(
    published: PreTrainedTokenizerBase, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("base")
    saved = {"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<|im_start|>"]}
    settings = json.loads((BASE / "tokenizer_config.json").read_text()) | saved
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    (base / "tokenizer.json").write_bytes((BASE / "tokenizer.json").read_bytes())
    write_tokenizer(folder, published, str(base), None)
    assert (folder / "tokenizer.json").read_bytes() == (BASE / "tokenizer.json").read_bytes()
    found = json.loads((folder / "tokenizer_config.json").read_text())
    assert found["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "extra_special_tokens" not in found
