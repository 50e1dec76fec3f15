from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Literal

import pytest
from rich.console import Console
from typer.testing import CliRunner

from s1ray.cli import app
from s1ray.config import ConfigError
from s1ray.schemas import Trace, to_table, write_table
from s1ray.storage import StorePath, upload
from s1ray.training.config import TrainingConfig
from s1ray.training.data.examples import Unusable
from s1ray.training.inspection import InspectedRow, inspect_rows, show
from tests.support.object_store import bucket, s3_environment, s3_server
from tests.support.training_runs import training_config
from tests.training.test_trainer import row

__all__ = ["bucket", "s3_environment", "s3_server"]


@pytest.fixture
def config(tmp_path: Path, model_folder: Path) -> TrainingConfig:
    rows = [row(0), row(1, finish_reason="length"), row(2, thinking="[bold] ½"), row(3)]
    write_table(to_table(rows, Trace), tmp_path / "traces.parquet")
    return training_config(model=str(model_folder), traces=str(tmp_path / "traces.parquet"))


def shown(found: InspectedRow | Unusable, *, colours: bool = False) -> str:
    out = io.StringIO()
    system: Literal["standard", "auto"] = "standard" if colours else "auto"
    show(found, Console(file=out, highlight=False, force_terminal=colours or None, color_system=system))
    return out.getvalue()


def test_rows_are_shown_as_the_model_sees_them_with_masked_text_in_brackets(config: TrainingConfig) -> None:
    (found,) = inspect_rows(config, ids=["q2-0"])
    assert isinstance(found, InspectedRow)
    head, text = shown(found).split("\n", 1)
    prompt = (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nWhat is 2 + 1?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert text == (f"⟦{prompt}⟧<|im_start|>think\n[bold] ½\n<|im_start|>answer\nAnswer: 3<|im_end|>\n\n")
    masked = found.example.loss_mask.index(True)
    total = len(found.example.input_ids)
    assert head == (
        f"q2-0: {total} tokens, {masked} masked, {total - masked} trained "
        f"(first: {masked} '<|im_start|>', id 257; last: {total - 1} '\\n', id {found.example.input_ids[-1]})"
    )


def test_a_model_in_a_store_is_fetched(
    config: TrainingConfig, bucket: StorePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    upload(Path(config.model), bucket / "model")
    there = config.model_copy(update={"model": f"{bucket}/model"})
    assert list(map(shown, inspect_rows(there))) == list(map(shown, inspect_rows(config)))


def test_on_a_terminal_masked_text_is_grey_and_control_tokens_are_coloured(config: TrainingConfig) -> None:
    (found,) = inspect_rows(config, rows=1)
    text = shown(found, colours=True)
    assert "\x1b[90mWhat is 0 + 1?\x1b[0m" in text
    assert "\x1b[2;36m<|im_start|>\x1b[0m\x1b[90massistant\x1b[0m" in text
    assert "\x1b[1;36m<|im_start|>\x1b[0mthink" in text
    assert "⟦" not in text


def test_the_first_rows_are_shown_and_an_unusable_one_says_why(config: TrainingConfig) -> None:
    rows = list(inspect_rows(config, rows=2))
    assert [type(found) for found in rows] == [InspectedRow, Unusable]
    assert shown(rows[1]) == "q1-0: unusable, cut_by_teacher (finish_reason is 'length')\n"
    assert len(list(inspect_rows(config, rows=100))) == 4


def test_an_unknown_id_is_answered_with_those_like_it(config: TrainingConfig) -> None:
    with pytest.raises(ConfigError, match=r"no trace has the id 'q3'; there are, for example, q3-0"):
        list(inspect_rows(config, ids=["q3"]))


def test_the_command_takes_the_same_config_as_training(config: TrainingConfig) -> None:
    settings = ["--set", f"model={config.model}", "--set", f"traces={config.traces}", "--set", "output=x"]
    result = CliRunner().invoke(app, ["train", "inspect", *settings, "--id", "q3-0"])
    assert result.exit_code == 0, result.output
    assert "What is 3 + 1?<|im_end|>" in result.output
    assert CliRunner().invoke(app, ["train", *settings, "inspect"]).exit_code == 2


def test_conversations_of_a_json_lines_file_are_shown_turn_by_turn(config: TrainingConfig, tmp_path: Path) -> None:
    chat = [
        {"role": "system", "content": "Count."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "<think>one, two</think>2"},
        {"role": "user", "content": "2 + 1?"},
        {"role": "assistant", "content": "3", "reasoning_content": "three"},
    ]
    rows = [{"id": "chat", "messages": chat}, {"id": "bad", "messages": []}]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = config.model_copy(update={"traces": str(tmp_path / "chat.jsonl")})
    first, second, bad = inspect_rows(settings)
    system = "<|im_start|>system\nCount.<|im_end|>\n"
    assert shown(first).split("\n", 1)[1] == (
        f"⟦{system}<|im_start|>user\n1 + 1?<|im_end|>\n<|im_start|>assistant\n⟧"
        "<|im_start|>think\none, two\n<|im_start|>answer\nAnswer: 2<|im_end|>\n\n"
    )
    assert shown(second).startswith("chat/2: ")
    assert "Answer: 2<|im_end|>\n<|im_start|>user\n2 + 1?<|im_end|>\n<|im_start|>assistant\n⟧" in shown(second)
    assert shown(bad) == "bad: unusable, malformed (the conversation is no list of messages, but [])\n"
