"""docs/security.md lists every port that the doctor knows, and what it says of code of others holds in the source."""

from __future__ import annotations

import re
from pathlib import Path

from s1ray.doctor.ports import KNOWN

ROOT = Path(__file__).resolve().parents[2]


def test_every_known_port_is_a_row() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [f"| {port.ports} | {port.what} | {port.listens} | {port.protects} | {port.open_to} |" for port in KNOWN]
    assert [row for row in rows if row not in page] == []


def test_code_of_a_model_runs_nowhere_unless_a_user_asks() -> None:
    on = re.compile(r"trust_remote_code['\"]?\s*[=:]\s*(True|true)")
    files = [*(ROOT / "s1ray").rglob("*.py"), *(ROOT / "jobs").glob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    files += [file for folder in ("s1ray", "deploy", "examples") for file in (ROOT / folder).rglob("*.yaml")]
    files += [*ROOT.glob("*.yaml")]
    assert len(files) > 100
    assert [str(file) for file in files if on.search(file.read_text(encoding="utf-8"))] == []
    shown = (ROOT / "s1ray" / "serving" / "reward" / "config.py").read_text(encoding="utf-8")
    assert "trust_remote_code: bool = False" in shown
