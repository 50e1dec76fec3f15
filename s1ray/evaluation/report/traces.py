"""The responses that a page holds for its browser: all of them, or as many questions as its size allows, and said so.

They lie in the page as JSON, compressed and in base64: no character of a model's text is HTML there, and the page's
script (`browser.js`) writes them as text.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import zlib
from collections import defaultdict
from collections.abc import Sequence
from urllib.parse import quote

from s1ray.evaluation.arm_result import ArmResult
from s1ray.evaluation.loading import TEXTS
from s1ray.evaluation.results import EvalResults
from s1ray.schemas import Evaluation

MAX_BYTES = 11_000_000
"""Compressed responses that a page holds at most; in base64 they are a third more, so a page stays below 15 MB."""
VERDICTS = {"correct": "right", "incorrect": "wrong", "unparsable": "unparsable", "failed": "failed"}
"""Verdict of a row -> the browser's; any other one is undecided."""


@dataclasses.dataclass(frozen=True)
class Traces:
    """What the browser shows."""

    packed: str
    """JSON, gzip, base64."""
    held: int
    """Responses in it."""
    responses: int
    """Responses that were measured and may be shown."""
    questions: int
    """Questions whose responses are in it: every one of each."""
    all_questions: int
    ids: dict[str, set[str]]
    """Benchmark -> ids of its questions among them."""
    private: list[str]
    """Benchmarks whose texts are not to be published, and are left out."""


def pack_traces(measured: Sequence[EvalResults], max_bytes: int = MAX_BYTES) -> Traces | None:
    """Pack the responses of all benchmarks whose texts may be shown, question by question.

    Where they are too many, the questions with the smallest ids are taken, the same number of each benchmark as far as
    possible, and each with all of its responses, so that arms can be compared. Ids are hashes, so this is no choice by
    content.

    Args:
        measured: what was measured.
        max_bytes: of the compressed JSON, at most.

    Returns:
        None where no text may be shown.
    """
    shown = [results for results in measured if not results.private_text]
    if not shown:
        return None
    packer = _Packer(shown)
    asked = [sorted(set().union(*(result.questions for result in results.arms))) for results in shown]
    turns = sorted((place, number) for number, ids in enumerate(asked) for place in range(len(ids)))
    size = 0
    for place, number in turns:
        traces = packer.question(number, asked[number][place])
        size += len(zlib.compress(json.dumps(traces, ensure_ascii=False).encode()))
        if size > max_bytes:
            break
        packer.keep(number, asked[number][place], traces)
    return Traces(
        packed=packer.packed(),
        held=sum(len(each["traces"]) for each in packer.kept),
        responses=sum(len(result.rows) for results in shown for result in results.arms),
        questions=len(packer.kept),
        all_questions=sum(map(len, asked)),
        ids=packer.ids,
        private=[results.benchmark for results in measured if results.private_text],
    )


def link(benchmark: str, row: Evaluation, other: Evaluation | None = None) -> str:
    """The address of a response within its page, and of another one beside it."""
    address = "#trace=" + _address(benchmark, row)
    return address if other is None else f"{address}&with={_address(benchmark, other)}"


def _address(benchmark: str, row: Evaluation) -> str:
    return "/".join(quote(part, safe="") for part in (benchmark, row.model, row.arm, row.id))


class _Packer:
    def __init__(self, shown: Sequence[EvalResults]) -> None:
        self._shown = shown
        self._models = list(dict.fromkeys(result.model for results in shown for result in results.arms))
        settings = {result.arm: result.setting for results in shown for result in results.arms}
        self._arms = list(settings)
        self._words = [list(dict.fromkeys(["Wait", *setting.budget.wait_texts])) for setting in settings.values()]
        self._formats = {
            model.label: model.thinking_format
            for results in shown
            for config in results.configs
            for model in config.models
        }
        self._places = [{(result.model, result.arm): _places(result) for result in results.arms} for results in shown]
        self.kept: list[dict[str, list[dict[str, object]]]] = []
        self.ids: dict[str, set[str]] = {results.benchmark: set() for results in shown}

    def question(self, number: int, question_id: str) -> dict[str, list[dict[str, object]]]:
        results = self._shown[number]
        traces: list[dict[str, object]] = []
        about: Evaluation | None = None
        for result in results.arms:
            places = self._places[number][(result.model, result.arm)].get(question_id, [])
            if not places:
                continue
            table = results.tables[(result.model, result.arm)].slice(places[0], len(places))
            texts = zip(*(table[column].to_pylist() for column in TEXTS), strict=True)
            for place, (thinking, answer) in zip(places, texts, strict=True):
                about = result.rows[place]
                traces.append(self._trace(about, thinking, answer, len(self.kept)))
        assert about is not None
        text = results.questions.get(question_id, "")
        question = {"b": number, "i": question_id, "d": about.domain, "t": text, "g": about.gold}
        return {"questions": [question], "traces": traces}

    def keep(self, number: int, question_id: str, traces: dict[str, list[dict[str, object]]]) -> None:
        self.kept.append(traces)
        self.ids[self._shown[number].benchmark].add(question_id)

    def packed(self) -> str:
        whole = {
            "benchmarks": [results.benchmark for results in self._shown],
            "models": self._models,
            "arms": [{"name": name, "words": words} for name, words in zip(self._arms, self._words, strict=True)],
            "questions": [each for part in self.kept for each in part["questions"]],
            "traces": [each for part in self.kept for each in part["traces"]],
        }
        text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
        return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode("ascii")

    def _trace(self, row: Evaluation, thinking: str, answer: str, question: int) -> dict[str, object]:
        final = self._formats[row.model].final_answer
        return {
            "q": question,
            "m": self._models.index(row.model),
            "a": self._arms.index(row.arm),
            "s": row.id.removeprefix(f"{row.question_id}-"),
            "v": VERDICTS.get(row.verdict, "undecided"),
            "x": row.extracted,
            "g": row.graded_by,
            "t": None if row.thinking_unknown else row.thinking_tokens,
            "n": row.answer_tokens,
            "w": row.waits,
            "p": row.wait_spans,
            "e": row.end_forced,
            "c": row.answer_cut or row.finish_reason == "length",
            "f": row.finish_reason,
            "k": row.calls,
            "h": thinking,
            "r": answer,
            # The account says that the end was forced; then the format's own words begin the answer.
            "z": len(final) if row.end_forced and final and answer.startswith(final) else 0,
            "y": row.error,
        }


def _places(result: ArmResult) -> dict[str, list[int]]:
    """Question id -> positions of its rows, which follow each other."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(result.rows):
        places[row.question_id].append(place)
    return dict(places)
