"""The demo: every stage of s1ray after the other, at laptop size, on a Ray cluster of its own.

    s1ray demo          # or: make demo

It is the recipe `run/miniature`, and a last screen that says what was measured and what to try next. A stage that is
complete is skipped; a killed one is resumed. Whatever it starts (Ray, the training workers, the served models) it
stops, also on Ctrl-C and SIGTERM.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from s1ray.evaluation.arm_result import MAX_CUT_SHARE, ArmResult
from s1ray.evaluation.loading import load_results
from s1ray.pipelines import load_pipeline, run_pipeline
from s1ray.storage import write_text

SERVE_FILE = "serve.yaml"
"""In the demo's folder: a Serve config of the fine-tuned model."""


def run_demo(output: Path, *, fresh: bool = False, questions: int = 300, dry_run: bool = False) -> None:
    """Run the system end to end.

    Args:
        output: folder of the runs and the report.
        fresh: run complete stages again.
        questions: held-out questions to measure on.
        dry_run: load every stage's config and say what would be run, and nothing else.
    """
    pipeline = load_pipeline("miniature", output=output, overrides=[f"eval.limit={questions}"])
    if dry_run:
        for line in pipeline.check():
            print(line)
        return
    run_pipeline(pipeline, force=fresh)
    write_text(output / SERVE_FILE, yaml.safe_dump(serve_config(output), sort_keys=False))
    print(closing_words(output))


def serve_config(output: Path) -> dict[str, object]:
    """A Serve config file's content: the fine-tuned model on the loopback interface."""
    model = {
        "name": "s1-miniature",
        "model": str((output / "train" / "model").absolute()),
        "device": "cpu",
        "max_model_len": 2048,
        "budgets": {"default": 256, "maximum": 1536},
    }
    application = {
        "name": "s1ray",
        "route_prefix": "/",
        "import_path": "s1ray.serving.app:build_app",
        "args": {"models": [model]},
    }
    return {"http_options": {"host": "127.0.0.1", "port": 8000}, "applications": [application]}


def closing_words(output: Path) -> str:
    """What the demo measured, and what to try next."""
    results = load_results([output / "eval"])
    arms = results.of("sft")
    at_once = next(arm for arm in arms if arm.setting.limits[1] == 0)
    capped = [arm for arm in arms if not arm.setting.budget.waits]
    most = max(capped, key=lambda arm: arm.setting.limits[1] or 0)
    waiting = max((arm for arm in arms if arm.setting.budget.waits), key=lambda arm: arm.accuracy.value)
    lines = [
        "",
        "What you have seen",
        f"  Of {len(at_once.rows)} held-out questions the fine-tuned model answers correctly",
        f"    {_share(at_once)} at once, without thinking{_cut(at_once)},",
        f"    {_share(most)} with up to {most.setting.limits[1]} thinking tokens,",
        f'    {_share(waiting)} where "Wait" replaces the end of its thinking {waiting.setting.budget.waits} time(s).',
        "  The table has every setting with its interval; the report shows the responses themselves.",
        "",
        "What to try next",
        f"  s1ray serve run {output / SERVE_FILE}",
        "      serve your model; then open http://127.0.0.1:8000/playground",
        f"  s1ray train inspect --config miniature --set traces={output / 'traces' / 'traces.parquet'}",
        "      see training rows as the model sees them",
        "  s1ray recipes",
        "      the configs that come with s1ray, the paper's s1-32B among them",
    ]
    return "\n".join(lines)


def _cut(arm: ArmResult) -> str:
    """A remark where the model works on in its answers, since then accuracy says little."""
    if arm.cut_share <= MAX_CUT_SHARE:
        return ""
    return f" ({100 * arm.cut_share:.0f} % of the answers were cut: it works on in them)"


def _share(arm: ArmResult) -> str:
    return f"{100 * arm.accuracy.value:.1f} %"
