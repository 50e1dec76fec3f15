from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from s1ray.cli import app
from s1ray.config import ConfigError
from s1ray.serving.app import build_app
from s1ray.serving.http.keys import RELOAD_S, SECRET, KeyStore, hash_key, new_key, presented_key, read_keys


def key_file(*lines: str) -> str:
    return "\n".join(["keys:", *lines]) + "\n"


def test_the_line_of_a_new_key_finds_it_and_does_not_contain_it() -> None:
    secret, line = new_key("alice")
    other, _ = new_key("alice")
    ring = read_keys(key_file(line), "test")
    found = ring.find(secret)
    assert found is not None
    assert found.name == "alice"
    assert secret not in line
    assert len(secret) > 40
    for wrong in (other, "", secret[:-1], secret + "a", hash_key(secret), "\ud800", "ключ"):
        assert ring.find(wrong) is None


def test_caps_are_read_from_the_line() -> None:
    _, line = new_key("a")
    text = key_file(line[:-1] + ", models: [m], maximum_thinking_tokens: 5, requests_per_minute: 3, metrics: true}")
    (key,) = read_keys(text, "test").keys
    assert key.maximum_thinking_tokens == 5
    assert key.metrics
    assert key.allows("m:adapter", "m")
    assert not key.allows("other")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("keys: [", "line 1"),
        ("- a", "must be a mapping with a list `keys`"),
        ("keys: []", "keys"),
        (key_file("  - {name: a}"), "keys.0.sha256: Field required"),
        (key_file("  - {name: a, sha256: plain}"), "keys.0.sha256"),
        (key_file(f"  - {{name: 'a b', sha256: '{'0' * 64}'}}"), "keys.0.name"),
        (key_file(f"  - {{name: a, sha256: '{'0' * 64}', rpm: 3}}"), "keys.0.rpm: unknown"),
        (key_file("  - s1ray-Secret1: alice"), "keys.0.(not shown): unknown"),
        ("s1ray-Secret1: alice", "(not shown): unknown"),
        (key_file(*(f"  - {{name: a, sha256: '{n * 64}'}}" for n in "01")), "the name 'a' is given twice"),
        (key_file(*(f"  - {{name: {n}, sha256: '{'0' * 64}'}}" for n in "ab")), "the sha256 '0000"),
    ],
)
def test_a_broken_key_file_is_refused_with_its_problem(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        read_keys(text, "keys.yaml")


def test_a_key_in_place_of_its_hash_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        read_keys(key_file("  - {name: a, sha256: s1ray-secret}"), "test")
    assert "s1ray-secret" not in str(caught.value)


def test_the_repr_of_a_key_has_no_hash() -> None:
    _, line = new_key("a")
    (key,) = read_keys(key_file(line), "test").keys
    assert key.sha256 not in repr(key)


def test_a_server_without_keys_is_open_and_one_with_a_broken_file_does_not_start(tmp_path: Path) -> None:
    assert not KeyStore().required
    with pytest.raises(ConfigError, match="cannot be read"):
        KeyStore(str(tmp_path / "keys.yaml"))
    with pytest.raises(ConfigError, match="S1RAY_API_KEYS"):
        KeyStore(text="nothing")


def test_a_removed_key_stops_working_while_the_server_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (first, line), (second, other) = new_key("a"), new_key("b")
    path, now = tmp_path / "keys.yaml", 0.0
    path.write_text(key_file(line, other))
    store = KeyStore(str(path), clock=lambda: now)
    assert store.required
    assert store.find(first)
    replace(path, key_file(other))
    now += RELOAD_S
    assert store.find(first) is None
    assert store.find(second)
    # A file that is half written changes nothing.
    replace(path, "keys: [")
    now += RELOAD_S
    assert store.find(second)
    assert store.find(first) is None
    assert "keeping the previous API keys" in caplog.text
    path.unlink()
    now += RELOAD_S
    assert store.find(second)


def replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([(b"authorization", b"Bearer s")], "s"),
        ([(b"Authorization", b"bearer   s ")], "s"),
        ([(b"x-api-key", b"s")], "s"),
        ([(b"authorization", b"Bearer other"), (b"x-api-key", b"s")], "s"),
        ([(b"authorization", b"Basic s")], None),
        ([(b"authorization", b"Bearer")], None),
        ([(b"x-api-key", b"")], None),
        ([(b"cookie", b"s")], None),
        ([], None),
    ],
)
def test_clients_of_both_apis_present_their_key(headers: list[tuple[bytes, bytes]], key: str | None) -> None:
    assert presented_key(headers) == key


def test_the_command_line_makes_a_key_and_its_line() -> None:
    result = CliRunner().invoke(app, ["serve", "key", "alice"])
    assert result.exit_code == 0
    (secret,) = [line for line in result.output.splitlines() if line.startswith("s1ray-")]
    (line,) = [line for line in result.output.splitlines() if "sha256" in line]
    found = read_keys(key_file(line), "test").find(secret)
    assert found is not None
    assert found.name == "alice"
    assert CliRunner().invoke(app, ["serve", "key", "a b"]).exit_code == 2


def test_a_server_that_requires_keys_does_not_start_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(SECRET, raising=False)
    args = {"models": [{"name": "m", "model": "miniature-base"}], "access": {"required": True}}
    with pytest.raises(ConfigError, match=r"access\.required: there are no keys"):
        build_app(args)
    # With keys it continues, here to the next problem.
    monkeypatch.setenv(SECRET, key_file(new_key("alice")[1]))
    args["models"] = [{"name": "m", "model": "miniature-base", "accelerator_type": "H1000"}]
    with pytest.raises(ConfigError, match=r"args\.models\.0\.accelerator_type: Ray knows no accelerator"):
        build_app(args)


@pytest.mark.parametrize("name", ["null", "true", "3", "alice"])
def test_the_line_of_a_new_key_can_be_read_whatever_the_name_means_in_yaml(name: str) -> None:
    secret, line = new_key(name)
    assert [(key.name, key.sha256) for key in read_keys(key_file(line), "keys").keys] == [(name, hash_key(secret))]
