"""The dashboard uses only existing metrics of s1ray, Serve and vLLM, by name, type and label."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from s1ray.serving import metrics

DASHBOARD = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "s1ray-serving.json"
CONTENT: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
PANELS = [panel for panel in CONTENT["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]


def package(name: str) -> Path:
    """A package's folder, without importing it."""
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def exported(kind: str, name: str) -> set[str]:
    """The names of a metric in Prometheus."""
    if kind == "histogram":
        return {f"{name}_{part}" for part in ("bucket", "sum", "count")}
    return {f"{name.removesuffix('_total')}_total"} if kind == "counter" else {name}


def ours() -> set[str]:
    names = set(re.findall(r'"(s1ray_\w+)"', Path(metrics.__file__).read_text(encoding="utf-8")))
    kinds = {name: "histogram" if name.endswith("_seconds") else "gauge" for name in names}
    kinds |= {name: "counter" for name in names if name.endswith("_total")}
    return {f"ray_{seen}" for name, kind in kinds.items() for seen in exported(kind, name)}


def serves() -> set[str]:
    found: set[str] = set()
    for path in (package("ray") / "serve" / "_private").glob("*.py"):
        pattern = r'metrics\.(Counter|Gauge|Histogram)\(\s*(?:name=)?"(serve_\w+)"'
        for kind, name in re.findall(pattern, path.read_text(encoding="utf-8")):
            found |= {f"ray_{seen}" for seen in exported(kind.lower(), name)}
    return found


def vllms() -> set[str]:
    text = (package("vllm") / "v1" / "metrics" / "loggers.py").read_text(encoding="utf-8")
    pattern = r'self\._(counter|gauge|histogram)_cls\(\s*name="vllm:(\w+)"'
    return {f"ray_vllm_{seen}" for kind, name in re.findall(pattern, text) for seen in exported(kind, name)}


KNOWN = ours() | serves() | vllms()


def test_the_sources_name_their_metrics() -> None:
    assert {"ray_s1ray_queue_depth", "ray_s1ray_time_to_first_token_seconds_bucket"} <= ours()
    assert "ray_serve_deployment_queued_queries" in serves()
    assert "ray_vllm_kv_cache_usage_perc" in vllms()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_exists(expression: str) -> None:
    names = set(re.findall(r"\bray_\w+", expression))
    assert names
    assert names <= KNOWN
    for name in names:
        rated = re.search(rf"(rate|increase)\({name}\b", expression) is not None
        assert rated == name.endswith(("_total", "_bucket")), "counters are rated, gauges are not"
    assert expression.count("(") == expression.count(")")
    assert expression.count("{") == expression.count("}")


@pytest.mark.parametrize("expression", [one for one in EXPRESSIONS if "ray_s1ray_" in one])
def test_our_metrics_have_the_labels_that_are_used(expression: str) -> None:
    documented = dict(re.findall(r"(s1ray_\w+)\{([^}]*)\}", metrics.__doc__ or ""))
    for name in set(re.findall(r"\bray_(s1ray_\w+)", expression)):
        labels = set(documented[name.removesuffix("_bucket")].split(", ")) | {"le"}
        grouped = re.findall(r"by \(([^)]*)\)", expression)
        selected = re.findall(rf"{name}\{{([^}}]*)\}}", expression)
        asked = {label.strip() for group in grouped for label in group.split(",")}
        asked |= set(re.findall(r'(\w+)=~?"', " ".join(selected)))
        assert asked <= labels
    for outcomes in re.findall(r'outcome=~?"([^"]*)"', expression):
        assert set(outcomes.split("|")) <= metrics.OUTCOMES.keys()


def test_all_our_metrics_are_shown() -> None:
    shown = " ".join(EXPRESSIONS)
    documented = re.findall(r"(s1ray_\w+)\{", metrics.__doc__ or "")
    assert documented
    assert all(name in shown for name in documented)


def test_variables_are_defined() -> None:
    defined = {variable["name"] for variable in CONTENT["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", " ".join(EXPRESSIONS) + json.dumps(PANELS)))
    assert used <= defined
    for variable in CONTENT["templating"]["list"]:
        if variable["type"] == "query":
            assert set(re.findall(r"\bray_\w+", variable["definition"])) <= KNOWN


def test_panels_do_not_overlap_and_have_descriptions() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in CONTENT["panels"]:
        x, y, width, height = (panel["gridPos"][key] for key in "xywh")
        cells = {(column, row) for column in range(x, x + width) for row in range(y, y + height)}
        assert not taken & cells
        assert x + width <= 24
        taken |= cells
    assert all(panel["description"] for panel in PANELS)
    assert len({panel["id"] for panel in CONTENT["panels"]}) == len(CONTENT["panels"])
