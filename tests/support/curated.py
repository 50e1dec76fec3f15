"""A small made-up run folder of `s1ray curate`, with texts that would break a careless page."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from s1ray.config import validate_config
from s1ray.curation.config import CurationConfig
from s1ray.curation.outcome import CONFLICTS, DROPPED, KEPT, QUESTIONS, REVIEW, DroppedRow
from s1ray.curation.quarantine import QUARANTINE
from s1ray.manifests import digest
from s1ray.schemas import MANIFEST, Question, question_id, to_table, write_table
from s1ray.storage import write_json

SCRIPT = "</script></pre><script>alert(1)</script><img src=x onerror=alert(2)>"
NUL = "before\0after\x1b[31m"
LONG = "What is 1 + 1? " * 70_000
"""About a million characters."""
MATH = r"Find $\frac{a}{b}$ with $a<b$ & $b^2 \le 9$."
COPY = "What  is 2 + 2?"
CHOSEN = "What is 2 + 2?"
SOLUTION_FOUND = "so we must find the 3 primes below 9"


def question(text: str, **fields: object) -> dict[str, object]:
    """A row of a question."""
    return {"id": question_id(text), "question": text, "source": "pool|a", "domain": "algebra", "length": 5} | fields


CHOSEN_ROWS = [
    question(CHOSEN, answer="4", solution="Add.", metadata='{"cot_type": "math"}', selected_by="uniform"),
    question(SCRIPT, answer="1", domain="<b>geometry</b>", length=300, source="other</td>", selected_by="uniform"),
]
DROPPED_ROWS = [
    question(NUL, stage="quality", reason="missing solution", detail=""),
    question(MATH, stage="quality", reason="missing solution", detail="", domain=None, length=None),
    question(LONG, stage="quality", reason="too long", detail="", length=1_000_000),
    question("3rd?", stage="quality", reason="missing solution", detail=""),
    question("4th?", stage="quality", reason="missing solution", detail=""),
    question("Which primes?", stage="decontamination", reason="contains a benchmark question", detail="bench/7"),
    question(
        COPY, stage="deduplication", reason="same text but for spelling", detail=KEPT + question_id(CHOSEN), length=0
    ),
]


def hit(text: str, tier: str, stage: str | None, **fields: object) -> dict[str, object]:
    """A row of the review."""
    return {
        "id": question_id(text),
        "source": "pool|a",
        "question": text,
        "tier": tier,
        "label": "bench/7",
        "found": text[:400],
        "asked": text[:400],
        "place": "question",
        "score": 1.0,
        "drops": False,
        "stage": stage,
    } | fields


REVIEW_ROWS = [
    hit("Which primes?", "whole", "decontamination", drops=True, place="solution", found=SOLUTION_FOUND),
    *(hit(f"Number {n} of the pool, is it like?", "overlap", "selection", score=0.6 + n / 1000) for n in range(60)),
    hit(CHOSEN, "overlap", None, score=0.61, found=CHOSEN, asked="What is 2 + 2, plus 3?"),
    hit(LONG[:90_000] + MATH, "ngrams", "quality", found=r"find a b with a < b", asked=f"Now: {MATH}"),
    hit(SCRIPT, "s1_ngrams", None, found="script alert 1 script", asked=SCRIPT),
]
QUARANTINED = [
    *(
        {"source": "pool", "file": "/secret/pool.jsonl", "line": n, "reason": "not JSON: char 1", "text": SCRIPT}
        for n in range(5)
    ),
    {"source": "pool", "file": "/secret/pool.jsonl", "line": 9, "reason": "broken text", "text": "half \ud800 pair"},
    {"source": "pool", "file": "/secret/cut.parquet", "reason": "cut or damaged (12: it ends)"},
]
CONFLICT = {"id": "a", "source": "x", "question": "1/3?", "answer": "<i>3</i>"}
CONFLICT |= {"other_id": "b", "other_source": "x", "other_question": "1 / 3?", "other_answer": "9"}
MANIFEST_ROWS = {"in": 9, "after quality": 4, "after decontamination": 3, "after deduplication": 2, "out": 2}
MANIFEST_DROPS = {
    "quality: missing solution": 4,
    "quality: too long": 1,
    "decontamination: contains a benchmark question": 1,
    "deduplication: same text but for spelling": 1,
}


def curated(folder: Path) -> Path:
    """Write the run into `folder/run`, its pool and its benchmark into `folder`; return the run's folder."""
    run, pool, bench = folder / "run", folder / "pool.jsonl", folder / "bench.jsonl"
    pool.write_text('{"question": "1?"}\n')
    bench.write_text(json.dumps({"question": "How many days has the first month of the year?"}) + "\n")
    for name in (DROPPED, REVIEW):
        (run / name).mkdir(parents=True)
    write_table(to_table(CHOSEN_ROWS, Question), run / QUESTIONS)
    for number, rows in enumerate((DROPPED_ROWS[:2], DROPPED_ROWS[2:], [])):
        pq.write_table(to_table(rows, DroppedRow), run / DROPPED / f"part-{number}.parquet")
    review = pa.Table.from_pylist(REVIEW_ROWS)
    for number, part in enumerate((review.slice(0, 30), review.slice(30), review.slice(0, 0))):
        pq.write_table(part, run / REVIEW / f"part-{number}.parquet")
    pq.write_table(pa.Table.from_pylist([CONFLICT]), run / CONFLICTS)
    (run / QUARANTINE).write_text("".join(json.dumps(entry) + "\n" for entry in QUARANTINED))
    write_json(run / MANIFEST, manifest(run, pool, bench))
    return run


def manifest(run: Path, pool: Path, bench: Path) -> dict[str, object]:
    """What the run says of itself."""
    data = {
        "output": str(run),
        "sources": [{"kind": "files", "path": str(pool), "name": "pool"}],
        "decontamination": {"benchmarks": [{"path": "/secret/bench.parquet"}]},
    }
    return {
        "stage": "curate",
        "status": "complete",
        "config": validate_config(CurationConfig, data, "test").model_dump(mode="json"),
        "inputs": {
            "sources.0 (pool)": {"path": str(pool), "digest": digest(pool)},
            "benchmarks.0 (bench)": {"path": str(bench), "digest": digest(bench)},
        },
        "seed": 0,
        "versions": {"s1ray": "0.1.0"},
        "digest": "0123456789abcdef",
        "rows": MANIFEST_ROWS,
        "drops": MANIFEST_DROPS,
        "figures": {
            "selected_by": {"uniform": 2},
            "conflicts": 1,
            "sources": {
                "0 (pool)": {
                    "read": 16,
                    "staged": 9,
                    "not wanted": 1,
                    "quarantined": {"not JSON": 5, "broken text": 1},
                }
            },
        },
    }
