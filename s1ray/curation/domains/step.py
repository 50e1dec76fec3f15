"""The step of the stage that gives every row that is left its domain, and drops those without one."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from s1ray.curation.config import CurationConfig
from s1ray.curation.domains.asking import judge_plan
from s1ray.curation.domains.config import DomainConfig, EmbeddingClassifier, JudgeClassifier
from s1ray.curation.domains.embedding import EXAMPLES, FIELD, example_files, labelled
from s1ray.curation.domains.finding import classified
from s1ray.curation.domains.spread import Spread
from s1ray.curation.domains.takeover import check_takeover
from s1ray.curation.encoder import check_encoder
from s1ray.curation.features import Features
from s1ray.curation.filters import domain_filters
from s1ray.curation.funnel import Funnel
from s1ray.curation.sources import rows_at_most
from s1ray.runs import Run
from s1ray.storage import Location, location

log = logging.getLogger("s1ray")


def domain_plan(stage: CurationConfig) -> list[str]:
    """What a run would do, one line each; starts nothing.

    Raises:
        S1rayError: the classifier cannot be used like this.
    """
    config = stage.domains
    lines = []
    if config.classes is not None:
        lines.append(f"domains: {len(config.classes.names)} of one taxonomy")
    elif config.from_sources:
        lines.append("domains: without a taxonomy each name that a source gives is one of its own")
    classifier = config.classifier
    if isinstance(classifier, JudgeClassifier) and config.classes is not None:
        lines.append(judge_plan(classifier, config.classes, rows_at_most(stage.sources)))
        lines += check_takeover(stage)
    elif isinstance(classifier, EmbeddingClassifier):
        check_encoder(location(classifier.encoder), FIELD)
        how = "descriptions"
        if classifier.examples is not None:
            labelled(config, classifier.examples)
            how = f"the examples of {classifier.examples.path}"
        lines.append(f"domains: {classifier.encoder} finds those of rows without one, by {how}")
    if config.otherwise is None:
        whatever = "none" if config.classes is None else "none of these"
        model = "" if classifier is None else ", nor the classifier finds"
        lines.append(f"domains: a row that has {whatever}, and that no rule gives{model} one, is dropped")
    return lines


def domain_inputs(config: DomainConfig) -> dict[str, str]:
    """Local files and folders that the classifier reads."""
    classifier = config.classifier
    if isinstance(classifier, JudgeClassifier):
        return {f"domains {name}": path for name, path in classifier.teacher.inputs().items()}
    if not isinstance(classifier, EmbeddingClassifier):
        return {}
    examples = [] if classifier.examples is None else example_files(classifier.examples)
    return {FIELD: classifier.encoder} | {f"{EXAMPLES}.{number}": path for number, path in enumerate(examples)}


def find_domains(
    config: CurationConfig, run: Run, folder: Location, parts: Sequence[Location], features: Features, funnel: Funnel
) -> Features:
    """Find the domains of rows that are left without one; drop those that stay without, and those over the cap.

    Args:
        config: the stage's.
        run: gets figures, and the judge's ledger.
        folder: for what a finished run does not keep.
        parts: of all rows.
        features: of all rows.
        funnel: after the cheap filters.

    Returns:
        The features, with the domains in the end.
    """
    if config.domains.classifier is not None:
        features = classified(config, run, folder, parts, features, funnel.left)
    spread = Spread.of(features, funnel.left)
    run.figures["domains_by"] = spread.by
    domain_filters(funnel, features, config)
    log.info("curate: %s", spread.line())
    if config.domains.taxonomy is None and (warning := spread.warning([each.label for each in config.sources])):
        log.warning("curate: %s", warning)
    return features
