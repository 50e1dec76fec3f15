"""The teacher of examples/own_teacher."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s1ray.config import load_config
from s1ray.errors import InputError, MissingError
from s1ray.schemas import Question, question_id
from s1ray.teachers.base import Ask, Teacher
from s1ray.traces.config import TracesConfig

KNOWN, UNKNOWN = "What is 2 + 2?", "What is 3 + 3?"


def teacher(path: Path) -> Teacher:
    return load_config(TracesConfig, "examples/own_teacher/traces.yaml", [f"teacher.path={path}"]).teacher


def ask(text: str, sample: int = 0) -> Ask:
    return Ask(Question(id=question_id(text), question=text), sample)


def test_recorded_traces_are_given_back_and_missing_ones_say_so(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    file.write_text(json.dumps({"question": KNOWN, "thinking": "2 and 2 are 4.", "answer": "4"}) + "\n")
    recorded = teacher(file)
    recorded.check()
    assert recorded.inputs() == {"recorded": str(file)}
    assert recorded.label == "deepseek-r1"
    running = recorded.start(seed=0, folder=tmp_path / "teacher")
    asks = [ask(KNOWN), ask(UNKNOWN), ask(KNOWN, sample=1)]
    found, missing, second = (response for _, response in running.respond(asks, lambda call: None))
    running.close()
    assert (found.thinking, found.attempt, found.error) == ("2 and 2 are 4.", "4", None)
    assert missing.error is not None
    assert second.error is not None


def test_a_missing_or_broken_file_is_found_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such file"):
        teacher(tmp_path / "none.jsonl").check()
    file = tmp_path / "traces.jsonl"
    file.write_text('{"question": "Why?"}\n')
    with pytest.raises(InputError, match=r"traces\.jsonl:1"):
        teacher(file).check()
