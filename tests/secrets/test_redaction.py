"""Messages, logs and tracebacks are shown without the secrets that the process knows, or that look like one."""

from __future__ import annotations

import io
import logging
import subprocess
import sys

import pytest

from s1ray.logs import RedactedFormatter
from s1ray.secrets import MARK, Secret, redact, redact_known

HUSH = "hush/0123+4567"


def test_a_secret_that_was_read_is_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_A_TEST", HUSH)
    assert redact(f"at {HUSH}") == f"at {HUSH}"
    Secret("env", "OF_A_TEST").resolve("api_key")
    assert redact(f"at {HUSH}, hush%2F0123%2B4567") == f"at {MARK}, {MARK}"
    assert redact_known(f"at {HUSH}") == f"at {MARK}"


def test_the_secrets_of_the_environment_are_known_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "HF_TOKEN", "AWS_SESSION_TOKEN", "MLFLOW_TRACKING_PASSWORD", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, f"value-of-{name}")
        assert redact_known(f"got value-of-{name}.") == f"got {MARK}."
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/etc/hostname")
    monkeypatch.setenv("HF_HOME", "/data/hub-of-all")
    assert redact_known("/etc/hostname /data/hub-of-all") == "/etc/hostname /data/hub-of-all"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("connect to https://me:hush@h/v1 failed", f"connect to https://{MARK}@h/v1 failed"),
        ("me:hush@api.test/v1", f"{MARK}@api.test/v1"),
        ("GET http://h/v1?api_key=hush&x=1 (404)", f"GET http://h/v1?api_key={MARK}&x=1 (404)"),
        ("http://h/c?sv=1&sig=hush", f"http://h/c?sv=1&sig={MARK}"),
        ('{"api_key": "hush1", "n": 1}', f'{{"api_key": "{MARK}", "n": 1}}'),
        ("override 'teacher.api_key=hush1'", f"override 'teacher.api_key={MARK}'"),
        ("Authorization: Bearer hush0123456789abc", f"Authorization: {MARK}"),
        ("key AKIAIOSFODNN7EXAMPLE.", f"key {MARK}"),
    ],
)
def test_what_looks_like_a_secret_is_not_shown(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "api_key: must be a reference: env:NAME (an environment variable)",
        "teacher.api_key=env:DEEPSEEK_API_KEY",
        "--column question=problem, max_tokens=1000, key=problem, eos_token=<|im_end|>",
        "12:00:01 train: step 5/10: loss 0.3",
        "abfss://container@account.dfs.core.windows.net/run",
        "Basic algebra; Bearer of news",
    ],
)
def test_ordinary_messages_stay_as_they_are(text: str) -> None:
    assert redact(text) == text


def test_a_log_line_and_its_traceback_are_redacted() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(RedactedFormatter("%(message)s"))
    logger = logging.getLogger("test_redaction")
    logger.addHandler(handler)
    try:
        raise ConnectionError("https://me:hush@h/v1: refused")
    except ConnectionError:
        logger.exception("asking %s", "http://h?token=hush0")
    logger.removeHandler(handler)
    assert "hush" not in stream.getvalue()
    assert "ConnectionError" in stream.getvalue()


def test_the_traceback_of_a_bug_is_redacted() -> None:
    program = (
        "import sys\nfrom s1ray import cli\n"
        "def bug(*_, **__): raise RuntimeError('https://me:' + 'hu' + 'sh@h')\n"
        "cli.stages.run_stage = bug\nsys.argv = ['s1ray', 'train']\ncli.app()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"RuntimeError: https://{MARK}@h" in done.stderr
