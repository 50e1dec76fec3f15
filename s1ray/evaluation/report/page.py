"""What pages of evaluations have in common: their templates, their numbers, and the browser of responses."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import TYPE_CHECKING

from s1ray.evaluation.report.formats import interval, points, points_interval
from s1ray.evaluation.report.traces import Traces, link
from s1ray.pages import page_environment

if TYPE_CHECKING:
    import jinja2


def environment() -> jinja2.Environment:
    """What renders the templates."""
    made = page_environment("s1ray.evaluation.report")
    made.filters |= {"interval": interval, "points": points, "points_interval": points_interval}
    made.globals["link"] = link
    return made


def browser(traces: Traces | None) -> dict[str, object]:
    """What a page needs to show responses; nothing of it where there are none to show.

    The page's policy allows this script alone, by its hash, so that nothing a model wrote can run.
    """
    from markupsafe import Markup

    if traces is None:
        return {"traces": None, "script": "", "policy": "", "browser_style": ""}
    script = _file("browser.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {
        "traces": traces,
        "script": Markup(script),
        "policy": Markup(f"; script-src 'sha256-{digest}'"),
        "browser_style": Markup(_file("browser.css")),
    }


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")
