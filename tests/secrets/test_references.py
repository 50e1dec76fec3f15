"""A config says where a key is; the key is read there, checked, and never shown."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import yaml

from s1ray.config import Config, ConfigError, load_config, to_yaml
from s1ray.secrets import Secret, SecretError
from s1ray.teachers.endpoints import OpenAITeacher

HUSH = "hush-0123456789"


class Keyed(Config):
    """A config with a key."""

    api_key: Secret | None = None


def written(folder: Path, content: str, mode: int = 0o600) -> str:
    file = folder / "key"
    file.write_text(content)
    file.chmod(mode)
    return f"file:{file}"


def test_a_key_comes_from_a_variable_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", "k-1\n")
    assert Secret.parse("env:TEACHER_KEY").resolve("teacher.api_key") == "k-1"
    assert Secret.parse(written(tmp_path, "k-2\n")).resolve("teacher.api_key") == "k-2"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Secret.parse("file:~/key").resolve("teacher.api_key") == "k-2"


def test_a_reference_is_what_is_written_and_what_is_sent_to_workers() -> None:
    config = load_config(Keyed, None, ["api_key=env:A_KEY"])
    assert config.api_key == Secret("env", "A_KEY")
    assert yaml.safe_load(to_yaml(config)) == {"api_key": "env:A_KEY"}
    assert config.model_dump() == {"api_key": "env:A_KEY"}
    assert pickle.loads(pickle.dumps(config)) == Keyed(api_key=Secret("env", "A_KEY"))
    assert Keyed.model_json_schema(mode="serialization")


@pytest.mark.parametrize(
    "value",
    [
        *(HUSH, f"env:{HUSH}", "env:", "env: A", "file:", f"file://{HUSH}", f"vault:{HUSH}", f"ENV:{HUSH}"),
        *([HUSH], 5, {}, {"value": HUSH}, f" env:A{HUSH}", "env:$HUSH", "file:a\0"),
    ],
)
def test_anything_but_a_reference_is_refused_and_not_repeated(value: object) -> None:
    with pytest.raises(ConfigError, match="api_key: must be a reference: env:NAME") as raised:
        load_config(Keyed, None, fields={"api_key": value})
    assert HUSH not in str(raised.value)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o620, 0o666])
def test_a_file_that_others_may_read_or_change_is_refused(mode: int, tmp_path: Path) -> None:
    secret = Secret.parse(written(tmp_path, HUSH, mode))
    with pytest.raises(SecretError, match=f"teacher.api_key: others may .*chmod 600 {tmp_path}/key") as raised:
        secret.resolve("teacher.api_key")
    assert HUSH not in str(raised.value)


def test_a_group_may_read_a_secret_that_kubernetes_mounts(tmp_path: Path) -> None:
    assert Secret.parse(written(tmp_path, HUSH, 0o440)).resolve("teacher.api_key") == HUSH


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("one two", "does not hold one key"),
        ("a\nb", "does not hold one key"),
        ("é", "one key"),
        ("k" * 70_000, "more than a key"),
    ],
)
def test_a_file_without_one_key_is_refused_without_showing_it(content: str, message: str, tmp_path: Path) -> None:
    reference = written(tmp_path, content)
    with pytest.raises(SecretError, match=message) as raised:
        Secret.parse(reference).resolve("teacher.api_key", "https://api.test/v1")
    assert not content or content not in str(raised.value).replace(reference.removeprefix("file:"), "")


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "bytes").chmod(0o600)
    problems = {"pipe": "is no file", "": "cannot be read", "bytes": "UTF-8", "none": "cannot be read"}
    for name, message in problems.items():
        with pytest.raises(SecretError, match=message):
            Secret.parse(f"file:{tmp_path}/{name}").resolve("teacher.api_key")


def test_a_key_that_is_nowhere_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    teacher = OpenAITeacher(
        kind="openai", base_url="https://api.test/v1", model="m", api_key=Secret.parse("env:TEACHER_KEY")
    )
    with pytest.raises(SecretError, match=r"teacher.api_key: the environment variable TEACHER_KEY is not set; export"):
        teacher.check()
    monkeypatch.setenv("TEACHER_KEY", HUSH)
    teacher.check()
    assert teacher.read_key() == HUSH
    assert HUSH not in teacher.model_dump_json()
