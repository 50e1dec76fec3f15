"""What each tier of decontamination finds of rewritten benchmark questions, and what it finds in a clean pool."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.curation.rewriting import REWRITES
from s1ray.curation.config import DecontaminationConfig, Tier
from s1ray.curation.decontamination import BenchmarkIndex, Finding, Hit
from s1ray.curation.text import TokenBlock, word_ngrams

DATA = Path(os.environ.get("S1RAY_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
TIERS: tuple[Tier, ...] = ("whole", "letters", "s1_ngrams", "ngrams", "template", "overlap")
BESIDE = ("13-grams", "MinHash 0.5")
"""Word 13-grams, and what MinHash estimates: the Jaccard similarity of word triples."""
POOL = (
    ("math_12500.parquet", "problem"),
    ("gsm8k.parquet", "question"),
    ("omni_math_rule_2821.parquet", "problem"),
    ("olympiadbench_oe_maths_en.parquet", "question"),
    ("theoremqa.parquet", "Question"),
    ("agieval_sat-math.parquet", "question"),
    ("agieval_aqua-rat.parquet", "question"),
)

Questions = list[tuple[str, str]]
Found = Callable[[Sequence[str]], list[set[str]]]
"""What an arm finds in each text: names of its tiers."""


def rows_of(name: str) -> list[dict[str, object]]:
    """The rows of a file of the shared data.

    Raises:
        FileNotFoundError: it is not there.
    """
    import pyarrow.parquet as pq

    if not (DATA / name).exists():
        raise FileNotFoundError(f"{DATA / name}: no such file")
    rows: list[dict[str, object]] = pq.read_table(DATA / name).to_pylist()
    return rows


def benchmark() -> Questions:
    """MATH500 and AIME 2022 to 2024."""
    math = [(str(row["unique_id"]), str(row["problem"])) for row in rows_of("math500.parquet")]
    aime = [row for row in rows_of("aime_1983_2024.parquet") if int(str(row["year"])) >= 2022]
    return math + [(f"aime/{row['year']}/{number}", str(row["problem"])) for number, row in enumerate(aime)]


def clean_pool(asked: Questions) -> list[str]:
    """Questions of other sources that are none of the benchmark's, to the letter but for white space and case."""
    known = {" ".join(question.lower().split()) for _, question in asked}
    pool: dict[str, None] = {}
    for name, column in POOL:
        for row in rows_of(name):
            text = str(row[column] or "")
            if text.strip() and row.get("math500_id") is None and " ".join(text.lower().split()) not in known:
                pool.setdefault(text)
    return list(pool)


def tiers_of(finding: Finding) -> dict[Tier, Hit]:
    """All hits by tier."""
    hits = [finding.drop] if finding.drop else []
    return {hit.tier: hit for hit in [*hits, *finding.review]}


def arms(asked: Questions) -> dict[str, Found]:
    """Our tiers, and beside them word 13-grams and the Jaccard similarity of word triples (what MinHash estimates)."""
    index = BenchmarkIndex.build(asked, DecontaminationConfig(drop=[], review=[*TIERS]))
    thirteen = {gram for _, question in asked for gram in word_ngrams(question, 13)}
    triples = [set(word_ngrams(question, 3)) for _, question in asked]

    def similar(text: str) -> bool:
        own = set(word_ngrams(text, 3))
        return any(own and len(own & other) >= 0.5 * len(own | other) for other in triples)

    return {
        "tiers": lambda texts: [set(tiers_of(finding)) for finding in index.find(texts)],
        "13-grams": lambda texts: [{"13-grams"} if thirteen & set(word_ngrams(text, 13)) else set() for text in texts],
        "MinHash 0.5": lambda texts: [{"MinHash 0.5"} if similar(text) else set() for text in texts],
    }


@dataclass(frozen=True)
class Recall:
    """What was found of a rewrite; shares of its questions."""

    rewrite: str
    questions: int
    """Those that the rewrite changes."""
    tiers: Mapping[str, float]
    dropped: float
    found: float
    missed: Sequence[str] = field(repr=False)
    """Texts that no tier found."""
    kept: Sequence[str] = field(repr=False)
    """Texts that the tiers that drop by default did not find."""

    def figures(self) -> dict[str, object]:
        """The numbers, for JSON."""
        shares = {"drop": self.dropped, "drop or review": self.found, **self.tiers}
        rounded = {name: round(share, 4) for name, share in shares.items()}
        return {"rewrite": self.rewrite, "questions": self.questions, **rounded}


