"""The doctor on this machine: every check really looks, nothing heavy is imported, and it takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from s1ray.cli import app
from s1ray.doctor import clocks
from s1ray.doctor.base import Facts, Node, Request
from s1ray.doctor.nodes import CHECKS, judged, look
from s1ray.probe import written


def test_every_check_looks_and_its_facts_are_plain_data(tmp_path: Path) -> None:
    with written(tmp_path) as token:
        facts = look(Request(storage=str(tmp_path), token=token), "")
    assert set(facts) == set(CHECKS)
    assert not {name: seen["error"] for name, seen in facts.items() if "error" in seen}
    assert json.loads(json.dumps(facts)).keys() == facts.keys()


def test_a_check_that_fails_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(request: Request, node_id: str) -> Facts:
        raise OSError("https://me:hush@h/: refused")

    monkeypatch.setattr(clocks, "look", fails)
    node = Node("a", facts=look(Request(), ""))
    lines = [finding for finding in judged([node], Request()) if finding.check == "clock"]
    assert [(line.status, "OSError" in line.seen, "hush" in line.seen) for line in lines] == [("warning", True, False)]


def test_a_node_that_does_not_answer_is_a_line() -> None:
    lines = list(judged([Node("10.0.0.9", id="n", problem="TimeoutError: no answer within 45 s")], Request()))
    assert [(line.status, line.where, line.seen) for line in lines] == [
        ("failed", "10.0.0.9", "TimeoutError: no answer within 45 s")
    ]


def test_nothing_heavy_is_imported_and_it_takes_seconds() -> None:
    program = (
        "import sys, time\nbegan = time.monotonic()\n"
        "from s1ray.doctor.nodes import examine\nexamine(None, None)\n"
        "assert not {'torch', 'vllm', 'ray', 'transformers'} & set(sys.modules), 'heavy'\n"
        "print(time.process_time())"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    # Of the processor, as a busy machine's clock says nothing.
    assert float(done.stdout) < 5, f"{time.monotonic() - began:.1f} s by the clock"


def test_the_command_prints_lines_or_json_and_tells_failure_by_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    shown = CliRunner().invoke(app, ["doctor", "--json", "--storage", str(tmp_path / "runs")])
    told = json.loads(shown.stdout)
    assert shown.exit_code == int(told["failed"])
    assert {"versions", "machine", "network", "token", "storage"} <= {line["check"] for line in told["findings"]}
    (tmp_path / "file").write_text("")
    failed = CliRunner().invoke(app, ["doctor", "--storage", str(tmp_path / "file" / "runs")])
    assert failed.exit_code == 1
    assert "nothing can be written to" in failed.stdout
    assert not list((tmp_path / "runs").iterdir())
