"""s1's rules in one plain Python process, as its notebooks have them, to compare with.

    python -m benchmarks.curation.plain index|sets FOLDER BENCHMARK...   # started by `benchmarks.curation scale`

Reads the files of a pool into lists, drops broken rows, rows that share 8 words in a row with a benchmark question or
an accepted row of an earlier source, and exact duplicates, and draws 1,000 rows. Prints what is left after each step,
as JSON. `index` finds shared words as s1's code does, with inverted indexes from n-grams to numbers of rows; `sets` has
sets of n-grams alone, which takes half the time and memory.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

Row = dict[str, str]
N = 8
SIZE = 1000
BROKEN = re.compile(r"\[asy\]|!\[Image\]|p[1-9][0-9]{0,2}\.|\*\*(?=.*\d)[^\s\]]*\*\*")


def read(file: Path) -> Iterator[Row]:
    """The rows of a file of JSON lines."""
    with file.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def grams(question: str) -> set[str]:
    """All runs of 8 words."""
    words = question.lower().split()
    return {" ".join(words[i : i + N]) for i in range(len(words) - N + 1)}


def sound(row: Row, source: str) -> bool:
    """s1's string filters."""
    return bool(row["solution"].strip()) and (source == "AIME" or not BROKEN.search(row["question"]))


def shared(rows: list[Row], other: Container[str], how: str) -> list[bool]:
    """Which rows have an n-gram that is in `other`."""
    if how == "sets":
        return [any(gram in other for gram in grams(row["question"])) for row in rows]
    index: dict[str, set[int]] = {}
    for number, row in enumerate(rows):
        for gram in grams(row["question"]):
            index.setdefault(gram, set()).add(number)
    found = set[int]()
    for gram, numbers in index.items():
        if gram in other:
            found |= numbers
    return [number in found for number in range(len(rows))]


def filtered(sources: Iterable[list[Row]], asked: set[str], how: str) -> Iterator[Row]:
    """Rows that share no n-gram with a benchmark or an earlier source, and whose text is not there before."""
    texts, seen = set[str](), set[str]()
    for rows in sources:
        clean = [row for row, leak in zip(rows, shared(rows, asked, how), strict=True) if not leak]
        distinct = list({row["question"]: row for row in reversed(clean) if row["question"] not in texts}.values())
        texts |= {row["question"] for row in distinct}
        accepted = [row for row, known in zip(distinct, shared(distinct, seen, how), strict=True) if not known]
        for row in accepted:
            seen |= grams(row["question"])
        yield from accepted


def draw(rows: list[Row], size: int) -> list[Row]:
    """s1's Algorithm 1: a domain, then one of its rows with probability 2^-rank by length."""
    rng, by_domain = random.Random(0), dict[str, list[Row]]()
    for row in sorted(rows, key=lambda row: -len(row["solution"].split())):
        by_domain.setdefault(row["domain"], []).append(row)
    chosen: list[Row] = []
    while by_domain and len(chosen) < size:
        domain = rng.choice(sorted(by_domain))
        left = by_domain[domain]
        rank = next((rank for rank in range(len(left)) if rng.random() < 0.5), 0)
        chosen.append(left.pop(rank))
        if not left:
            del by_domain[domain]
    return chosen


def main(how: str, folder: Path, benchmarks: list[Path]) -> dict[str, int]:
    """Curate a pool; rows after each step."""
    files = [Path(name) for name in json.loads((folder / "files.json").read_text())]
    pools = [list(read(file)) for file in files]
    asked = {gram for file in benchmarks for row in read(file) for gram in grams(row["question"])}
    kept = [[row for row in rows if sound(row, file.stem)] for file, rows in zip(files, pools, strict=True)]
    left = list(filtered(kept, asked, how))
    return {
        "read": sum(map(len, pools)),
        "sound": sum(map(len, kept)),
        "left": len(left),
        "chosen": len(draw(left, SIZE)),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])))
