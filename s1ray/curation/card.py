"""The card of an exported data set: what is in it, and how it was chosen. It names no file of the machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from s1ray.curation.names import NameCounts
from s1ray.manifests import Manifest
from s1ray.pages import visible
from s1ray.storage import Location, location

SHOWN = 50
"""Sources, domains and names of inputs that the card lists."""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))
"""Of a data set, in the Hub's words."""
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#|~$&])")


def write_card(
    path: Location, manifest: Manifest, composition: Mapping[str, NameCounts], count: int, checked: str
) -> None:
    """Write `README.md` with the header that the Hub and `load_dataset` read.

    Args:
        path: of the file.
        manifest: of the run.
        composition: questions by "source" and by "domain".
        count: questions.
        checked: what the last look for benchmark questions was, in words.
    """
    import jinja2
    import yaml

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("s1ray.curation", "."),
        # Markdown; what is not ours goes through `plain`.
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["plain"] = plain
    header = {
        "pretty_name": f"{count:,} questions",
        "size_categories": [next((name for most, name in _SIZES if count < most), "10M<n<100M")],
        "tags": ["reasoning", "s1ray"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
    }
    page = environment.get_template("card.md.j2").render(
        header=yaml.safe_dump(header, sort_keys=False, allow_unicode=True),
        manifest=manifest,
        count=count,
        funnel=_funnel(manifest),
        read=_read(manifest),
        tables={by: _most(counts) for by, counts in composition.items()},
        settings=[*_settings(manifest["config"]), ("last look for benchmark questions", checked)],
        inputs=[(name, entry["digest"]) for name, entry in manifest["inputs"].items()][:SHOWN],
    )
    path.write_text(page, encoding="utf-8")


def plain(text: object) -> str:
    """A text in one line of Markdown, every character of which stands for itself."""
    return _SPECIAL.sub(r"\\\1", " ".join(visible(str(text)).split()))


def _funnel(manifest: Manifest) -> list[tuple[str, int, str]]:
    """Stage, rows that are left after it, and what it dropped."""
    stages = [name.removeprefix("after ") for name in manifest["rows"] if name.startswith("after ")]
    drops = {
        stage: ", ".join(
            f"{count:,} {reason.partition(': ')[2]}"
            for reason, count in manifest["drops"].items()
            if reason.startswith(f"{stage}: ")
        )
        for stage in stages
    }
    return [(stage, manifest["rows"][f"after {stage}"], drops[stage] or "-") for stage in stages]


def _read(manifest: Manifest) -> list[tuple[str, int, int, int]]:
    """Source of the config, rows read, rows that its `where` or `limit` left out, and rows that could not be used."""
    return [
        (name, counts["read"], counts.get("not wanted", 0), sum(counts["quarantined"].values()))
        for name, counts in manifest["figures"].get("sources", {}).items()
    ][:SHOWN]


def _most(counts: NameCounts) -> list[tuple[str, int]]:
    shown = sorted(counts.at(counts.level).items(), key=lambda pair: (-pair[1], str(pair[0])))
    rows = [(name or "(none)", count) for name, count in shown[:SHOWN]]
    if others := shown[SHOWN:]:
        rows.append((f"{len(others):,} others", sum(count for _, count in others)))
    return rows


def _settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What decided the result, in words."""
    leaks, copies, selection = config["decontamination"], config["deduplication"], config["selection"]
    benchmarks = [each["name"] or location(each["path"]).stem for each in leaks["benchmarks"]]
    tiers = ["s1_ngrams"] if leaks["recipe"] == "s1_code" else leaks["drop"]
    against = f"against {', '.join(benchmarks)}; rows are dropped by the tiers {', '.join(tiers) or '(none)'}"
    kinds = ["equal text", *(["equal normal form"] if copies["normalised"] else [])]
    kinds += [f"near duplicates (Jaccard {copies['jaccard']:g})"] if copies["jaccard"] is not None else []
    kinds += ["8 words in a row shared with an earlier source"] if copies["cross_source_ngrams"] else []
    found = [
        ("seed", str(config["seed"])),
        ("decontamination", against if benchmarks else "none: no benchmark was given"),
        ("deduplication", ", ".join(kinds)),
        ("difficulty", _difficulty(config["difficulty"])),
        ("selection", selection["method"]),
    ]
    return found


def _difficulty(config: Mapping[str, Any] | None) -> str:
    if config is None:
        return "not looked at"
    if config["kind"] == "given":
        return "labels of the sources"
    models = ", ".join(f"{label} ({_model_name(model)})" for label, model in config["models"].items())
    most, least = (config.get(f"{name}_pass_rate", 0) for name in ("max", "min"))
    easy = f"in more than {most:.0%} of its attempts" if most else "once"
    hard = f", or none in {least:.0%}" if least else ""
    return f"dropped where a model answers correctly {easy}{hard}: {models}"


def _model_name(model: Mapping[str, Any]) -> str:
    """Of a teacher's config, or of an engine's, which runs of older versions have."""
    name = model.get("engine", model).get("model", model.get("kind", ""))
    return location(name).name
