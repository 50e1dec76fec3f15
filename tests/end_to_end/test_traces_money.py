"""`s1ray traces` and its money: a probe whose answers the run keeps, and a limit that holds."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from s1ray.cli import app
from s1ray.traces.bill import Prices
from tests.support.faulty_teacher import USABLE, Journal, faulty_teacher
from tests.support.trace_runs import write_questions

pytestmark = [pytest.mark.end_to_end]

QUESTIONS, SAMPLES = 40, 2
KEY = "sk-faulty-0123456789abcdef"
PRICES = {"prompt": 100.0, "completion": 1000.0}
LIMIT = 8.0


def test_a_probe_is_paid_once_and_a_limit_holds_until_it_is_raised(tmp_path: Path, ray_session: None) -> None:
    write_questions(tmp_path / "questions.parquet", {f"What is {n} + 7 ?": str(n + 7) for n in range(QUESTIONS)})
    (key := tmp_path / "key").write_text(KEY)
    key.chmod(0o600)
    with faulty_teacher(tmp_path / "server", 3, KEY) as address:
        config = {
            "output": str(tmp_path / "run"),
            "questions": str(tmp_path / "questions.parquet"),
            "tokenizer": "miniature-base",
            "samples": SAMPLES,
            "max_failed_share": 0.1,
            "teacher": {
                **{"kind": "openai", "base_url": address, "model": "faulty", "api_key_file": str(key)},
                **{"max_tokens": 512, "thinking_format": "deepseek_r1", "prices": PRICES, "concurrency": 8},
            },
        }
        (tmp_path / "traces.yaml").write_text(yaml.safe_dump(config))

        def s1ray(*words: str) -> Result:
            found = CliRunner().invoke(app, ["traces", *words])
            assert "Traceback" not in found.output
            assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
            return found

        same = ("--config", str(tmp_path / "traces.yaml"))
        assert "as sampled" not in s1ray(*same, "--dry-run").output

        probed = s1ray("probe", *same, "--questions", "10")
        assert probed.exit_code == 0, probed.output
        assert "of 80 that the run makes" in probed.output
        assert "the whole run, as sampled from" in probed.output
        asked = Counter((call.question, call.seed) for call in Journal(tmp_path / "server").calls)
        assert len(asked) == len({question for question, _ in asked}) == 10, "ten different questions"

        dry = s1ray(*same, "--dry-run").output
        assert "# as sampled from " in dry
        assert len(Journal(tmp_path / "server").calls) == asked.total(), "a dry run asks nothing"

        other = s1ray(*same, "--set", "teacher.model=another")
        assert other.exit_code == 2
        assert "differs in teacher.model" in other.output

        limited = s1ray(*same, "--set", f"teacher.max_spend={LIMIT}")
        assert limited.exit_code == 2
        assert "could exceed max_spend (8.0000); everything is kept: raise max_spend and run again" in limited.output
        spent = billed(tmp_path)
        assert LIMIT - 0.6 * 8 < spent <= LIMIT, "what is left is less than calls in flight could cost"
        again = s1ray(*same, "--set", f"teacher.max_spend={LIMIT}")
        assert again.exit_code == 2
        assert billed(tmp_path) == spent, "nothing more is asked"

        assert s1ray(*same, "--set", "teacher.max_spend=1000").exit_code == 0
    useful = Counter(
        (call.question, call.seed) for call in Journal(tmp_path / "server").calls if call.sent and call.kind in USABLE
    )
    assert set(useful.values()) == {1}, "nothing is asked twice, the probe's included"
    assert QUESTIONS * SAMPLES * 0.9 <= len(useful) <= QUESTIONS * SAMPLES
    bill = json.loads((tmp_path / "run" / "manifest.json").read_text())["figures"]["bill"]["money"]
    unknown = bill["lost_at_most"] + bill["without_a_count_at_most"]
    assert bill["counted"] <= billed(tmp_path) <= bill["counted"] + unknown


def billed(folder: Path) -> float:
    """What the server billed."""
    usages = [call.usage for call in Journal(folder / "server").calls if call.usage is not None]
    prices = Prices.model_validate(PRICES)
    return sum(prices.money(usage["prompt"], usage["cached"], usage["completion"]) for usage in usages)
