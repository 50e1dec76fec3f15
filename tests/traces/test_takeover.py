from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s1ray.config import ConfigError, validate_config
from s1ray.errors import MissingError
from s1ray.generation.base import Call, Usage
from s1ray.runs import OtherRunError, Run
from s1ray.schemas import Question, question_id, to_table, write_table
from s1ray.teachers.ledger import Ledger, Writer, read_answers
from s1ray.traces.config import TracesConfig
from s1ray.traces.takeover import check_takeover, kept_answers, take_over

TEXTS = ["What is 1 + 1?", "What is 2 + 2?"]
IDS = [question_id(text) for text in TEXTS]


def config_of(folder: Path, name: str, **changes: Any) -> TracesConfig:
    data = {
        "output": str(folder / name),
        "questions": str(folder / "questions.parquet"),
        "teacher": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "some"},
        "tokenizer": "miniature-base",
        "seed": 3,
    }
    return validate_config(TracesConfig, data | changes, "test")


def earlier_run(folder: Path, **changes: Any) -> Path:
    """A run with an answer to the first question, and a call without one."""
    config = config_of(folder, "earlier", **changes)
    write_table(
        to_table([Question(id=i, question=t) for i, t in zip(IDS, TEXTS, strict=True)], Question), config.questions
    )
    run = Path(config.output)
    writer = Writer(run / "responses")
    writer.call(Call(f"{IDS[0]}-0", 1, "sent"), prompt=9)
    usage = {"prompt_tokens": 5, "completion_tokens": 70, "cached_tokens": 0}
    fields = {"thinking": "hm", "attempt": "2", "finish_reason": "stop", "raw_finish_reason": None}
    writer.add("answered", f"{IDS[0]}-0", call=1, usage=usage, model_version="v1", **fields)
    writer.call(Call(f"{IDS[1]}-0", 1, "sent"), prompt=9)
    writer.close()
    manifest = {"stage": "traces", "config": config.model_dump(mode="json"), "inputs": {}, "digest": "0"}
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


def questions() -> list[tuple[str, str]]:
    return list(zip(IDS, TEXTS, strict=True))


def test_answers_come_along_and_stay_in_the_other_bill(tmp_path: Path) -> None:
    run = earlier_run(tmp_path)
    config = config_of(tmp_path, "later", responses_from=str(run), wrong="drop", samples=4)
    assert "taken over" in str(check_takeover(config, questions()))
    for _ in range(2):
        assert take_over(config, Path(config.output)) == 1
    ledger = Ledger(Path(config.output) / "responses")
    ledger.read()
    assert list(ledger.answers) == [f"{IDS[0]}-0"]
    (answer,) = read_answers(ledger.folder, ledger.answers.values())
    assert (answer.thinking, answer.model_version) == ("hm", "v1")
    assert answer.usage == Usage(prompt_tokens=5, completion_tokens=70)
    tally = ledger.tally(closed=True)
    assert (tally.sent, tally.answered, tally.lost, tally.completion_tokens) == (0, 0, 0, 0)
    # What the new run is in its own folder: the same run without the field resumes it.
    assert "responses_from" in config.incidental_fields()


def test_what_differs_is_named(tmp_path: Path) -> None:
    run = earlier_run(tmp_path)
    teacher = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "some", "temperature": 0.1}
    with pytest.raises(ConfigError, match=r"has another teacher\.temperature \(0\.6, here 0\.1\)"):
        check_takeover(config_of(tmp_path, "later", responses_from=str(run), teacher=teacher), questions())
    with pytest.raises(ConfigError, match=r"has another seed \(3, here 4\)"):
        check_takeover(config_of(tmp_path, "later", responses_from=str(run), seed=4), questions())


def test_nothing_is_taken_over_unasked(tmp_path: Path) -> None:
    config = config_of(tmp_path, "later")
    assert check_takeover(config, questions()) is None
    assert take_over(config, Path(config.output)) == 0
    assert not Path(config.output).exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 4}, "another seed"),
        ({"teacher": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "other"}}, "another teacher"),
        ({"output": "earlier"}, "own output"),
    ],
)
def test_answers_of_another_teacher_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    run = earlier_run(tmp_path)
    if "output" in changes:
        changes = {"output": str(run)}
    with pytest.raises(ConfigError, match=message):
        check_takeover(config_of(tmp_path, "later", responses_from=str(run), **changes), questions())


def test_ids_that_may_mean_other_questions_are_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, "later", responses_from=str(earlier_run(tmp_path)))
    with pytest.raises(ConfigError, match="may mean other questions"):
        check_takeover(config, [("1", TEXTS[0])])


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no run folder of the traces stage"):
        check_takeover(config_of(tmp_path, "later", responses_from=str(tmp_path / "nowhere")), questions())


def test_another_config_is_told_how_to_keep_the_answers(tmp_path: Path) -> None:
    run = earlier_run(tmp_path)
    later = config_of(tmp_path, "earlier", samples=3)
    Path(later.questions).write_bytes(b"")
    with pytest.raises(OtherRunError, match=rf"another `output` and responses_from={run} to take over its 1 answers"):
        Run("traces", later, kept=kept_answers)
    Run("traces", later, force=True, kept=kept_answers)
    aside = run.with_name("earlier.answers-1")
    taking = config_of(tmp_path, "earlier", samples=3, responses_from=str(aside))
    assert "taken over" in str(check_takeover(taking, questions()))
    assert take_over(taking, run) == 1


@pytest.mark.parametrize("manifest", ["{", '{"stage": "traces", "config": {"teacher": 5}}'])
def test_answers_in_a_damaged_run_are_kept(tmp_path: Path, manifest: str) -> None:
    run = earlier_run(tmp_path)
    (run / "manifest.json").write_text(manifest)
    kept = kept_answers(run)
    assert kept is not None
    assert kept.what == "1 answers"


def test_what_cost_nothing_is_not_kept(tmp_path: Path) -> None:
    run = earlier_run(tmp_path)
    (run / "manifest.json").write_text('{"stage": "traces", "config": {"teacher": {"kind": "procedural"}}}')
    assert kept_answers(run) is None
    assert kept_answers(tmp_path / "absent") is None


def test_a_batch_that_waits_at_the_provider_is_kept(tmp_path: Path) -> None:
    (tmp_path / "run" / "responses" / "teacher").mkdir(parents=True)
    kept = kept_answers(tmp_path / "run")
    assert kept is not None
    assert kept.what == "0 answers"
