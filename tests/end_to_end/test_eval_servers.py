"""An evaluation against servers that are not ours: stock vLLM with budgets forced from outside, and as a server that
knows nothing of thinking.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from s1ray.config import ConfigError, validate_config
from s1ray.evaluation.config import EvalConfig
from s1ray.evaluation.loading import load_results
from s1ray.evaluation.runner import evaluate
from s1ray.evaluation.summary import summary_markdown
from s1ray.miniature import BASE_MODEL_DIR
from tests.support.stock_vllm import NAME, stock_server

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

QUESTIONS = 24


def test_stock_vllm_is_evaluated_with_budgets_from_outside_and_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="needs the cpu or gpu extra")
    config = {
        "output": str(tmp_path / "eval"),
        "benchmark": "miniature",
        "limit": QUESTIONS,
        "models": [
            {
                "label": "forced",
                "name": NAME,
                "weights": str(BASE_MODEL_DIR),
                "driver": "segmented",
                "arms": ["max=0", "max=32", "max=64 waits=1", "vote of 4 max=32"],
            },
            {"label": "as it is", "name": NAME, "arms": ["plain max=96", "plain max=96 (Think first.)"]},
        ],
        "sweep": {"max_tokens": [0, 32, 64], "waits": [1]},
        "arms": [
            {"strategy": "majority", "votes": 4, "max_tokens": 32},
            {"strategy": "plain", "max_tokens": 96},
            {"strategy": "plain", "max_tokens": 96, "instruction": "Think first."},
        ],
        "sampling": {"answer_tokens": 32},
        "endpoint": {"concurrency": 16, "timeout": 300},
    }
    with stock_server(tmp_path / "log") as url:
        config["endpoint"] |= {"base_url": url}  # type: ignore[operator]
        run = evaluate(validate_config(EvalConfig, config, "test"))
        unable = config | {
            "output": str(tmp_path / "other"),
            "models": [{"label": "forced", "name": NAME, "arms": ["max=0"]}],
        }
        with pytest.raises(ConfigError, match="does not control it"):
            evaluate(validate_config(EvalConfig, unable, "test"))
    results = load_results([run.path])
    assert len(results.arms) == 6
    for arm in results.arms:
        assert len(arm.answered) == QUESTIONS
        # What a server that shows no thinking did of it is unknown, and not within limits.
        assert arm.obeying == (QUESTIONS if arm.model == "forced" else 0)
        assert arm.obeying + arm.unknown == QUESTIONS
        assert arm.uncounted == 0
    assert results.controlled == results.obeying
    budgets = [results.find("forced", name) for name in ("max=0", "max=32", "max=64 waits=1")]
    assert [arm.thinking_tokens.value > 0 for arm in budgets if arm is not None] == [False, True, True]
    votes, waits = results.find("forced", "vote of 4 max=32"), budgets[2]
    assert votes is not None
    assert all(row.calls >= 4 for row in votes.answered)
    assert waits is not None
    assert sum(row.waits for row in waits.answered) == QUESTIONS
    assert all(arm.unknown == QUESTIONS for arm in results.of("as it is"))
    table = summary_markdown([run.path])
    assert "| as it is | plain max=96 |" in table
    assert "unknown" in table
