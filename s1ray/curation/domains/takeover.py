"""The judge's answers of another run of the curate stage, taken over where it was asked in the same words."""

from __future__ import annotations

import logging

from pydantic import JsonValue

from s1ray.config import ConfigError, validate_config
from s1ray.curation.config import CurationConfig
from s1ray.curation.difficulty.takeover import ANSWERS
from s1ray.curation.domains.config import DomainConfig, JudgeClassifier
from s1ray.errors import MissingError
from s1ray.manifests import read_manifest
from s1ray.storage import Location, location
from s1ray.teachers.takeover import TAKEN, copy_answers, count_answers, difference

log = logging.getLogger("s1ray")

JUDGE = "@domains"
"""Folder of the judge's ledger, beside those of the difficulty models, whose labels cannot begin like that."""
FIELD = "domains.classifier.answers_from"


def check_takeover(config: CurationConfig) -> list[str]:
    """What `answers_from` gives a run, in a line; none where it is not set.

    Raises:
        ConfigError: what is there are no answers of this run's judge.
        MissingError: no run that asked a judge is there.
    """
    ledger = _other_ledger(config)
    if ledger is None:
        return []
    answers = count_answers(ledger)
    return [f"domains: {answers:,} answers are taken over from {ledger}, and not asked for; they stay in its bill"]


def take_over(config: CurationConfig, own: Location) -> None:
    """Copy the answers of `answers_from` into a run's ledger, once.

    Args:
        config: of the run, checked.
        own: folder of its ledger.
    """
    ledger = _other_ledger(config)
    if ledger is not None and not (own / TAKEN).exists():
        copy_answers(ledger, own)
        log.info("curate: domains: answers of %s were taken over", ledger)


def _other_ledger(config: CurationConfig) -> Location | None:
    """Folder of the answers of `answers_from`. None: it is not set."""
    judge = config.domains.classifier
    if not isinstance(judge, JudgeClassifier) or judge.answers_from is None:
        return None
    source = location(judge.answers_from)
    if source.absolute() == location(config.output).absolute():
        raise ConfigError(f"{FIELD}: {source} is this run's own output; choose another output")
    manifest = read_manifest(source) or {}
    there = manifest.get("config", {})
    domains = there.get("domains")
    its = domains.get("classifier") if isinstance(domains, dict) else None
    asked = isinstance(its, dict) and its.get("kind") == "judge" and manifest.get("stage") == "curate"
    if not asked or not isinstance(domains, dict):
        raise MissingError(f"{FIELD}: {source} is no run folder of the curate stage that asked a judge for domains")
    theirs = _identity(validate_config(DomainConfig, domains, f"{FIELD}: {source}"), there.get("seed"))
    if (mine := _identity(config.domains, config.seed)) != theirs:
        raise ConfigError(
            f"{FIELD}: {source} has another {difference('domains', mine, theirs)}, so its answers are not this run's; "
            "leave it out"
        )
    return source / ANSWERS / JUDGE


def _identity(config: DomainConfig, seed: object) -> dict[str, object]:
    """What decides the judge's answers besides the questions."""
    judge = config.classifier
    assert isinstance(judge, JudgeClassifier)
    teacher: dict[str, JsonValue] = judge.teacher.fingerprint()
    asked: dict[str, object] = {"teacher": teacher, "structured": judge.structured}
    return {"seed": seed, "taxonomy": config.taxonomy, "classifier": asked}
