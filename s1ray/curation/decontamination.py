"""Removing questions that a benchmark asks: s1's 8-gram rule, and a search for whole benchmark questions.

The rule (section 2 of the paper, `decontaminate_util.py` in s1's code): lower-case, collapse whitespace, and drop a
question that shares eight words in a row with any benchmark question. Words are separated by spaces and keep their
punctuation. So a question of seven words is never dropped (8 % of MATH is that short), and a comma attached to a word
hides a match. Looking for whole benchmark questions, in normal form, catches both. On MATH it finds nothing but leaks,
so it is on by default.

The rule also has false positives: stock phrases ("where m and n are relatively prime positive integers") are long
enough to match. Of 915 AIME questions up to 2021 it flags 255 against the 90 of 2022 to 2024. `boilerplate` ignores
n-grams that several benchmark questions share (3: 163 are flagged); it is off by default, as in s1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from s1ray.benchmarks import check_there, is_file, load_benchmark
from s1ray.curation.config import Benchmark, DecontaminationConfig
from s1ray.curation.records import column_of, file_records, matching, text_of
from s1ray.curation.text import tokens, word_ngrams

_PREFIX = 3
_MIN_TOKENS = 4
"""Shorter benchmark questions ("2 + 2") are found by equality only, because many questions contain them."""


@dataclass
class BenchmarkIndex:
    """The benchmarks' n-grams and whole questions, each with the label of its question."""

    ngram: int
    ngrams: dict[str, str] = field(default_factory=dict)
    whole: dict[tuple[str, ...], str] = field(default_factory=dict)
    by_prefix: dict[tuple[str, ...], list[tuple[str, ...]]] = field(default_factory=dict)

    @classmethod
    def load(cls, config: DecontaminationConfig) -> BenchmarkIndex:
        """Index the configured benchmarks.

        Raises:
            S1rayError: one of them cannot be read.
        """
        return cls.build((pair for each in config.benchmarks for pair in benchmark_questions(each)), config)

    @classmethod
    def build(cls, questions: Iterable[tuple[str, str]], config: DecontaminationConfig) -> BenchmarkIndex:
        """Index (label, question) pairs. An n-gram that several questions share has the first one's label."""
        index = cls(config.ngram)
        asked_by: Counter[str] = Counter()
        for label, question in questions:
            grams = set(word_ngrams(question, index.ngram))
            asked_by.update(grams)
            for gram in grams:
                index.ngrams.setdefault(gram, label)
            words = tuple(tokens(question))
            if config.whole_questions and words and words not in index.whole:
                index.whole[words] = label
                if len(words) >= _MIN_TOKENS:
                    index.by_prefix.setdefault(words[:_PREFIX], []).append(words)
        if config.boilerplate is not None:
            index.ngrams = {gram: label for gram, label in index.ngrams.items() if asked_by[gram] < config.boilerplate}
        return index

    def leak(self, question: str) -> tuple[str, str] | None:
        """How a question repeats a benchmark question, and which: (reason, label), or None."""
        label = self._contained(question) if self.whole else None
        if label is not None:
            return "contains a benchmark question", label
        for gram in word_ngrams(question, self.ngram):
            label = self.ngrams.get(gram)
            if label is not None:
                return f"shares {self.ngram} words in a row with a benchmark question", label
        return None

    def _contained(self, question: str) -> str | None:
        words = tuple(tokens(question))
        if words in self.whole:
            return self.whole[words]
        for start in range(len(words) - _PREFIX + 1):
            for asked in self.by_prefix.get(words[start : start + _PREFIX], ()):
                if words[start : start + len(asked)] == asked:
                    return self.whole[asked]
        return None


def benchmark_questions(benchmark: Benchmark) -> Iterator[tuple[str, str]]:
    """(label, question) of every question of a benchmark.

    Raises:
        MissingError: it is neither a file nor a registered name.
        InputError: its file has no such column, or its function gives no Question rows.
    """
    name = benchmark.label
    if not is_file(benchmark.path):
        yield from ((f"{name}/{question.id}", question.question) for question in load_benchmark(benchmark.path))
        return
    check_there(benchmark.path)
    origin = f"decontamination.benchmarks: {benchmark.path}"
    for number, record in enumerate(matching(file_records(benchmark.path), benchmark.where, origin)):
        question = text_of(column_of(record, benchmark.question, origin))
        if question:
            yield f"{name}/{number}", question
