"""Answers of another run of the traces stage, taken over where nothing that decides them differs.

Keeping, grading and the number of samples can be changed without asking again: another `output`, and `responses_from`
with the run that has the answers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from s1ray.aside import Kept
from s1ray.config import ConfigError, validate_config
from s1ray.errors import MissingError
from s1ray.manifests import digest, read_manifest
from s1ray.schemas import question_id
from s1ray.storage import Location, location
from s1ray.teachers.base import Teacher
from s1ray.teachers.ledger import TEACHER, Ledger
from s1ray.teachers.takeover import FREE, TAKEN, copy_answers, count_answers, difference, recorded_config, taken_over
from s1ray.traces.config import TracesConfig
from s1ray.traces.rounds import JUDGEMENTS, RESPONSES

log = logging.getLogger("s1ray")


def check_takeover(config: TracesConfig, questions: Iterable[tuple[str, str]]) -> str | None:
    """What `responses_from` gives a run, in a line; None: nothing is to be taken over.

    Args:
        config: the stage's.
        questions: id and text of each question.

    Raises:
        ConfigError: the answers there would not be those of this run's teacher.
        MissingError: no run is there.
    """
    if config.responses_from is None:
        return None
    source, where = location(config.responses_from), "responses_from"
    if source.absolute() == location(config.output).absolute():
        raise ConfigError(f"{where}: {source} is this run's own output; choose another output")
    manifest = read_manifest(source)
    if manifest is None or manifest.get("stage") != "traces":
        raise MissingError(f"{where}: {source} is no run folder of the traces stage")
    earlier = validate_config(TracesConfig, manifest.get("config", {}), f"{where}: {source}")
    for name, mine, its in (
        ("teacher", _fingerprint(config.teacher), _fingerprint(earlier.teacher)),
        ("seed", config.seed, earlier.seed),
    ):
        if mine != its:
            raise ConfigError(
                f"{where}: {source} has another {difference(name, mine, its)}, so its answers are not this run's; "
                "leave it out"
            )
    if any(question_id(text) != identity for identity, text in questions):
        there = manifest.get("inputs", {}).get("questions")
        if there is None or there["digest"] != digest(config.questions):
            raise ConfigError(
                f"{where}: ids of {config.questions} are not made from the questions' texts, so those of {source} may "
                "mean other questions; leave it out"
            )
    ledger = Ledger(source / RESPONSES)
    ledger.read()
    return f"{len(ledger.answers):,} answers are taken over from {source}, and not asked for; they stay in its bill"


def take_over(config: TracesConfig, folder: Location) -> int:
    """Copy the answers of `responses_from` into a run's ledgers, once; how many the teacher's has from there.

    Args:
        config: the stage's, checked.
        folder: of the run.
    """
    if config.responses_from is not None and not (folder / RESPONSES / TAKEN).exists():
        source = location(config.responses_from)
        earlier = validate_config(TracesConfig, (read_manifest(source) or {}).get("config", {}), "responses_from")
        same_judge = None not in (config.judge, earlier.judge) and _fingerprint(config.judge) == _fingerprint(
            earlier.judge
        )
        if same_judge:
            copy_answers(source / JUDGEMENTS, folder / JUDGEMENTS)
        copy_answers(source / RESPONSES, folder / RESPONSES)
        log.info("traces: answers of %s were taken over", source)
    return taken_over(folder / RESPONSES)


def kept_answers(folder: Location) -> Kept | None:
    """The answers in a run folder, which cost what it takes to ask for them; None: there are none.

    Args:
        folder: of a run; it may hold another stage's, or nothing.
    """
    teacher = recorded_config(folder).get("teacher")
    if isinstance(teacher, dict) and teacher.get("kind") in FREE:
        return None
    answers = sum(count_answers(folder / name) for name in (RESPONSES, JUDGEMENTS))
    pending = any((folder / name / TEACHER).is_dir() for name in (RESPONSES, JUDGEMENTS))
    if not answers and not pending:
        return None
    return Kept(f"{answers:,} answers", (RESPONSES, JUDGEMENTS), field="responses_from", suffix="answers")


def _fingerprint(teacher: Teacher | None) -> object:
    return None if teacher is None else teacher.fingerprint()
