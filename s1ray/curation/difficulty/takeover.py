"""Answers of another run of the curate stage, taken over for models that are the same there.

Bounds, grader, selection, and which models are asked can be changed without asking again: another `output`, and
`difficulty.answers_from` with the run that has the answers.
"""

from __future__ import annotations

import logging

from s1ray.aside import Kept
from s1ray.config import ConfigError, validate_config
from s1ray.curation.difficulty.config import ModelDifficulty
from s1ray.errors import MissingError
from s1ray.manifests import read_manifest
from s1ray.storage import Location, entries, location
from s1ray.teachers.base import Teacher
from s1ray.teachers.ledger import TEACHER, telling
from s1ray.teachers.takeover import FREE, TAKEN, copy_answers, count_answers, difference, recorded_config

log = logging.getLogger("s1ray")

ANSWERS = "answers"
"""Folder in the run folder: the models' ledgers, each in a folder with the model's label."""
FIELD = "difficulty.answers_from"


def check_takeover(config: ModelDifficulty, output: str, seed: int) -> list[str]:
    """What `answers_from` gives a run, a line for each model; none where it is not set.

    Args:
        config: of the run.
        output: its folder.
        seed: its seed.

    Raises:
        ConfigError: nothing there is an answer of this run's models.
        MissingError: no run is there.
    """
    if config.answers_from is None:
        return []
    if location(config.answers_from).absolute() == location(output).absolute():
        raise ConfigError(f"{FIELD}: {config.answers_from} is this run's own output; choose another output")
    found = _ledgers(config, seed)
    others = [other for other in found.values() if isinstance(other, str)]
    if len(others) == len(found):
        raise ConfigError(
            f"{FIELD}: {config.answers_from} has another {others[0]}, so its answers are not this run's; leave it out"
        )
    return [
        f"difficulty: {label}: {config.answers_from} has another {ledger}; everything is asked for"
        if isinstance(ledger, str)
        else f"difficulty: {label}: {count_answers(ledger):,} answers are taken over from {config.answers_from}, and "
        "not asked for; they stay in its bill"
        for label, ledger in found.items()
    ]


def take_over(config: ModelDifficulty, folder: Location, seed: int) -> None:
    """Copy the answers of `answers_from` into a run's ledgers, once.

    Args:
        config: of the run, checked.
        folder: of the run.
        seed: of the run.
    """
    if config.answers_from is None:
        return
    for label, ledger in _ledgers(config, seed).items():
        own = folder / ANSWERS / label
        if isinstance(ledger, Location) and not (own / TAKEN).exists():
            copy_answers(ledger, own)
            log.info("difficulty by %s: answers of %s were taken over", label, ledger)


def kept_answers(folder: Location) -> Kept | None:
    """The answers in a run folder, which cost what it takes to ask for them; None: there are none.

    Args:
        folder: of a run; it may hold another stage's, or nothing.
    """
    difficulty = recorded_config(folder).get("difficulty")
    models = difficulty.get("models", {}) if isinstance(difficulty, dict) else {}
    free = {label for label, model in models.items() if isinstance(model, dict) and model.get("kind") in FREE}
    with telling(folder / ANSWERS):
        ledgers = [path for path in entries(folder / ANSWERS) if path.name not in free]
    answers = sum(map(count_answers, ledgers))
    if not answers and not any((path / TEACHER).is_dir() for path in ledgers):
        return None
    return Kept(f"{answers:,} answers", (ANSWERS,), field=FIELD, suffix="answers")


def _ledgers(config: ModelDifficulty, seed: int) -> dict[str, Location | str]:
    """Of each model, sorted, the folder of its answers there, or in what the model there differs.

    Raises:
        ConfigError: the run there has another seed, or a config that cannot be read.
        MissingError: no run that asked models is there.
    """
    assert config.answers_from is not None
    source = location(config.answers_from)
    manifest = read_manifest(source) or {}
    there = manifest.get("config", {})
    difficulty = there.get("difficulty")
    if manifest.get("stage") != "curate" or not isinstance(difficulty, dict) or "models" not in difficulty:
        raise MissingError(f"{FIELD}: {source} is no run folder of the curate stage that asked difficulty models")
    if there.get("seed") != seed:
        raise ConfigError(
            f"{FIELD}: {source} has another seed ({there.get('seed')}, here {seed}), so its answers are not this "
            "run's; leave it out"
        )
    theirs = validate_config(ModelDifficulty, difficulty, f"{FIELD}: {source}").models
    return {label: _ledger(label, model, theirs, source) for label, model in sorted(config.models.items())}


def _ledger(label: str, model: Teacher, theirs: dict[str, Teacher], source: Location) -> Location | str:
    mine = model.fingerprint()
    fingerprints = {other: theirs[other].fingerprint() for other in sorted(theirs, key=lambda other: other != label)}
    for other, its in fingerprints.items():
        if its == mine:
            return source / ANSWERS / other
    other, its = next(iter(fingerprints.items()))
    return difference(f"difficulty.models.{other}", mine, its)