def recall(asked: Questions, count: int = 200, seed: int = 0) -> list[Recall]:
    """Share of rewritten questions that each tier finds; rewrites that change nothing are left out."""
    rng = random.Random(seed)
    chosen = [question for _, question in rng.sample(asked, count)]
    found_by = arms(asked)
    table = []
    for name, rewrite in REWRITES.items():
        pairs = [(question, rewrite(question, rng)) for question in chosen]
        texts = [text for question, text in pairs if name == "verbatim" or question != text]
        found = [one.union(*others) for one, *others in _columns(found_by.values(), texts)]
        counts = Counter(tier for each in found for tier in each)
        total = max(len(texts), 1)
        kept = [text for text, each in zip(texts, found, strict=True) if not each & {"whole", "letters"}]
        missed = [text for text, each in zip(texts, found, strict=True) if not each & set(TIERS)]
        shares = {tier: counts[tier] / total for tier in (*TIERS, *BESIDE)}
        table.append(Recall(name, len(texts), shares, 1 - len(kept) / total, 1 - len(missed) / total, missed, kept))
    return table


def _columns(found_by: Iterable[Found], texts: Sequence[str]) -> Iterator[tuple[set[str], ...]]:
    return zip(*(found(texts) for found in found_by), strict=True)


def precision(asked: Questions) -> tuple[dict[str, object], list[tuple[str, Hit]]]:
    """What the tiers find in a clean pool: counts and times a row, and all hits with their text."""
    pool = clean_pool(asked)
    index = BenchmarkIndex.build(asked, DecontaminationConfig(drop=[], review=[*TIERS]))
    start = time.process_time()
    block = TokenBlock.of(pool)
    made = time.process_time()
    findings = index.find(pool, block)
    done = time.process_time()
    hits = [(text, hit) for text, finding in zip(pool, findings, strict=True) for hit in tiers_of(finding).values()]
    counts = Counter(hit.tier for _, hit in hits)
    figures: dict[str, object] = {"rows": len(pool), **{tier: counts[tier] for tier in TIERS}}
    figures["any"] = sum(bool(tiers_of(finding)) for finding in findings)
    figures["tokens, microseconds a row"] = round((made - start) / len(pool) * 1e6, 1)
    figures["tiers, microseconds a row"] = round((done - made) / len(pool) * 1e6, 1)
    return figures, hits


def read_hits() -> dict[str, dict[str, int]]:
    """What a reader said of 200 hits in the clean pool, by tier.

    `same`: the row asks what the benchmark question asks. `variant`: the same with other numbers or names, or another
    question about the same data. `other`: another problem, which shares words.
    """
    counts: dict[str, Counter[str]] = {}
    with (Path(__file__).parent / "read_hits.jsonl").open(encoding="utf-8") as stream:
        for hit in map(json.loads, stream):
            counts.setdefault(hit["tier"], Counter())[hit["verdict"]] += 1
    return {tier: dict(sorted(found.items())) for tier, found in counts.items()}


def pairs() -> dict[str, dict[str, int]]:
    """Of the pairs that others published as leaks, how many each tier finds, by their kind and what people said."""
    counts: dict[str, Counter[str]] = {}
    for row in rows_of("contamination_pairs.parquet"):
        kind = f"{row['contamination_type']} {row['classification'] or 'unlabelled'}"
        asked = [(str(row["math500_id"]), str(row["math500_problem"]))]
        index = BenchmarkIndex.build(asked + _others(), DecontaminationConfig(drop=[], review=[*TIERS]))
        found = tiers_of(index.find([str(row["train_problem"])])[0])
        counted = counts.setdefault(kind, Counter())
        counted["pairs"] += 1
        counted.update(tier for tier, hit in found.items() if hit.label == asked[0][0])
    return {kind: dict(counted) for kind, counted in sorted(counts.items())}


def _others() -> Questions:
    """Questions beside the one of a pair, so that weights are those of a benchmark."""
    return benchmark()[:100]
