"""An index of benchmark questions, built once and asked for a block of rows at a time."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

from s1ray.curation.config import DecontaminationConfig
from s1ray.curation.decontamination.benchmarks import benchmark_questions, has_private_text
from s1ray.curation.decontamination.embeddings import Meanings
from s1ray.curation.decontamination.hits import Finding, Hit
from s1ray.curation.decontamination.likeness import NormalRuns, Overlap, Templates, WordRuns
from s1ray.curation.decontamination.whole import WholeQuestions
from s1ray.curation.text.blocks import TokenBlock, WordBlock
from s1ray.storage import location

_DRAWING = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL)
"""Code of a figure: alike whatever is asked."""
WITHHELD = "(this benchmark's questions are not to be published)"
"""In place of the text of a benchmark's question."""


class BenchmarkIndex:
    """Finds benchmark questions in rows, in the tiers of a config."""

    def __init__(self, questions: Sequence[tuple[str, str]], config: DecontaminationConfig) -> None:
        """Index (label, question) pairs."""
        self.config = config
        self.private = {each.label for each in config.benchmarks if has_private_text(each)}
        self.drops, self.reviews = config.tiers()
        tiers = {*self.drops, *self.reviews}
        boilerplate = None if config.recipe == "s1_code" else config.boilerplate
        block = TokenBlock.of([question for _, question in questions])
        prose = TokenBlock.of([_DRAWING.sub(" ", question) for _, question in questions])
        self.needs_tokens = bool(tiers - {"s1_ngrams"})
        self.needs_solutions = config.solutions and bool(tiers & {"whole", "letters"})
        self.whole = WholeQuestions(questions if tiers & {"whole", "letters"} else ())
        self.words = WordRuns(questions, config.ngram, boilerplate) if "s1_ngrams" in tiers else None
        self.runs = NormalRuns(questions, prose, config.normal_ngram, boilerplate) if "ngrams" in tiers else None
        self.templates = Templates(questions, block) if "template" in tiers else None
        self.meanings = None
        if "embedding" in tiers:
            folder, same = location(str(config.encoder)), config.same_numbers
            self.meanings = Meanings(questions, block, folder, config.cosine, same_numbers=same)
        self.overlap = Overlap(questions, prose, config.overlap) if "overlap" in tiers else None

    @classmethod
    def load(cls, config: DecontaminationConfig) -> BenchmarkIndex:
        """Index the configured benchmarks.

        Raises:
            S1rayError: one of them cannot be read.
        """
        return cls([pair for each in config.benchmarks for pair in benchmark_questions(each)], config)

    @classmethod
    def build(cls, questions: Iterable[tuple[str, str]], config: DecontaminationConfig) -> BenchmarkIndex:
        """Index (label, question) pairs."""
        return cls(list(questions), config)

    def find(
        self,
        questions: Sequence[str],
        block: TokenBlock | None = None,
        solutions: Sequence[str | None] | None = None,
        words: WordBlock | None = None,
    ) -> list[Finding]:
        """What each row has of the benchmarks.

        Args:
            questions: N texts.
            block: their tokens, where they are there.
            solutions: N texts or None; whole benchmark questions are looked for in them, too.
            words: of the questions, where they are there.

        Returns:
            N findings.
        """
        findings = [Finding() for _ in questions]
        for hits in self._hits(questions, block, words):
            self._enter(findings, hits)
        if self.needs_solutions and solutions is not None and self.whole.asked:
            self._enter(findings, self._in_solutions(solutions))
        return findings

    def _hits(
        self, questions: Sequence[str], block: TokenBlock | None, words: WordBlock | None
    ) -> Iterable[dict[int, Hit]]:
        if self.needs_tokens:
            block = block or TokenBlock.of(questions)
            yield self.whole.find(questions, block)
            for each in (self.runs, self.templates, self.overlap, self.meanings):
                if isinstance(each, NormalRuns):
                    yield each.find(block)
                elif each is not None:
                    yield each.find(questions, block)
        if self.words is not None:
            yield self.words.find(words or WordBlock.of(questions))

    def _enter(self, findings: list[Finding], hits: dict[int, Hit]) -> None:
        for row, found in hits.items():
            private = found.label.rpartition("/")[0] in self.private
            hit = dataclasses.replace(found, asked=WITHHELD) if private else found
            if hit.tier in self.drops:
                findings[row].drop = findings[row].drop or hit
            elif hit.tier in self.reviews:
                findings[row].review.append(hit)

    def _in_solutions(self, solutions: Sequence[str | None]) -> dict[int, Hit]:
        """Whole questions in solutions; only those that have a run of its prose are looked at."""
        given = [row for row, solution in enumerate(solutions) if solution]
        likely = self.whole.plain.rows([solutions[row] or "" for row in given], long=True)
        chosen = [given[number] for number in sorted(likely)]
        texts = [solutions[row] or "" for row in chosen]
        return {chosen[row]: hit for row, hit in self.whole.find(texts, TokenBlock.of(texts), "solution").items()}
