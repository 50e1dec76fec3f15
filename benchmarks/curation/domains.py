"""How often the embedding classifier of domains agrees with labels of public questions, beside the most frequent one.

Two tasks: MATH's seven subjects on its test rows, and classes of MSC on Omni-MATH, whose paths are brought into MSC by
prefixes. Examples are MATH's training rows in both; Omni-MATH's own labels are never learned from.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from s1ray.config import validate_config
from s1ray.curation.domains.config import DomainConfig
from s1ray.curation.domains.embedding import LinearClassifier, by_descriptions, by_examples
from s1ray.curation.domains.taxonomy import Taxonomy
from s1ray.curation.encoder import Encoder, Vectors
from s1ray.grading.interval import wilson_interval

SUBJECTS = {
    "Algebra": "linear and quadratic equations, systems of equations, functions, exponents, logarithms and radicals",
    "Counting & Probability": "combinations and permutations, in how many ways, chances of dice, cards and draws",
    "Geometry": "triangles, circles, polygons and solids; angles, lengths, areas and volumes",
    "Intermediate Algebra": "polynomials and their roots, conic sections, inequalities, series, functional equations",
    "Number Theory": "divisors, primes, remainders, modular arithmetic, digits and number bases",
    "Prealgebra": "arithmetic with fractions, decimals and percentages, averages, simple word problems",
    "Precalculus": "trigonometric functions, vectors, matrices, complex numbers in polar form, planes in space",
}
"""MATH's subjects, and what belongs to each."""
MSC_OF_SUBJECTS = {
    "Algebra": "12",
    "Intermediate Algebra": "12",
    "Prealgebra": "97",
    "Precalculus": "26",
    "Counting & Probability": "05",
}
"""Classes for the subjects that are none by their name."""
MSC_OF_PATHS = {
    "Mathematics -> Algebra": "12",
    "Mathematics -> Algebra -> Abstract Algebra -> Group Theory": "20",
    "Mathematics -> Algebra -> Linear Algebra": "15",
    "Mathematics -> Algebra -> Prealgebra": "97",
    "Mathematics -> Applied Mathematics": "97",
    "Mathematics -> Applied Mathematics -> Probability": "60",
    "Mathematics -> Applied Mathematics -> Statistics": "62",
    "Mathematics -> Applied Mathematics -> Statistics -> Probability": "60",
    "Mathematics -> Applied Mathematics -> Statistics -> Probability -> Counting Methods": "05",
    "Mathematics -> Calculus": "26",
    "Mathematics -> Discrete Mathematics": "05",
    "Mathematics -> Discrete Mathematics -> Algorithms": "68",
    "Mathematics -> Geometry": "51",
    "Mathematics -> Number Theory": "11",
    "Mathematics -> Precalculus": "26",
}
"""Classes for Omni-MATH's paths."""
PER_DOMAIN = (10, 50, 200)
"""Examples of each domain, besides all of them."""
CHUNK = 1024
Labels = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Score:
    """How often an arm agrees with the labels of N questions."""

    task: str
    arm: str
    questions: int
    correct: int
    macro_f1: float
    """Mean over the domains that the labels have."""

    def figures(self) -> dict[str, object]:
        """The numbers, for JSON."""
        low, high = wilson_interval(self.correct, self.questions)
        shares = {"accuracy": self.correct / self.questions, "low": low, "high": high, "macro F1": self.macro_f1}
        named = {"task": self.task, "arm": self.arm, "questions": self.questions}
        return named | {name: round(share, 4) for name, share in shares.items()}


def score(task: str, arm: str, found: Labels, labels: Labels) -> Score:
    """Compare what an arm found with the labels; shapes (N,)."""
    f1 = []
    for label in np.unique(labels):
        both = int(((found == label) & (labels == label)).sum())
        f1.append(2 * both / int((found == label).sum() + (labels == label).sum()))
    return Score(task, arm, len(labels), int((found == labels).sum()), float(np.mean(f1)))


def measure(data: Path, encoder: Path) -> tuple[list[Score], dict[str, float]]:
    """Score all arms of both tasks.

    Args:
        data: folder of math_12500.parquet and omni_math_rule_2821.parquet.
        encoder: folder of the sentence encoder.

    Returns:
        The scores, and CPU milliseconds a question that embedding takes in this process.
    """
    import pyarrow.parquet as pq

    model, began = Encoder(encoder, "--encoder"), time.process_time()
    math = pq.read_table(data / "math_12500.parquet", columns=["problem", "subject", "split"])
    omni = pq.read_table(data / "omni_math_rule_2821.parquet", columns=["problem", "domain"])
    vectors = [_embedded(model, table.column("problem").to_pylist()) for table in (math, omni)]
    per_question = (time.process_time() - began) * 1000 / (len(math) + len(omni))
    subjects, train = (
        np.array(math.column("subject").to_pylist()),
        np.array(math.column("split").to_pylist()) == "train",
    )

    own = Taxonomy.of(SUBJECTS)
    scores = _arms(
        "MATH's subjects", own, model, (vectors[0][train], subjects[train]), (vectors[0][~train], subjects[~train])
    )
    msc = {"taxonomy": "msc", "mapping": MSC_OF_SUBJECTS, "prefixes": MSC_OF_PATHS}
    config = validate_config(DomainConfig, msc, "benchmark")
    paths = [config.of_source(domain[0])[0] if domain else None for domain in omni.column("domain").to_pylist()]
    known = np.array([path is not None for path in paths])
    classes = np.array([config.of_source(subject)[0] for subject in subjects[train].tolist()])
    scores += _arms(
        "MSC of Omni-MATH",
        Taxonomy.named("msc"),
        model,
        (vectors[0][train], classes),
        (vectors[1][known], np.array([path for path in paths if path is not None])),
    )
    return scores, {"embedding, CPU milliseconds a question": round(per_question, 2)}


def _embedded(model: Encoder, texts: Sequence[str]) -> Vectors:
    return np.concatenate([model.embed(texts[start : start + CHUNK]) for start in range(0, len(texts), CHUNK)])


def _arms(
    task: str,
    taxonomy: Taxonomy,
    model: Encoder,
    examples: tuple[Vectors, Labels],
    asked: tuple[Vectors, Labels],
) -> list[Score]:
    vectors, labels = asked
    (often, _), *_ = Counter(labels.tolist()).most_common(1)
    found: Mapping[str, LinearClassifier] = {"closest description": by_descriptions(taxonomy, model.embed)}
    for count in (*PER_DOMAIN, None):
        rows = _first(examples[1], count)
        name = f"{count} examples a domain" if count else f"{len(rows):,} examples"
        found = {**found, name: by_examples(examples[0][rows], examples[1][rows].tolist())}
    scores = [score(task, f"always {often}", np.full(len(labels), often), labels)]
    for name, classifier in found.items():
        best, _ = classifier.best(vectors)
        scores.append(score(task, name, np.array(classifier.names)[best], labels))
    return scores


def _first(labels: Labels, count: int | None) -> npt.NDArray[np.int64]:
    """The first rows of each label."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]))
