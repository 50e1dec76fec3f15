"""An arm on a set: how many verdicts agree with the labels, and which do not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.grading.arms import Arm, Verdict, judge
from benchmarks.grading.sets import Case, load_set

Pair = tuple[Case, Verdict]


@dataclass(frozen=True)
class Score:
    """What an arm made of a set."""

    set: str
    arm: str
    pairs: Sequence[Pair] = field(repr=False)
    missing: str | None = None
    """Why there is nothing."""

    @property
    def cases(self) -> int:
        """All cases."""
        return len(self.pairs)

    @property
    def right(self) -> int:
        """Verdicts that agree with the label."""
        return sum(_said(verdict) is case.correct for case, verdict in self.pairs)

    @property
    def false_positives(self) -> int:
        """Wrong answers called correct."""
        return sum(_said(verdict) is True and not case.correct for case, verdict in self.pairs)

    @property
    def false_negatives(self) -> int:
        """Right answers called incorrect."""
        return sum(_said(verdict) is False and case.correct for case, verdict in self.pairs)

    @property
    def wrong(self) -> int:
        """Of both kinds."""
        return self.false_positives + self.false_negatives

    @property
    def undecided(self) -> int:
        """Cases without a yes or no."""
        return sum(_said(verdict) is None for _, verdict in self.pairs)

    @property
    def seconds(self) -> float:
        """Time of all cases together, one after another."""
        return sum(verdict.seconds for _, verdict in self.pairs)

    def figures(self) -> dict[str, object]:
        """The numbers, for JSON."""
        if self.missing:
            return {"set": self.set, "grader": self.arm, "missing": self.missing}
        return {
            "set": self.set,
            "grader": self.arm,
            "cases": self.cases,
            "right": self.right,
            "false_positives": self.false_positives,
            "false_negatives": self.false_negatives,
            "undecided": self.undecided,
            "seconds": round(self.seconds, 2),
        }


def measure(name: str, arm: Arm, graders: Path) -> Score:
    """Grade a set with an arm; what is not here gives a score that says so."""
    try:
        cases = load_set(name)
    except FileNotFoundError as error:
        return Score(name, arm.name, (), str(error))
    verdicts = judge(arm, cases, graders)
    if verdicts is None:
        return Score(name, arm.name, (), f"no environment {graders / str(arm.environment)}")
    return Score(name, arm.name, list(zip(cases, verdicts, strict=True)))


def merged(path: Path, scores: Sequence[Score]) -> list[dict[str, object]]:
    """The figures of scores, and those of other sets and arms that a file has."""
    figures = [score.figures() for score in scores]
    done = {(row["set"], row["grader"]) for row in figures}
    former = json.loads(path.read_text()) if path.exists() else []
    return [row for row in former if (row["set"], row["grader"]) not in done] + figures


def wrong_rows(scores: Sequence[Score]) -> str:
    """The rows on which arms disagree with the label, as Markdown."""
    lines = [
        "| set | grader | row | gold | end of the text | should be | verdict | by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for score in scores:
        for case, verdict in score.pairs:
            if _said(verdict) is not case.correct:
                cells = [
                    score.set,
                    score.arm,
                    case.note,
                    repr(case.gold[-120:]),
                    repr(case.text[-160:]),
                    "correct" if case.correct else "incorrect",
                    verdict.verdict,
                    verdict.detail[:160],
                ]
                lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def markdown(scores: Sequence[Score]) -> str:
    """A row a set, a column a grader: wrong answers called right, right ones called wrong, and without a verdict."""
    arms = list(dict.fromkeys(score.arm for score in scores))
    lines = ["| set | cases | " + " | ".join(arms) + " |", "|---|---|" + "---|" * len(arms)]
    for name in dict.fromkeys(score.set for score in scores):
        found = {score.arm: score for score in scores if score.set == name}
        cells = [_cell(found[arm]) if arm in found else "" for arm in arms]
        lines.append(f"| {name} | {max(score.cases for score in found.values()):,} | " + " | ".join(cells) + " |")
    sums = [_sums([score for score in scores if score.arm == arm]) for arm in arms]
    lines.append(
        f"| all | {sum(score.cases for score in scores if score.arm == arms[0]):,} | " + " | ".join(sums) + " |"
    )
    seconds = [sum(score.seconds for score in scores if score.arm == arm) for arm in arms]
    lines.append("| seconds for all, one by one | | " + " | ".join(f"{value:.0f}" for value in seconds) + " |")
    return "\n".join(lines)


def _cell(score: Score) -> str:
    if score.missing:
        return "–"
    return _sums([score])


def _sums(scores: Sequence[Score]) -> str:
    positives, negatives, undecided = (
        sum(getattr(score, name) for score in scores) for name in ("false_positives", "false_negatives", "undecided")
    )
    return f"{positives:,} / {negatives:,}" + (f" / {undecided:,}" if undecided else "")


def _said(verdict: Verdict) -> bool | None:
    return {"correct": True, "incorrect": False}.get(verdict.verdict)
