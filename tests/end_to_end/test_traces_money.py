"""`s1ray traces` and its money: a probe whose answers the run keeps, and a limit that holds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from s1ray.cli import app
from s1ray.teachers.bill import Prices
from s1ray.traces.estimate import first_answers
from tests.support.faulty_teacher import USABLE, Journal, faulty_teacher
from tests.support.mounts import available, small_disk
from tests.support.trace_runs import write_questions

pytestmark = [pytest.mark.end_to_end]

QUESTIONS, SAMPLES = 40, 2
KEY = "sk-faulty-0123456789abcdef"
PRICES = {"prompt": 100.0, "completion": 1000.0}
LIMIT = 8.0


@contextmanager
def prepared(folder: Path) -> Iterator[Callable[..., Result]]:
    """Questions, a server and a config; what runs `s1ray traces` with it."""
    write_questions(folder / "questions.parquet", {f"What is {n} + 7 ?": str(n + 7) for n in range(QUESTIONS)})
    (key := folder / "key").write_text(KEY)
    key.chmod(0o600)
    with faulty_teacher(folder / "server", 3, KEY) as address:
        config = {
            "output": str(folder / "disk" / "run"),
            "questions": str(folder / "questions.parquet"),
            "tokenizer": "miniature-base",
            "samples": SAMPLES,
            "max_failed_share": 0.1,
            "teacher": {
                **{"kind": "openai", "base_url": address, "model": "faulty", "api_key": f"file:{key}"},
                **{"max_tokens": 512, "thinking_format": "deepseek_r1", "prices": PRICES, "concurrency": 8},
            },
        }
        (folder / "traces.yaml").write_text(yaml.safe_dump(config))

        def s1ray(*words: str) -> Result:
            place = 1 if words[:1] == ("probe",) else 0
            options = ["--config", str(folder / "traces.yaml"), *words[place:]]
            found = CliRunner().invoke(app, ["traces", *words[:place], *options])
            assert "Traceback" not in found.output
            assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
            return found

        yield s1ray


@pytest.mark.slow
def test_a_probe_is_paid_once_and_a_limit_holds_until_it_is_raised(tmp_path: Path, ray_session: None) -> None:
    with prepared(tmp_path) as s1ray:
        assert "as sampled" not in s1ray("--dry-run").output

        probed = s1ray("probe", "--questions", "10")
        assert probed.exit_code == 0, probed.output
        assert "of 80 that the run makes" in probed.output
        assert "the whole run, as sampled from" in probed.output
        asked = Counter((call.question, call.seed) for call in Journal(tmp_path / "server").calls)
        assert len(asked) == len({question for question, _ in asked}) == 10, "ten different questions"

        dry = s1ray("--dry-run").output
        assert "# as sampled from " in dry
        assert len(Journal(tmp_path / "server").calls) == asked.total(), "a dry run asks nothing"

        other = s1ray("--set", "teacher.model=another")
        assert other.exit_code == 2
        assert "differs in teacher.model" in other.output

        limited = s1ray("--set", f"teacher.max_spend={LIMIT}")
        assert limited.exit_code == 2
        assert "could exceed max_spend (8.0000); everything is kept: raise max_spend and run again" in limited.output
        spent = billed(tmp_path)
        assert LIMIT - 0.6 * 8 < spent <= LIMIT, "what is left is less than calls in flight could cost"
        again = s1ray("--set", f"teacher.max_spend={LIMIT}")
        assert again.exit_code == 2
        assert billed(tmp_path) == spent, "nothing more is asked"

        assert s1ray("--set", "teacher.max_spend=1000").exit_code == 0
        assert "the run is complete" in s1ray("probe").output
    useful = Counter(
        (call.question, call.seed) for call in Journal(tmp_path / "server").calls if call.sent and call.kind in USABLE
    )
    assert set(useful.values()) == {1}, "nothing is asked twice, the probe's included"
    assert QUESTIONS * SAMPLES * 0.9 <= len(useful) <= QUESTIONS * SAMPLES
    bill = json.loads((tmp_path / "disk" / "run" / "manifest.json").read_text())["figures"]["bill"]["money"]
    unknown = bill["lost_at_most"] + bill["without_a_count_at_most"]
    assert bill["counted"] <= billed(tmp_path) <= bill["counted"] + unknown


@pytest.mark.slow
@pytest.mark.skipif(not available(), reason="needs root, to mount a small file system")
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_after_it(tmp_path: Path, ray_session: None) -> None:
    (disk := tmp_path / "disk").mkdir()
    with prepared(tmp_path) as s1ray, small_disk(disk, mebibytes=1):
        (filler := disk / "filler").write_bytes(b"x" * (1000 << 10))
        full = s1ray()
        assert full.exit_code == 2
        assert ".jsonl: cannot be written: No space left on device; make room there; what came is kept" in full.output
        assert full.output.count("error:") == 1
        answered = len(first_answers(disk / "run" / "responses"))
        assert 0 < answered < QUESTIONS * SAMPLES
        filler.unlink()
        found = s1ray()
        assert found.exit_code == 0, found.output
        assert f"{answered} of {QUESTIONS * SAMPLES} are there already" in found.output


def billed(folder: Path) -> float:
    """What the server billed."""
    usages = [call.usage for call in Journal(folder / "server").calls if call.usage is not None]
    prices = Prices.model_validate(PRICES)
    return sum(prices.money(usage["prompt"], usage["cached"], usage["completion"]) for usage in usages)
