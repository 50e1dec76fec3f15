"""The loop of every grader's process: reads cases, grades one by one, appends a line for each. A file with the
ending .ready says that its libraries are imported.

    python SCRIPT CASES.jsonl VERDICTS.jsonl START

Imports nothing but the standard library, since each grader runs in an environment of its own.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

MEMORY_BYTES = 8 << 30
"""Address space of a grader: computer algebra can ask for more than a machine has."""


def run(grade: Callable[[str, str], tuple[str, str]]) -> None:
    """Grade the cases from START on.

    Args:
        grade: from gold and text to "correct", "incorrect" or "undecided", and what else is worth knowing.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    cases, verdicts, start = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    verdicts.with_suffix(".ready").touch()
    with verdicts.open("a", encoding="utf-8") as out:
        for line in cases.read_text(encoding="utf-8").splitlines()[start:]:
            case = json.loads(line)
            began = time.perf_counter()
            try:
                verdict, detail = grade(case["gold"], case["text"])
            except Exception as error:  # what a grader raises is one of its results
                verdict, detail = "undecided", f"{type(error).__name__}: {error}"[:300]
            row = {"verdict": verdict, "detail": detail, "seconds": time.perf_counter() - began}
            out.write(json.dumps(row) + "\n")
            out.flush()
