"""s1's mathematical sources."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, PrivateAttr

from s1ray.curation.records import ColumnMapping
from s1ray.curation.s1_sources.base import S1Source, only, question_texts
from s1ray.reading.items import Record

MATH_COT = "math"
"""s1's `cot_type` of most sources."""


class Math(S1Source):
    """MATH without the 500 of MATH500: `simplescaling/openaimath`, train (12,000 rows; 11,999 in s1's pool)."""

    kind: str = "s1_math"
    repository: ClassVar[str] = "simplescaling/openaimath"
    columns: ColumnMapping = ColumnMapping(
        question="problem", solution="solution", answer="answer", source="subject", metadata=["cot_type"]
    )

    def adapt(self, record: Record, subset: str | None) -> Record | None:
        """Every row."""
        return record | {"cot_type": MATH_COT}


class NuminaMath(S1Source):
    """NuminaMath-CoT: all of AoPS' forum; of the rest only what s1 lists (30,660 rows in its pool).

    s1 also keeps 84 questions that are spelled out in its code, without saying how they were chosen; they are not here.
    """

    kind: str = "numina_math"
    repository: ClassVar[str] = "AI-MO/NuminaMath-CoT"
    columns: ColumnMapping = ColumnMapping(
        question="problem", solution="solution", source="source", metadata=["cot_type"]
    )
    others: str | None = None
    """File or folder with the questions (column `problem`) that are kept of the other origins: `simplescaling/
    numinamath_500`, exported. None: from the Hub where this source is, else none of them is kept."""
    _kept: set[str] | None = PrivateAttr(default=None)

    def adapt(self, record: Record, subset: str | None) -> Record | None:
        """AoPS' forum, and the listed ones of the other origins."""
        if record.get("source") != "aops_forum" and record.get("problem") not in self._others():
            return None
        return record | {"cot_type": MATH_COT}

    def inputs(self) -> list[str]:
        """The exported files, and the list."""
        return super().inputs() + ([] if self.others is None else [self.others])

    def _others(self) -> set[str]:
        if self._kept is None:
            asked = self.others is not None or self.path is None
            self._kept = (
                question_texts(self.others, "simplescaling/numinamath_500", None, "problem") if asked else set()
            )
        return self._kept


class OmniMath(S1Source):
    """Omni-MATH, test, all rows (4,238 in s1's pool)."""

    kind: str = "omni_math"
    repository: ClassVar[str] = "KbsdJames/Omni-MATH"
    parts: ClassVar[tuple[tuple[str | None, str], ...]] = ((None, "test"),)
    columns: ColumnMapping = ColumnMapping(
        question="problem", solution="solution", answer="answer", metadata=["cot_type"]
    )

    def adapt(self, record: Record, subset: str | None) -> Record | None:
        """Every row."""
        return record | {"cot_type": MATH_COT}


class OlympiadBench(S1Source):
    """OlympiadBench: open-ended and proofs, mathematics and physics, text only, English, competitions (896 rows).

    The solution is the first one. An answer is given where there is exactly one.
    """

    kind: str = "olympiad_bench"
    repository: ClassVar[str] = "Hothan/OlympiadBench"
    parts: ClassVar[tuple[tuple[str | None, str], ...]] = (
        ("OE_TO_maths_en_COMP", "train"),
        ("OE_TO_physics_en_COMP", "train"),
        ("TP_TO_maths_en_COMP", "train"),
        ("TP_TO_physics_en_COMP", "train"),
    )
    columns: ColumnMapping = ColumnMapping(
        question="{context}\n\n{question}",
        solution="solution",
        answer="answer",
        source="{question_type}/{subject}",
        metadata=["cot_type"],
    )
    context: bool = True
    """Put the context before the question. s1 forgot it, so some of its questions lack what they refer to; false gives
    those."""

    def adapt(self, record: Record, subset: str | None) -> Record | None:
        """Every row of the four subsets."""
        answer = only(record.get("final_answer"))
        context = record.get("context") if self.context else None
        return record | {"answer": answer, "context": context, "cot_type": MATH_COT}


class AIME(S1Source):
    """AIME up to 2021 (890 rows). 2022 to 2024 are s1's development set.

    The data set has answers alone; s1 takes them for solutions. It adds these rows after its decontamination, so they
    were never checked; here they are checked like all others.
    """

    kind: str = "aime_1983_2021"
    repository: ClassVar[str] = "qq8933/AIME_1983_2024"
    columns: ColumnMapping = ColumnMapping(
        question="Question", solution="Answer", answer="Answer", metadata=["cot_type"]
    )
    last_year: int = Field(default=2021, ge=1983)
    """The paper says 2021; s1's code says 2022."""

    def adapt(self, record: Record, subset: str | None) -> Record | None:
        """The years up to the last one, read off the row's ID ("1983-1")."""
        year = str(record.get("ID") or record.get("Year") or "").split("-")[0]
        if not year.isdigit() or int(year) > self.last_year:
            return None
        return record | {"cot_type": MATH_COT}


class TheoremQA(S1Source):
    """TheoremQA, test: questions without a picture (747 rows in s1's pool). The answer is the solution, as in s1."""

    kind: str = "theorem_qa"
    repository: ClassVar[str] = "TIGER-Lab/TheoremQA"
    parts: ClassVar[tuple[tuple[str | None, str], ...]] = ((None, "test"),)
    columns: ColumnMapping = ColumnMapping(
        question="Question", solution="Answer", answer="Answer", source="Answer_type", metadata=["cot_type"]
    )

    def adapt(self, record: Record, subset: str | None) -> Record | None:
        """Rows without a picture."""
        return None if record.get("Picture") is not None else record | {"cot_type": MATH_COT}


class S1Prob(S1Source):
    """s1-prob: 182 questions of Stanford's qualifying exams in probability, with proofs."""

    kind: str = "s1_prob"
    repository: ClassVar[str] = "simplescaling/s1-prob"
    columns: ColumnMapping = ColumnMapping(question="question", solution="solution", metadata=["cot_type"])

    def adapt(self, record: Record, subset: str | None) -> Record | None:
        """Every row."""
        return record | {"cot_type": MATH_COT}


class S1Teasers(S1Source):
    """s1-teasers: 23 brain teasers of interviews for quantitative traders. The answer is the solution, as in s1."""

    kind: str = "s1_teasers"
    repository: ClassVar[str] = "simplescaling/s1-teasers"
    columns: ColumnMapping = ColumnMapping(
        question="Question", solution="Answer", answer="Answer", metadata=["cot_type"]
    )

    def adapt(self, record: Record, subset: str | None) -> Record | None:
        """Every row, without space at its ends."""
        return record | {"Question": str(record.get("Question") or "").strip(), "cot_type": MATH_COT}
