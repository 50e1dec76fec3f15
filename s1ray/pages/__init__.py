"""HTML pages of one file each: they need no network, are read in light and dark, and show any text as it is.

A page's template lies beside the code that fills it, and extends `page.html.j2`, which has the head and the style.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that a page cannot hold, or that nobody sees."""


def page_environment(package: str) -> jinja2.Environment:
    """What renders the templates of a package: everything is escaped, and a name that is not given is an error.

    Args:
        package: where the templates lie, "s1ray.evaluation".
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package, "."), jinja2.PackageLoader("s1ray.pages", ".")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible_text,
    )
    environment.filters["percent"] = percent
    return environment


def percent(share: float) -> str:
    """A share in percent, one digit; exactly all and none without it, so that 99.96 % never reads as 100 %."""
    if share in (0.0, 1.0):
        return f"{100 * share:.0f}"
    return f"{min(max(100 * share, 0.1), 99.9):.1f}"


def visible(text: str) -> str:
    """A text in which control characters, and halves of surrogate pairs, are signs that can be seen."""
    return _UNSEEN.sub(lambda found: _sign(ord(found[0])), text.replace("\r\n", "\n"))


def _sign(code: int) -> str:
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


def _visible_text(value: object) -> object:
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
