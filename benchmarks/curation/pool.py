"""Pools of any size out of real questions: the questions themselves, then variants with other numbers and names.

The n-th variants of all questions come before the next ones, so that a pool of some ten thousand rows is real. A
variant has other numbers, and other names where the question has some; where it has few numbers, it begins with who
asks, and a number. So hardly any text is there twice that the data sets do not have twice, and no variant only adds
words to another one.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.curation.rewrites import rows_of

Row = dict[str, str]
"""question, solution, answer, domain"""
NAMES = (
    *("Ann", "Bob", "Carla", "Dev", "Emil", "Fay", "Gus", "Hana", "Ivo", "Jun", "Kofi", "Lea", "Mark", "Nia", "Omar"),
    *("Pia", "Raj", "Sofia", "Tim", "Uma", "Vera", "Wen", "Yara", "Zoe", "James", "Maria", "John", "Emily", "Tom"),
)
_NUMBER = re.compile(r"\d+")
_NAME = re.compile(rf"\b(?:{'|'.join(NAMES)})\b")
_ENOUGH = 3
"""Numbers that make a text another one."""


def _agieval(row: Mapping[str, Any]) -> Row:
    options = "\n".join(str(option) for option in row["options"] or [])
    question = "\n".join(part for part in (row["passage"], row["question"], options) if part)
    return {"question": question, "solution": f"The answer is {row['label']}.", "answer": str(row["label"])}


def _math(row: Mapping[str, Any]) -> Row:
    return {"question": row["problem"], "solution": row["solution"], "answer": row["answer"], "domain": row["subject"]}


def _gsm8k(row: Mapping[str, Any]) -> Row:
    return {"question": row["question"], "solution": row["answer"], "answer": row["final_answer"]}


def _omni(row: Mapping[str, Any]) -> Row:
    paths = str(row["domain"]).strip("[]'\"").split(" -> ")
    domain = paths[1].split("'")[0] if len(paths) > 1 else "Mathematics"
    return {"question": row["problem"], "solution": row["solution"], "answer": row["answer"], "domain": domain}


def _olympiad(row: Mapping[str, Any]) -> Row:
    solution, answer = (str((row[name] or [""])[0]) for name in ("solution", "final_answer"))
    return {"question": row["question"], "solution": solution, "answer": answer, "domain": row["subfield"]}


def _theoremqa(row: Mapping[str, Any]) -> Row:
    return {
        "question": row["Question"],
        "solution": row["explanation"],
        "answer": row["Answer"],
        "domain": row["field"],
    }


def _aime(row: Mapping[str, Any]) -> Row:
    return {"question": row["problem"], "solution": row["solution"], "answer": row["answer"]}


SOURCES: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Row]]] = {
    "MATH": ("math_12500.parquet", _math),
    "TheoremQA": ("theoremqa.parquet", _theoremqa),
    "Omni-MATH": ("omni_math_rule_2821.parquet", _omni),
    "OlympiadBench": ("olympiadbench_oe_maths_en.parquet", _olympiad),
    "SAT": ("agieval_sat-math.parquet", _agieval),
    "LogiQA": ("agieval_logiqa-en.parquet", _agieval),
    "AQuA": ("agieval_aqua-rat.parquet", _agieval),
    "GSM8K": ("gsm8k.parquet", _gsm8k),
    "AIME": ("aime_1983_2024.parquet", _aime),
}
"""Name -> file and how its rows are read, in the order of the sources."""


def write_pool(folder: Path, count: int) -> list[Path]:
    """Write a pool as one file of JSON lines for each source.

    Args:
        folder: for the files; those that are there are taken as they are.
        count: rows of all files together.

    Returns:
        The files, in the order of the sources.
    """
    files = [folder / f"{name}.jsonl" for name in SOURCES]
    if (folder / "done").exists():
        return files
    folder.mkdir(parents=True, exist_ok=True)
    base = [(place, _texts(read(row), name)) for place, (name, (file, read)) in enumerate(SOURCES.items())
            for row in rows_of(file)]  # fmt: skip
    with ExitStack() as stack:
        outputs = [stack.enter_context(file.open("w", encoding="utf-8")) for file in files]
        for place, row in _variants(base, count):
            outputs[place].write(json.dumps(row, ensure_ascii=False) + "\n")
    (folder / "done").touch()
    return files


def _texts(row: Row, name: str) -> Row:
    return {"domain": name} | {field: str(value or "") for field, value in row.items()}


def _variants(base: list[tuple[int, Row]], count: int) -> Iterator[tuple[int, Row]]:
    rng = random.Random(0)
    for number in range(count):
        turn, at = divmod(number, len(base))
        place, row = base[at]
        if turn:
            row = row | {"question": variant(row["question"], rng)}
        yield place, row


def variant(question: str, rng: random.Random) -> str:
    """Another question of the same kind (see the module)."""
    renamed = _NAME.sub(lambda _: rng.choice(NAMES), question)
    # About as many digits as before, so that texts stay as long as they are.
    changed, count = _NUMBER.subn(lambda match: str(rng.randrange(2, 10 ** (len(match[0]) + 1))), renamed)
    if count >= _ENOUGH:
        return changed
    return f"{rng.choice(NAMES)} asks {rng.choice(NAMES)}, no. {rng.randrange(10**9)}: {changed}"
