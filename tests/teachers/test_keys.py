"""API keys stay out of configs, and are read from where a config says."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.config import ConfigError, load_config
from s1ray.teachers.endpoints import OpenAITeacher
from s1ray.teachers.keys import read_key, refuse_secrets
from s1ray.traces.config import TracesConfig

ADDRESS = "https://api.example.com/v1"


def test_a_key_comes_from_a_variable_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", "k-1\n")
    file = tmp_path / "key"
    file.write_text("k-2\n")
    file.chmod(0o600)
    assert read_key(None, None, ADDRESS) is None
    assert read_key("TEACHER_KEY", None, ADDRESS) == "k-1"
    assert read_key(None, str(file), ADDRESS) == "k-2"


def test_a_key_file_that_others_may_read_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "key"
    file.write_text("k-2")
    file.chmod(0o640)
    with caplog.at_level(logging.WARNING, logger="s1ray"):
        assert read_key(None, str(file), ADDRESS) == "k-2"
    assert f"chmod 600 {file}" in caplog.text
    assert "k-2" not in caplog.text
    file.chmod(0o600)
    caplog.clear()
    read_key(None, str(file), ADDRESS)
    assert not caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "is empty"), ("one two", "does not hold one key"), ("a\nb", "does not hold one key"), ("é", "one key")],
)
def test_a_file_without_one_key_is_refused_without_showing_it(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match=message) as raised:
        read_key(None, str(file), ADDRESS)
    assert not content or content not in str(raised.value).replace(str(file), "")


def test_a_key_that_is_nowhere_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with pytest.raises(ConfigError, match="environment variable TEACHER_KEY is not set"):
        read_key("TEACHER_KEY", None, ADDRESS)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_key(None, str(tmp_path / "none"), ADDRESS)
    with pytest.raises(ConfigError, match="not both"):
        read_key("TEACHER_KEY", "key", ADDRESS)


@pytest.mark.parametrize(
    "teacher",
    [
        {"base_url": "https://user:pass@api.example.com/v1"},
        {"base_url": "https://api.example.com/v1?key=hush"},
        {"base_url": "https://api.example.com/v1#hush"},
        {"extra_body": {"api_key": "hush"}},
        {"extra_body": {"apiKey": "hush"}},
        {"extra_body": {"headers": {"Authorization": "hush"}}},
        {"extra_body": {"headers": [{"x-api-key": "hush"}]}},
        {"extra_body": {"note": "Bearer hush"}},
        {"extra_body": {"user": "sk-0123456789abcdef"}},
        {"extra_body": {"access_token": "hush"}},
        {"extra_body": {"token": "hush"}},
        {"extra_body": {"password": "hush"}},
        {"extra_body": {"sk-0123456789abcdef": 1}},
        {"extra_body": {"x": [{"sk-0123456789abcdef": None}]}},
        {"base_url": "https://api.example.com/sk-0123456789abcdef/v1"},
        {"prompt": "sk-0123456789abcdef {question}"},
        {"prompt": "{question} (sk-0123456789abcdef)"},
        {"model": "sk-0123456789abcdef"},
        {"api_key_file": "sk-0123456789abcdef"},
        {"sk-0123456789abcdef": "x"},
        {"key": "sk-0123456789abcdef"},
        {"prices": {"prompt": 1, "currency": "sk-0123456789abcdef"}},
        {"engine": {"engine_kwargs": {"hf_token": "hush"}}},
        {"engine": {"engine_kwargs": {"hf_overrides": {"a": "hf_0123456789abcdefghijkl"}}}},
    ],
)
def test_secrets_in_a_config_are_refused_and_not_repeated(teacher: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="api_key_variable or api_key_file") as raised:
        refuse_secrets(teacher)
    assert "hush" not in str(raised.value)
    assert "0123" not in str(raised.value)
    assert "pass@" not in str(raised.value)


@pytest.mark.parametrize(
    "extra",
    [
        {"max_tokens": "100", "max_completion_tokens": 5, "token_ids": "x", "tokenizer": "qwen"},
        {"thinking": {"type": "enabled", "budget_tokens": 4096}},
        {"stop": ["key:", "token"], "user": "someone", "cache_key_prefix": "a"},
        {"hf_token": True},
        {},
    ],
)
def test_ordinary_fields_are_no_secrets(extra: dict[str, object]) -> None:
    refuse_secrets({"base_url": "http://127.0.0.1:8000/v1", "extra_body": extra})
    refuse_secrets({"engine": {"model": "slovak/sk-llama-3-8b", "engine_kwargs": extra}})
    refuse_secrets({"prompt": "Basic algebra. Bearer of news: {question}", "model": "slovak/sk-llama-3-8b"})


def test_a_key_in_place_of_a_variables_name_is_neither_taken_nor_shown() -> None:
    fields = ["output=x", "questions=q", "tokenizer=miniature-base", "teacher.kind=openai", "teacher.model=m"]
    fields.append("teacher.base_url=https://api.test/v1")
    for value in ("sk-0123456789abcdef", "0123-4567", "'a b 0123'", "$HUSH_0123", "''", '"a\\0"'):
        with pytest.raises(ConfigError, match="api_key_variable: must be the name of an environment") as raised:
            load_config(TracesConfig, None, [*fields, f"teacher.api_key_variable={value}"])
        assert "0123" not in str(raised.value)
    for field in ("api_key_file", "model", "key", "extra_body.sk-0123456789abcdef"):
        with pytest.raises(ConfigError, match=r"looks like a secret|key: unknown field") as raised:
            load_config(TracesConfig, None, [*fields, f"teacher.{field}=sk-0123456789abcdef"])
        assert "0123" not in str(raised.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_any_config_is_either_refused_in_words_or_passed_on_to_validation(url: object, extra: object) -> None:
    # Nothing but a ValueError in words, whatever a config holds.
    with contextlib.suppress(ValueError):
        refuse_secrets({"base_url": url, "extra_body": extra})


def test_a_teacher_refuses_a_secret_in_its_config_and_reads_its_key_from_a_file(tmp_path: Path) -> None:
    fields = ["output=x", "questions=q", "tokenizer=miniature-base", "teacher.kind=openai", "teacher.model=m"]
    with pytest.raises(ConfigError, match="must not hold a user or password") as raised:
        load_config(TracesConfig, None, [*fields, "teacher.base_url=https://me:topsecret@api.test/v1"])
    assert "topsecret" not in str(raised.value)
    file = tmp_path / "key"
    file.write_text("sk-1234\n")
    file.chmod(0o600)
    teacher = OpenAITeacher(kind="openai", base_url="https://api.test/v1", model="m", api_key_file=str(file))
    teacher.check()
    assert teacher.api_key() == "sk-1234"
    assert "sk-1234" not in teacher.model_dump_json()
