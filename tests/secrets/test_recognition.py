"""Secrets in a config are known by their value, their URL or their name; ordinary fields are none."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.models import EngineConfig
from s1ray.secrets import free_fields, refuse_in_text, refuse_inline

ALNUM = "0123456789abcdef"


@pytest.mark.parametrize(
    "value",
    [
        f"sk-{ALNUM}",
        f"sk-proj-{ALNUM}_abc-DEF",
        f"sk-ant-api03-{ALNUM}-x",
        f"Answer ({{question}}, sk-{ALNUM})",
        f"https://api.test/sk-{ALNUM}/v1",
        "AKIA" + "IOSFODNN7EXAMPLE",
        f"hf_{ALNUM}abcdefgh",
        f"ghp_{ALNUM}abcdefgh",
        f"github_pat_{ALNUM}_abcdefgh",
        f"xoxb-{ALNUM}",
        f"AIzaSy{ALNUM}-{ALNUM}",
        f"eyJ{ALNUM}.eyJ{ALNUM}.{ALNUM}",
        "s1ray-" + "a" * 43,
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        f"Bearer {ALNUM}",
        f"DefaultEndpointsProtocol=https;AccountKey={ALNUM}==",
        "https://user:hush@api.test/v1",
        "https://hush@api.test/v1",
        "https:/user:hush@api.test/v1",
        "see https://user:hush@api.test/v1, please",
        "s3://hush@bucket/run",
        "s3://user:hush@bucket/run",
        "abfss://container:hush@account.dfs.core.windows.net/run",
        "postgresql+psycopg2://user:hush@db/mlflow",
        "https://api.test/v1?key=hush",
        "https://api.test/v1?x=1&api_key=hush",
        "https://api.test/v1?X-Amz-Credential=hush",
        "https://account.blob.core.windows.net/c?sv=1&sig=hush",
        "https://api.test/v1#access_token=hush",
    ],
)
def test_a_secret_is_refused_in_any_text_and_not_repeated(value: str) -> None:
    for data in ({"a": value}, {"a": [{"b": {"c": (value,)}}]}):
        with pytest.raises(ValueError, match=r"a.*name the key by reference") as raised:
            refuse_inline(data)
        assert "hush" not in str(raised.value)
        assert ALNUM not in str(raised.value)
    with pytest.raises(ValueError, match=r"^--output: "):
        refuse_in_text(value, "--output")


@pytest.mark.parametrize(
    "value",
    [
        "slovak/sk-llama-3-8b-instruct-v0.2",
        "sk-llama-3-8b",
        "Basic algebra. Bearer of news: {question}",
        "password: what is meant by that?",
        "s3://bucket/run?region=eu-west-1&endpoint_override=http://127.0.0.1:9000",
        "abfss://container@account.dfs.core.windows.net/run",
        "http://127.0.0.1:8000/v1",
        "http://[::1]:8000/v1",
        "sqlite:///runs/mlflow.db",
        "/data/me@home/run",
        "mail someone@example.com, or see https://example.com/@someone",
        "hf_transfer",
        "d41d8cd98f00b204e9800998ecf8427e",
        "<|im_start|>",
        "https://api.test/v1?key=",
    ],
)
def test_ordinary_texts_are_no_secrets(value: str) -> None:
    refuse_inline({"a": value, "b": [value]})


@pytest.mark.parametrize(
    "fields",
    [
        {"api_key": "hush"},
        {"apiKey": "hush"},
        {"headers": {"Authorization": "hush"}},
        {"headers": [{"x-api-key": "hush"}]},
        {"note": "Bearer hush"},
        {"note": "Basic hush"},
        {"access_token": "hush"},
        {"token": "hush"},
        {"password": "hush"},
        {"hf_token": "hush"},
        {"deployment": {"tenant_key": "hush"}},
        {"my-token": "hush"},
        {"client_secret": "hush"},
        {"AWS_SECRET_ACCESS_KEY": "hush"},
        {"credentials": {"a": ["hush"]}},
        {"cookie": "hush"},
        {"api_key": "env:HUSH_hush"},
        {"user": f"sk-{ALNUM}"},
        {f"sk-{ALNUM}": 1},
        {"x": [{f"sk-{ALNUM}": None}]},
        {"x": {f"sk-{ALNUM}": {}}},
        {"hf_overrides": {"a": f"hf_{ALNUM}ghijkl"}},
    ],
)
def test_where_names_are_free_they_tell_of_a_secret(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="name the key by reference") as raised:
        free_fields(fields)
    assert "hush" not in str(raised.value).lower()
    assert ALNUM not in str(raised.value)
    with pytest.raises(ValueError, match="engine_kwargs"):
        EngineConfig(model="m/m", engine_kwargs=fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": "100", "max_completion_tokens": 5, "token_ids": "x", "tokenizer": "qwen"},
        {"thinking": {"type": "enabled", "budget_tokens": 4096}},
        {"stop": ["key:", "token"], "user": "someone", "cache_key_prefix": "a", "prompt_cache_key": "a"},
        {"hf_token": True, "api_key": None, "token": ""},
        {"eos_token": "<|im_end|>", "bos_token_id": 1, "sort_key": "id"},
        {},
    ],
)
def test_ordinary_fields_are_no_secrets(fields: dict[str, object]) -> None:
    assert free_fields(fields) is fields
    assert EngineConfig(model="m/m", engine_kwargs=fields).engine_kwargs == fields


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.text("htps:/@?#=&[]%key", max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(ANY)
def test_anything_is_either_refused_in_words_or_passed_on(data: object) -> None:
    # Nothing but a ValueError in words, whatever a config holds.
    with contextlib.suppress(ValueError):
        refuse_inline(data)
    with contextlib.suppress(ValueError):
        free_fields(data)
