"""s1's sources of science, exams, puzzles and code."""

from __future__ import annotations

import hashlib
import random
from typing import ClassVar

from pydantic import Field, PrivateAttr, model_validator

from s1ray.curation.records import ColumnMapping
from s1ray.curation.s1_sources.base import DrawnSource, S1Source, only, question_texts
from s1ray.reading.fields import opened_json
from s1ray.reading.items import Record

_OLYMPIC = ("Math", "Physics", "Chemistry", "Biology", "Geography", "Astronomy", "CS")


class OlympicArena(S1Source):
    """OlympicArena: seven subjects, test and val; English and text only (4,250 rows).

    An answer is given where there is exactly one; rows of the test split may have none.
    """

    kind: str = "olympic_arena"
    repository: ClassVar[str] = "GAIR/OlympicArena"
    parts: ClassVar[tuple[tuple[str | None, str], ...]] = tuple(
        (subject, split) for split in ("test", "val") for subject in _OLYMPIC
    )
    columns: ColumnMapping = ColumnMapping(
        question="problem", solution="solution", answer="answer", source="subject", metadata=["cot_type"]
    )

    def adapt(self, record: Record, subset: str | None) -> Record | None:
        """English rows without pictures."""
        if record.get("language") != "EN" or record.get("modality") != "text-only":
            return None
        cot_type = {"Math": "math", "CS": "coding"}.get(str(record.get("subject")), "science")
        return record | {"answer": only(record.get("answer")), "cot_type": cot_type}


class SciEval(DrawnSource):
    """SciEval, test and validation: 250 rows with an answer, balanced over tasks and topics (227 in s1's pool).

    As in s1 every task gets the same share, and the share of SocraticQA is spread over its topics. s1 draws with the
    shuffle of `datasets` under seed 42 and adds questions that its code spells out; here the draw is by a hash of the
    question, so the rows are others.
    """

    kind: str = "sci_eval"
    repository: ClassVar[str] = "OpenDFM/SciEval"
    parts: ClassVar[tuple[tuple[str | None, str], ...]] = ((None, "test"), (None, "validation"))
    columns: ColumnMapping = ColumnMapping(
        question="question", solution="answer", answer="answer", source="origin", metadata=["cot_type"]
    )
    size: int | None = Field(default=250, ge=1)

    def share(self, record: Record) -> tuple[str, ...]:
        """The task, and of SocraticQA the topic."""
        task = str(record.get("task_name"))
        return (task, str(record.get("topic")) if task == "SocraticQA" else "")

    def adapt(self, record: Record, subset: str | None) -> Record | None:
        """Rows with an answer, asked as a question."""
        answers = record.get("answer")
        answer = answers[0] if isinstance(answers, list) and answers else answers
        if answer is None or answer == []:
            return None
        question = str(record.get("question") or "").split("\n\nAnswer:")[0]
        for what in ("solvent", "ligand", "reactant"):
            question = question.replace(f"\nOptimal {what}:", f"\nWhat is the optimal {what}?")
        origin = "/".join(str(record.get(name)) for name in ("category", "type", "task_name"))
        medical = record.get("task_name") in ("MedQA", "PubMedQA")
        cot_type = "health science" if medical else "science"
        return record | {"question": question, "answer": answer, "origin": origin, "cot_type": cot_type}


class JEEBench(S1Source):
    """JEEBench, test, all rows (515). The answer is the solution, as in s1."""

    kind: str = "jee_bench"
    repository: ClassVar[str] = "daman1209arora/jeebench"
    parts: ClassVar[tuple[tuple[str | None, str], ...]] = ((None, "test"),)
    columns: ColumnMapping = ColumnMapping(
        question="question", solution="gold", answer="gold", source="subject", metadata=["cot_type"]
    )

    def adapt(self, record: Record, subset: str | None) -> Record | None:
        """Every row. s1 counts physics as mathematics here."""
        return record | {"cot_type": "science" if record.get("subject") == "chem" else "math"}


class AGIEval(S1Source):
    """AGIEval: SAT, LSAT, LogiQA, AQuA and the hardest of its MATH; test and few_shot (2,385 rows in s1's pool).

    The passage, the question and the options are joined, a blank line after the passage. s1 puts no space between the
    passage and the question, and leaves out the options of AQuA, whose answers are letters all the same; here they are
    in. Where a row has no solution, its answer is taken: neither the paper nor the code says what s1's rows had.
    """

    kind: str = "agieval"
    repository: ClassVar[str] = "baber/agieval"
    by_subset: ClassVar[bool] = True
    parts: ClassVar[tuple[tuple[str | None, str], ...]] = tuple(
        (subset, split)
        for subset in ("sat_en", "sat_math", "lsat_ar", "lsat_lr", "lsat_rc", "logiqa", "aqua_rat", "math_agieval")
        for split in ("test", "few_shot")
    )
    columns: ColumnMapping = ColumnMapping(
        question="{passage}\n\n{question}\n{options:letters}",
        solution="solution",
        answer="answer",
        source="subset",
        metadata=["cot_type", "answer_kind"],
    )

    def adapt(self, record: Record, subset: str | None) -> Record | None:
        """All rows; of MATH those of level 5."""
        if subset == "math_agieval" and str(record.get("level")) != "5":
            return None
        other = opened_json(record.get("other"))
        solution = record.get("solution") or (other.get("solution") if isinstance(other, dict) else None)
        label = record.get("label")
        answer = label or only(record.get("answer"))
        english = subset in ("sat_en", "lsat_ar", "lsat_lr", "lsat_rc")
        return record | {
            "solution": solution or answer,
            "answer": answer,
            "answer_kind": "choice" if label and record.get("options") else None,
            "subset": subset,
            "cot_type": "english" if english else "math",
        }


