"""One list of domains for all sources: a named one, or the config's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from s1ray.config import parse_yaml

MSC = "msc"
"""Name of the 61 two-digit classes of the Mathematics Subject Classification 2020 that s1 has its domains from."""
_FILES = {MSC: "msc2020.yaml"}


@dataclass(frozen=True)
class Class:
    """One domain of a taxonomy."""

    code: str
    """Short name; of a list in the config, the name itself."""
    name: str
    """What rows say."""
    about: str
    """What belongs to it."""


@dataclass(frozen=True)
class Taxonomy:
    """Domains of which every row has one."""

    classes: tuple[Class, ...]

    @classmethod
    def named(cls, name: str) -> Taxonomy:
        """One that comes with the package."""
        return _named(name)

    @classmethod
    def of(cls, descriptions: Mapping[str, str]) -> Taxonomy:
        """One of names with their descriptions.

        Raises:
            ValueError: it has fewer than two, or two that are the same but for case and spaces.
        """
        taxonomy = cls(tuple(Class(name, _plain(name), _plain(about)) for name, about in descriptions.items()))
        if len(taxonomy.classes) < 2:
            raise ValueError("must have two domains or more")
        if any(not domain.name for domain in taxonomy.classes):
            raise ValueError("has a domain without a name")
        if len(taxonomy._names) < len(taxonomy.classes):
            raise ValueError("has two domains whose names are the same but for case and spaces")
        return taxonomy

    @property
    def names(self) -> list[str]:
        """The domains, in their order."""
        return [domain.name for domain in self.classes]

    def find(self, text: str) -> str | None:
        """The domain that a text is the code or the name of, whatever its case and spaces. None: it is neither."""
        return self._names.get(_plain(text).casefold())

    @cached_property
    def _names(self) -> dict[str, str]:
        by_name = {domain.name.casefold(): domain.name for domain in self.classes}
        return {_plain(domain.code).casefold(): domain.name for domain in self.classes} | by_name


@cache
def _named(name: str) -> Taxonomy:
    text = (Path(__file__).parent / _FILES[name]).read_text(encoding="utf-8")
    classes = parse_yaml(text)
    assert isinstance(classes, dict)
    return Taxonomy(tuple(Class(code, each["name"], each["about"]) for code, each in classes.items()))


def _plain(text: str) -> str:
    return " ".join(text.split())
