from __future__ import annotations

import socket
from pathlib import Path

import pytest

from s1ray.config import ConfigError
from s1ray.serving.local import check_model, error_tail, free_port


@pytest.mark.parametrize("model", ["runs/demo/train/model", "/nowhere/model", "./model", "a b"])
def test_a_path_without_a_folder_is_refused_before_anything_starts(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Elsewhere: in a checkout where the demo has run, the first of them is there.
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        check_model(model)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json"):
        check_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    check_model(str(tmp_path))


@pytest.mark.parametrize("model", ["Qwen/Qwen3-8B", "gpt2", "s3://bucket/model"])
def test_what_may_be_elsewhere_is_left_to_vllm(model: str) -> None:
    check_model(model)


def test_the_tail_of_an_error_has_the_message_and_no_frames() -> None:
    message = (
        "Failed to start:\nTraceback (most recent call last):\n"
        '  File "a.py", line 3, in start\n    engine.run()\n    ^^^^^^\n'
        "RuntimeError: not enough memory\n"
    )
    assert error_tail(message) == "Failed to start:\n    RuntimeError: not enough memory"
    assert error_tail("") == "(no message)"
    assert error_tail("\n".join("abc"), lines=2) == "b\n    c"


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
