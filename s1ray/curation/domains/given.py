"""The domains that need no model: what sources say, what the rules of the config say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s1ray.curation.domains.config import NO_DOMAIN, DomainConfig

if TYPE_CHECKING:
    import pyarrow as pa

Found = tuple[str | None, str]
"""A domain, or None; and what says so, or why there is none."""


def given_domains(rows: pa.Table, config: DomainConfig) -> list[Found]:
    """The domain of each of N rows, by source, rules and `otherwise`; the classifier is not asked.

    Args:
        rows: with `domain`, `question` and `source`.
        config: how rows get their domain.
    """
    found = _of_sources(rows, config)
    without = [place for place, (domain, _) in enumerate(found) if domain is None]
    if config.rules and without:
        texts = rows.select(["question", "source"]).take(without).to_pylist()
        for place, row in zip(without, texts, strict=True):
            if (domain := config.by_rule(row["question"], row["source"])) is not None:
                found[place] = domain, "rules"
    if config.otherwise is not None:
        last = config.name_of(config.otherwise), "otherwise"
        found = [last if each[0] is None else each for each in found]
    return found


def _of_sources(rows: pa.Table, config: DomainConfig) -> list[Found]:
    """By the sources alone; each of their words is looked up once."""
    if not config.from_sources:
        return [(None, NO_DOMAIN)] * len(rows)
    said = rows.column("domain").to_pylist()
    known: dict[str | None, Found] = {
        text: config.of_source(text) if text and text.strip() else (None, NO_DOMAIN) for text in {*said}
    }
    return [known[text] for text in said]
