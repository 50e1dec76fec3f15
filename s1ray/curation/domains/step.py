"""The step of the stage that gives every row that is left its domain, and drops those without one."""

from __future__ import annotations

import logging

from s1ray.curation.config import CurationConfig
from s1ray.curation.domains.config import DomainConfig
from s1ray.curation.domains.spread import Spread
from s1ray.curation.features import Features
from s1ray.curation.filters import domain_filters
from s1ray.curation.funnel import Funnel
from s1ray.runs import Run

log = logging.getLogger("s1ray")


def domain_plan(config: DomainConfig) -> list[str]:
    """What a run would do, one line each."""
    if config.classes is not None:
        lines = [f"domains: {len(config.classes.names)} of one taxonomy"]
    elif config.from_sources:
        lines = ["domains: without a taxonomy each name that a source gives is one of its own"]
    else:
        lines = []
    if config.otherwise is None:
        whatever = "a row that has none" if config.classes is None else "a row that has none of these"
        lines.append(f"domains: {whatever}, and that no rule matches, is dropped")
    return lines


def find_domains(config: CurationConfig, run: Run, features: Features, funnel: Funnel) -> Features:
    """Drop the rows without a domain, and those over the cap.

    Args:
        config: the stage's.
        run: gets figures.
        features: of all rows.
        funnel: after the cheap filters.

    Returns:
        The features, with the domains in the end.
    """
    spread = Spread.of(features, funnel.left)
    run.figures["domains_by"] = spread.by
    domain_filters(funnel, features, config)
    log.info("curate: %s", spread.line())
    if config.domains.taxonomy is None and (warning := spread.warning([each.label for each in config.sources])):
        log.warning("curate: %s", warning)
    return features
