"""Near duplicates beside MinHash of other packages: what each finds in real questions, and in rows of one template.

The truth is found without hashes: all pairs whose word triples have a Jaccard similarity of `JACCARD`, by prefix
filtering. Of these, the pairs of the rule (`s1ray.curation.near_duplicates`) are the ones where one question only adds
words to the other.
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.curation.pool import SOURCES
from benchmarks.curation.rewrites import rows_of
from s1ray.curation.near_duplicates import minhash_bands, near_duplicates, near_equal, shingles
from s1ray.curation.text.normal import tokens

JACCARD = 0.8
PERMUTATIONS = 128
TEMPLATE = "Some {} and some {} are on the old table in the kitchen. Which of the two does the cook like best?"
Pairs = set[tuple[int, int]]
Candidates = list[tuple[int, int]]
Shingles = Sequence[set[str]]


@dataclass(frozen=True)
class Truth:
    """What there is in a pool."""

    questions: int
    """Of different normal forms."""
    pairs: int
    """At least `JACCARD` alike."""
    other_answers: int
    """Those of the pairs whose answers differ: merging them loses a problem."""
    rule: int
    """Those of the pairs where one question only adds words."""
    rule_other_answers: int


@dataclass(frozen=True)
class Found:
    """What an arm finds, before anything is checked exactly."""

    arm: str
    cpu_s: float
    candidates: int
    recall: float
    """Of all pairs."""
    precision: float
    rule_recall: float
    """Of the rule's pairs."""


@dataclass(frozen=True)
class OneTemplate:
    """Rows of one template, none of which repeats another."""

    arm: str
    rows: int
    cpu_s: float
    left_to_check: int
    """Pairs whose similarity has to be looked at yet; ours has done that."""


def measure() -> dict[str, object]:
    """The figures of real questions, and of one template."""
    questions, answers = _questions()
    alike = [shingles([token.lower() for token in tokens(question)]) for question in questions]
    pairs = _exact(alike)
    rule = {pair for pair in pairs if near_equal(questions[pair[0]], questions[pair[1]], JACCARD)}
    truth = Truth(len(questions), len(pairs), _differ(pairs, answers), len(rule), _differ(rule, answers))
    found = [_score(name, arm(questions, alike), pairs, rule) for name, arm in ARMS.items()]
    nouns = [f"{a}{b}" for a in ("apple", "berry", "cherry", "lemon", "melon") for b in "abcdefghijklmnopqrst"]
    rows = [TEMPLATE.format(one, other) for one in nouns for other in nouns]
    same = [shingles([token.lower() for token in tokens(row)]) for row in rows]
    template = [OneTemplate("ours", len(rows), _seconds(rows), 0)]
    for name in sorted(ARMS.keys() - {"ours"}):
        left, seconds = ARMS[name](rows, same)
        template.append(OneTemplate(name, len(rows), seconds, len(left)))
    return {
        "real": asdict(truth),
        "arms": [asdict(each) for each in found],
        "one template": [asdict(each) for each in template],
    }


def _questions() -> tuple[list[str], list[str]]:
    """Real questions of different normal forms, and their answers."""
    known: dict[str, tuple[str, str]] = {}
    for file, read in SOURCES.values():
        for record in rows_of(file):
            row = {name: str(value or "") for name, value in read(record).items()}
            known.setdefault(" ".join(tokens(row["question"])), (row["question"], row["answer"]))
    questions, answers = zip(*known.values(), strict=True)
    return list(questions), list(answers)


def _differ(pairs: Iterable[tuple[int, int]], answers: Sequence[str]) -> int:
    return sum(answers[one].strip() != answers[other].strip() for one, other in pairs)


def _exact(alike: Shingles) -> Pairs:
    """All pairs that are alike: two such sets share one of their rarest elements."""
    frequency = Counter(element for each in alike for element in each)
    rank = {element: number for number, (element, _) in enumerate(sorted(frequency.items(), key=lambda pair: pair[1]))}
    having: dict[str, list[int]] = defaultdict(list)
    pairs: Pairs = set()
    for row, each in enumerate(alike):
        likely = set[int]()
        for element in sorted(each, key=rank.__getitem__)[: len(each) - math.ceil(JACCARD * len(each)) + 1]:
            likely.update(having[element])
            having[element].append(row)
        for other in likely:
            shared = len(each & alike[other])
            if shared >= JACCARD * (len(each) + len(alike[other]) - shared):
                pairs.add((other, row))
    return pairs


def _score(name: str, made: tuple[Candidates, float], pairs: Pairs, rule: Pairs) -> Found:
    candidates, seconds = set(made[0]), made[1]
    right = len(candidates & pairs)
    shares = (right / len(pairs), right / max(1, len(candidates)), len(candidates & rule) / len(rule))
    return Found(name, seconds, len(candidates), *(round(share, 4) for share in shares))


def _ours(questions: Sequence[str], alike: Shingles) -> tuple[Candidates, float]:
    """The whole work, from text to the exact check; candidates are the pairs that share a band."""
    bands = minhash_bands(questions)
    seconds = _seconds(questions)
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, keys in enumerate(bands.tolist()):
        for band, key in enumerate(keys):
            groups[band, key].append(row)
    candidates = [(one, other) for rows in groups.values() for place, other in enumerate(rows) for one in rows[:place]]
    return candidates, seconds


def _seconds(questions: Sequence[str]) -> float:
    """Processor time of finding near duplicates, from text to the exact check."""
    start = time.process_time()
    near_duplicates(np.arange(len(questions)), questions, minhash_bands(questions), JACCARD)
    return round(time.process_time() - start, 2)


def _datasketch(questions: Sequence[str], alike: Shingles) -> tuple[Candidates, float]:
    """Signatures and queries, without cutting the text into words."""
    from datasketch import MinHash, MinHashLSH

    start = time.process_time()
    texts = [[element.encode() for element in each] for each in alike]
    index, candidates = MinHashLSH(threshold=JACCARD, num_perm=PERMUTATIONS), Candidates()
    for row, signature in enumerate(MinHash.generator(texts, num_perm=PERMUTATIONS)):
        candidates += [(other, row) for other in index.query(signature)]
        index.insert(row, signature)
    return candidates, round(time.process_time() - start, 2)


def _rensa(questions: Sequence[str], alike: Shingles) -> tuple[Candidates, float]:
    """As with datasketch."""
    from rensa import RMinHash, RMinHashLSH

    start = time.process_time()
    index, candidates = RMinHashLSH(threshold=JACCARD, num_perm=PERMUTATIONS, num_bands=16), Candidates()
    for row, each in enumerate(alike):
        signature = RMinHash(num_perm=PERMUTATIONS, seed=42)
        signature.update(list(each))
        candidates += [(other, row) for other in index.query(signature)]
        index.insert(row, signature)
    return candidates, round(time.process_time() - start, 2)


Arm = Callable[[Sequence[str], Shingles], tuple[Candidates, float]]
_ALL: dict[str, Arm] = {"ours": _ours, "datasketch": _datasketch, "rensa": _rensa}
ARMS = {name: arm for name, arm in _ALL.items() if name == "ours" or importlib.util.find_spec(name) is not None}
"""Those whose packages are installed."""
