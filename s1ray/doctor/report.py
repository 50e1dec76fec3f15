"""How findings are shown: a line each, or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from s1ray.doctor.base import Finding

ORDER = ("failed", "warning", "ok")


def lines(findings: Sequence[Finding]) -> list[str]:
    """One line a finding, what failed last, where it is read; below it what to do."""
    shown = []
    for finding in sorted(findings, key=lambda each: -ORDER.index(each.status)):
        shown.append(f"{finding.status:<8}{finding.check:<11}{finding.where}: {finding.seen}")
        if finding.advice:
            shown.append(f"{'':<19}-> {finding.advice}")
    counts = {status: sum(finding.status == status for finding in findings) for status in ORDER}
    return [*shown, f"{counts['ok']} ok, {counts['warning']} warning(s), {counts['failed']} failed"]


def as_json(findings: Sequence[Finding]) -> str:
    """The same for programs."""
    return json.dumps({"failed": any_failed(findings), "findings": [asdict(each) for each in findings]}, indent=2)


def any_failed(findings: Sequence[Finding]) -> bool:
    """Whether a run would fail."""
    return any(finding.status == "failed" for finding in findings)
