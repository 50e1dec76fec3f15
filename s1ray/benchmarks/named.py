"""The benchmarks that have names, in the columns that they have on the Hugging Face Hub.

They are asked as s1's evaluation asks them: the question as it is, without instructions.
"""

from __future__ import annotations

from s1ray.benchmarks.definition import Benchmark

AIME24 = Benchmark(
    name="aime24",
    hub="simplescaling/aime24_nofigures",
    split="train",
    question="problem",
    answer="answer",
    solution="solution",
    answer_kind="number",
)
"""AIME 2024 (30): code of figures only where a question needs it. s1's reported numbers are on it."""

AIME24_FIGURES = AIME24.model_copy(update={"name": "aime24_figures", "hub": "simplescaling/aime24_figures"})
"""The same with the code of every figure."""

AIME25 = Benchmark(
    name="aime25",
    hub="TIGER-Lab/AIME25",
    split="train",
    question="question",
    answer="answer",
)
"""AIME 2025 (30)."""

MATH500 = Benchmark(
    name="math500",
    hub="HuggingFaceH4/MATH-500",
    question="problem",
    answer="answer",
    solution="solution",
    domain="subject",
    metadata=["level", "unique_id"],
)
"""The 500 questions of MATH's test set that Lightman et al. held out; `simplescaling/openaimath` has the same."""

GPQA_DIAMOND = Benchmark(
    name="gpqa_diamond",
    hub="Idavidrein/gpqa",
    subset="gpqa_diamond",
    split="train",
    question="Question",
    options=["Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"],
    domain="High-level domain",
    answer_kind="choice",
    private_text=True,
)
"""GPQA Diamond (198). Access has to be asked for on the Hub, and its authors ask not to publish the questions."""

AMC23 = Benchmark(name="amc23", hub="math-ai/amc23", question="question", answer="answer", answer_kind="number")
"""AMC 12 2023 (40), with whole numbers as answers."""

OLYMPIADBENCH = Benchmark(
    name="olympiadbench",
    hub="Hothan/OlympiadBench",
    subset="OE_TO_maths_en_COMP",
    split="train",
    question="{context}\n\n{question}",
    answer="final_answer",
    solution="solution",
    domain="subfield",
    metadata=["id", "answer_type", "unit", "is_multiple_answer"],
)
"""OlympiadBench's open-ended competition mathematics in English, without pictures (674)."""

OLYMMATH = Benchmark(
    name="olymmath",
    hub="RUC-AIBOX/OlymMATH",
    subset="en-hard",
    question="problem",
    answer="answer",
    domain="subject",
    metadata=["unique_id"],
)
"""OlymMATH in English, hard (100)."""

OLYMMATH_EASY = OLYMMATH.model_copy(update={"name": "olymmath_easy", "subset": "en-easy"})
"""OlymMATH in English, easy (100)."""

MINERVA = Benchmark(name="minerva", hub="math-ai/minervamath", question="question", answer="answer")
"""Minerva's questions from university courses in science (272)."""

GSM8K = Benchmark(
    name="gsm8k",
    hub="openai/gsm8k",
    subset="main",
    question="question",
    answer="answer",
    answer_after="####",
    solution="answer",
    answer_kind="number",
)
"""GSM8K's test set (1,319)."""
