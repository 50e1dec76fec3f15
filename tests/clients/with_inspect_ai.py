"""`inspect_ai`: a task of four questions with a budget, and its reader on logs that `s1ray eval export` wrote."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from inspect_ai import Task
from inspect_ai import eval as run_eval
from inspect_ai.dataset import Sample
from inspect_ai.log import read_eval_log
from inspect_ai.model import ContentReasoning, GenerateConfig, get_model
from inspect_ai.scorer import includes

from tests.clients.check import BUDGET, URL, Shown, check

SUMS = Path(__file__).parent / "lm_eval_task" / "sums.jsonl"


def evaluate(provider: str, base_url: str, **config: object) -> Shown:
    rows = [json.loads(line) for line in SUMS.read_text(encoding="utf-8").splitlines()]
    samples = [Sample(input=f"What is {row['question']}?", target=str(row["answer"])) for row in rows]
    model = get_model(
        f"{provider}/s1",
        base_url=base_url,
        api_key="unused",
        config=GenerateConfig(max_tokens=400, temperature=0.0, **config),
    )
    with tempfile.TemporaryDirectory() as folder:
        task = Task(dataset=samples, scorer=includes())
        (log,) = run_eval(task, model=model, log_dir=folder, display="none")
        assert log.status == "success", log.error
        # The samples are read when they are looked at.
        messages = [sample.output.message for sample in log.samples or ()]
    thinking = [
        part.reasoning
        for message in messages
        if not isinstance(message.content, str)
        for part in message.content
        if isinstance(part, ContentReasoning)
    ]
    (usage,) = log.stats.model_usage.values()
    answers = "\n".join(message.text for message in messages)
    return Shown(answers, "\n".join(thinking) or None, usage.output_tokens, usage.reasoning_tokens)


def chat() -> Shown:
    return evaluate("openai-api/local", f"{URL}/v1", extra_body={"thinking": {"max_tokens": BUDGET}})


def messages() -> Shown:
    return evaluate("anthropic", URL, extra_body={"thinking": {"type": "enabled", "budget_tokens": BUDGET}})


def exported() -> None:
    """Logs of `s1ray eval export`, read by the tool that they are for."""
    for path in sorted(Path(os.environ["S1RAY_LOGS"]).glob("*.eval")):
        log = read_eval_log(str(path))
        assert log.status == "success"
        assert log.results is not None
        assert log.samples is not None
        (score,) = log.results.scores
        scored = [sample.scores["s1ray"].value for sample in log.samples if sample.scores]
        assert abs(scored.count("C") / len(scored) - score.metrics["accuracy"].value) < 1e-9
        assert len(log.samples) == log.results.total_samples


check("inspect_ai", "openai-api, eval with a budget", chat)
check("inspect_ai", "anthropic, eval with a budget", messages)
if "S1RAY_LOGS" in os.environ:
    exported()
