"""A measurement in the files of the language model evaluation harness: `results_*.json` and `samples_*.jsonl`.

The fields are those of lm_eval 0.4.13 with `--log_samples`, one task for each benchmark: a line of samples is a
question with all of its responses in `resps`, the answers that were read off them in `filtered_resps`, and the share of
right ones as `exact_match`. What the harness has no place for stands under `s1ray`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from itertools import groupby

from pydantic import JsonValue

from s1ray.evaluation.interchange.measured import Measurement
from s1ray.schemas import Evaluation
from s1ray.storage import Location, write_json, writing

METRIC = "exact_match"
FILTER = "none"
VERSION = 1
"""Of the tasks."""

UNKNOWN = (
    "git_hash",
    "upper_git_hash",
    "system_instruction",
    "system_instruction_sha",
    "chat_template",
    "chat_template_sha",
    "fewshot_as_multiturn",
)
"""Fields of the harness that say how itself was run."""

Json = dict[str, JsonValue]


def write(measurement: Measurement, folder: Location) -> list[Location]:
    """Write the two files.

    Args:
        measurement: what to write.
        folder: gets a folder `<benchmark>_<model>_<arm>` with both, as the harness has one for each model.

    Returns:
        The files.
    """
    task = re.sub(r"\W", "_", measurement.results.benchmark)
    own = folder / measurement.name
    own.mkdir(parents=True, exist_ok=True)
    date = measurement.finished.replace(tzinfo=None).isoformat().replace(":", "-")
    samples, results = own / f"samples_{task}_{date}.jsonl", own / f"results_{date}.json"
    hashes = hashlib.sha256()
    with writing(samples) as temporary, temporary.open("w", encoding="utf-8") as lines:
        for line in _lines(measurement):
            hashes.update("".join(str(line[name]) for name in ("doc_hash", "prompt_hash", "target_hash")).encode())
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")
    write_json(results, _results(measurement, task, hashes.hexdigest()))
    return [results, samples]


def _lines(measurement: Measurement) -> Iterator[Json]:
    for number, (_, samples) in enumerate(groupby(measurement.rows(), key=lambda row: row.question_id)):
        yield _line(measurement, number, list(samples))


def _line(measurement: Measurement, number: int, samples: list[Evaluation]) -> Json:
    first, question = samples[0], measurement.question(samples[0])
    decided = [row.correct for row in samples if row.correct is not None]
    doc: Json = {"id": first.question_id, "question": question, "answer": first.gold, "domain": first.domain}
    asked: Json = {"until": [], **measurement.settings, "temperature": measurement.temperature}
    return {
        "doc_id": number,
        "doc": doc,
        "target": first.gold,
        "arguments": {"gen_args_0": {"arg_0": question, "arg_1": asked}},
        "resps": [[row.answer for row in samples]],
        "filtered_resps": [row.extracted or "" for row in samples],
        "filter": FILTER,
        "metrics": [METRIC],
        "doc_hash": _hash(json.dumps(doc, sort_keys=True, ensure_ascii=False)),
        "prompt_hash": _hash(question),
        "target_hash": _hash(first.gold),
        # None: nobody can say.
        METRIC: sum(decided) / len(decided) if decided else None,
        "s1ray": [_account(row) for row in samples],
    }


def _account(row: Evaluation) -> JsonValue:
    return {
        "thinking": row.thinking,
        "verdict": row.verdict,
        "thinking_tokens": None if row.thinking_unknown else row.thinking_tokens,
        "answer_tokens": row.answer_tokens,
        "waits": row.waits,
        "end_forced": row.end_forced,
        "answer_cut": row.answer_cut,
        "finish_reason": row.finish_reason,
        "calls": row.calls,
        "error": row.error,
    }


def _results(measurement: Measurement, task: str, task_hash: str) -> Json:
    arm, config, manifest = measurement.arm, measurement.config, measurement.manifest
    value, error = measurement.accuracy()
    questions: Json = {"original": len(arm.questions), "effective": len(arm.correct)}
    model = measurement.model.name
    generation: Json = {"temperature": measurement.temperature, "top_p": config.sampling.top_p}
    return {
        "results": {
            task: {
                "alias": task,
                f"{METRIC},{FILTER}": value,
                f"{METRIC}_stderr,{FILTER}": "N/A" if error is None else error,
            }
        },
        "group_subtasks": {task: []},
        "configs": {
            task: {
                "task": task,
                "output_type": "generate_until",
                "repeats": arm.samples,
                "num_fewshot": 0,
                "metric_list": [{"metric": METRIC, "aggregation": "mean", "higher_is_better": True}],
                "generation_kwargs": {**generation, **measurement.settings},
                "metadata": {"version": VERSION},
            }
        },
        "versions": {task: VERSION},
        "n-shot": {task: 0},
        "higher_is_better": {task: {METRIC: True}},
        "n-samples": {task: questions},
        "config": {
            "model": "s1ray",
            "model_args": {"model": model, "label": arm.model, "arm": arm.arm},
            "gen_kwargs": generation,
            "random_seed": config.seed,
        },
        **dict.fromkeys(("lm_eval_version", "transformers_version"), "N/A"),
        **dict.fromkeys(UNKNOWN),
        "date": measurement.started.timestamp(),
        "task_hashes": {task: task_hash},
        "model_source": "s1ray",
        "model_name": f"{arm.model} {arm.arm}",
        "model_name_sanitized": measurement.name,
        "total_evaluation_time_seconds": str(measurement.seconds),
        "s1ray": {"digest": manifest["digest"], "versions": {**manifest["versions"]}},
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