class GPQA(S1Source):
    """GPQA extended without Diamond, which is a benchmark; choices in the question, the letter in the solution (348).

    s1 shuffles the choices with one generator (seed 42) over all of s1K; here each question's own text decides, so a
    row has the same letters whatever else is in the pool. The repository asks for a login.
    """

    kind: str = "gpqa_extended"
    repository: ClassVar[str] = "Idavidrein/gpqa"
    parts: ClassVar[tuple[tuple[str | None, str], ...]] = (("gpqa_extended", "train"),)
    columns: ColumnMapping = ColumnMapping(
        question="question", solution="solution", answer="answer", source=None, metadata=["cot_type", "answer_kind"]
    )
    diamond: str | None = None
    """GPQA Diamond, exported (column `Question`). None: from the Hub; an exported GPQA needs it."""
    _benchmark: set[str] | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _knows_diamond(self) -> GPQA:
        if self.path is not None and self.diamond is None:
            raise ValueError("diamond: give GPQA Diamond, exported; its questions must not be in the pool")
        return self

    def adapt(self, record: Record, subset: str | None) -> Record | None:
        """The rows that are not in Diamond, compared to the letter."""
        question = str(record.get("Question") or "")
        if question in self._diamond():
            return None
        names = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3", "Correct Answer")
        choices = [str(record.get(name) or "").strip("\n") for name in names]
        order = [0, 1, 2, 3]
        random.Random(hashlib.sha256(question.encode("utf-8", "surrogatepass")).hexdigest()).shuffle(order)
        letter = "ABCD"[order.index(3)]
        lines = [f"({name}) {choices[place]}" for name, place in zip("ABCD", order, strict=True)]
        return record | {
            "question": "\n".join([question, "Answer Choices:", *lines]),
            "solution": f"{record.get('Explanation') or ''}\n\nAnswer: {letter}",
            "answer": letter,
            "answer_kind": "choice",
            "cot_type": "science",
        }

    def inputs(self) -> list[str]:
        """The exported files, Diamond among them."""
        return super().inputs() + ([] if self.diamond is None else [self.diamond])

    def _diamond(self) -> set[str]:
        if self._benchmark is None:
            self._benchmark = question_texts(self.diamond, self.repository, "gpqa_diamond", "Question")
        return self._benchmark


class Crosswords(DrawnSource):
    """xword1: 1,000 crossword clues after a fixed instruction (999 in s1's pool).

    s1 draws with the shuffle of `datasets` under seed 42, here by a hash of the clue.
    """

    kind: str = "xword"
    repository: ClassVar[str] = "0xharib/xword1"
    columns: ColumnMapping = ColumnMapping(
        question="question", solution="output", answer="output", metadata=["cot_type"]
    )
    size: int | None = Field(default=1000, ge=1)

    def adapt(self, record: Record, subset: str | None) -> Record | None:
        """Every row that has a clue."""
        _, marker, clue = str(record.get("input") or "").partition("### Clue: ")
        if not marker:
            return None
        return record | {"question": f"{INSTRUCTION}\n\n{clue.split('### Clue: ')[0]}", "cot_type": "crossword"}


INSTRUCTION = (
    "Solve the crossword puzzle. You are presented with a clue as input and the number of letters in brackets."
)
"""s1's, before every clue."""


class USACO(S1Source):
    """USACO, test, all rows (519). They have no solutions, so s1's quality filter drops them all."""

    kind: str = "usaco"
    repository: ClassVar[str] = "codegenning/usacobench_formatted"
    parts: ClassVar[tuple[tuple[str | None, str], ...]] = ((None, "test"),)
    columns: ColumnMapping = ColumnMapping(question="question", metadata=["cot_type"])

    def adapt(self, record: Record, subset: str | None) -> Record | None:
        """Every row, without space at its ends."""
        return record | {"question": str(record.get("question") or "").strip(), "cot_type": "coding"}


class LiveCodeBench(S1Source):
    """LiveCodeBench, releases 1 to 3, hard problems (151 in s1's pool). They have no solutions, as USACO's.

    The releases are cumulative, so they come as one: s1 joins all three and drops the repetitions. The repository is a
    loading script, which `datasets` runs no more: export its test.jsonl, test2.jsonl and test3.jsonl and give `path`.
    """

    kind: str = "live_code_bench"
    repository: ClassVar[str] = "livecodebench/code_generation_lite"
    parts: ClassVar[tuple[tuple[str | None, str], ...]] = ((None, "test"),)
    columns: ColumnMapping = ColumnMapping(question="question_content", metadata=["cot_type"])

    def adapt(self, record: Record, subset: str | None) -> Record | None:
        """The hard ones."""
        if record.get("difficulty") != "hard":
            return None
        text = str(record.get("question_content") or "").strip()
        return record | {"question_content": text, "cot_type": "coding"}
