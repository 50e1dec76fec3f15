"""Every config on docs/curation.md is one that the stage takes, and its tables say what was measured."""

from __future__ import annotations

import json
import re
import textwrap
from typing import Any

import pytest
import yaml

from s1ray.config import validate_config
from s1ray.curation.config import CurationConfig
from s1ray.curation.text import normal_form
from tests.support.markdown import ROOT

PAGE = (ROOT / "docs" / "curation.md").read_text(encoding="utf-8")
BLOCKS = [textwrap.dedent(block) for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]
SOURCE = {"kind": "files", "path": "pool.jsonl"}


@pytest.mark.parametrize("block", BLOCKS, ids=[block.split(":")[0].strip() + f" {n}" for n, block in enumerate(BLOCKS)])
def test_a_config_of_the_page_is_taken(block: str) -> None:
    given: dict[str, Any] = yaml.safe_load(block)
    config: dict[str, Any] = {"output": "runs/page", "sources": [SOURCE]}
    for name, value in given.items():
        match name:
            case "columns":
                config["sources"] = [SOURCE | {"columns": value}]
            case "classifier":
                config["domains"] = {"taxonomy": "msc", "classifier": value}
            case _:
                config[name] = value
    validate_config(CurationConfig, config, "docs/curation.md")


def test_equal_and_different_texts_of_the_page_are() -> None:
    section = PAGE.split("| equal | different |")[1].split("\n\n")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    assert len(rows) >= 5
    for equal, different in rows:
        spellings = re.findall(r"`([^`]+)`", equal)
        assert len({normal_form(f"Find {text}") for text in spellings}) == 1, spellings
        for group in different.split(";"):
            texts = re.findall(r"`([^`]+)`", group)
            assert len({normal_form(f"Find {text}") for text in texts}) == len(texts), texts


def test_the_table_of_rewrites_is_what_was_measured() -> None:
    measured = json.loads((ROOT / "benchmarks" / "curation" / "rewrites.json").read_text(encoding="utf-8"))
    columns = ("drop", "drop or review", "s1_ngrams", "ngrams", "template", "overlap", "13-grams", "MinHash 0.5")
    for row in measured["recall"]:
        cells = " | ".join(f"{100 * row[column]:.0f}" for column in columns)
        assert f"| {row['rewrite']} | {cells} |" in PAGE
    for tier, verdicts in measured["200 hits, read"].items():
        found = [measured["clean pool"][tier], sum(verdicts.values())]
        found += [verdicts.get(verdict, 0) for verdict in ("same", "variant", "other")]
        assert f"| `{tier}` | " + " | ".join(f"{count:,}" for count in found) + " |" in PAGE
