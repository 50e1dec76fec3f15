"""A measurement as a log of inspect_ai: an `.eval` file, which `inspect view` and `read_eval_log` open.

The format is version 2 of the log (inspect_ai 0.3): a zip file of `header.json`, one JSON file for each sample, and
`summaries.json`. Samples are written one by one, so a log may be larger than memory; only the summaries are held.
"""

from __future__ import annotations

import hashlib
import json
import zipfile

from pydantic import JsonValue

from s1ray.evaluation.interchange.measured import Measurement, tokens_of
from s1ray.schemas import Evaluation
from s1ray.storage import Location, writing

SCORER = "s1ray"
VALUES = {True: "C", False: "I"}
STOP_REASONS = {"stop": "stop", "length": "max_tokens", "tool_calls": "tool_calls", "content_filter": "content_filter"}
SHOWN = 500
"""Characters of a summary's texts."""

Json = dict[str, JsonValue]


def write(measurement: Measurement, folder: Location) -> list[Location]:
    """Write the log.

    Args:
        measurement: what to write.
        folder: gets `<benchmark>_<model>_<arm>.eval`.

    Returns:
        The file.
    """
    path = folder / f"{measurement.name}.eval"
    summaries: list[JsonValue] = []
    with writing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as log:
        for row in measurement.rows():
            sample = _sample(measurement, row)
            log.writestr(f"samples/{row.question_id}_epoch_{measurement.number(row)}.json", _dumps(sample))
            summaries.append(_summary(sample))
        log.writestr("summaries.json", _dumps(summaries))
        log.writestr("header.json", _dumps(_header(measurement, tokens_of(measurement.arm.rows))))
    return [path]


def _sample(measurement: Measurement, row: Evaluation) -> Json:
    question = measurement.question(row)
    reasoning: list[JsonValue] = [{"type": "reasoning", "reasoning": row.thinking}] if row.thinking else []
    answer: Json = {"role": "assistant", "content": [*reasoning, {"type": "text", "text": row.answer}]}
    asked: JsonValue = {"role": "user", "content": question}
    model = measurement.model.name
    usage = _usage(tokens_of([row]))
    metadata: Json = {
        "domain": row.domain,
        "verdict": row.verdict,
        "graded_by": row.graded_by,
        "waits": row.waits,
        "end_forced": row.end_forced,
        "answer_cut": row.answer_cut,
        "calls": row.calls,
        "uncounted_calls": row.uncounted_calls,
    }
    sample: Json = {
        "id": row.question_id,
        "epoch": measurement.number(row),
        "input": question,
        "target": row.gold,
        "messages": [asked, answer],
        "output": {
            "model": model,
            "choices": [{"message": answer, "stop_reason": STOP_REASONS.get(row.finish_reason, "unknown")}],
            "usage": usage,
        },
        "metadata": metadata,
        "model_usage": {model: usage},
    }
    if row.correct is not None:
        sample["scores"] = {SCORER: {"value": VALUES[row.correct], "answer": row.extracted, "explanation": row.verdict}}
    if row.error is not None:
        sample["error"] = {"message": row.error, "traceback": "", "traceback_ansi": ""}
    return sample


def _summary(sample: Json) -> JsonValue:
    kept: Json = {name: sample[name] for name in ("id", "epoch", "scores", "model_usage") if name in sample}
    error = sample.get("error")
    return {
        **kept,
        "input": str(sample["input"])[:SHOWN],
        "target": str(sample["target"])[:SHOWN],
        "error": error["message"] if isinstance(error, dict) else None,
        "completed": True,
    }


def _usage(tokens: dict[str, int]) -> Json:
    return {**tokens, "total_tokens": tokens.get("input_tokens", 0) + tokens.get("output_tokens", 0)}


def _header(measurement: Measurement, tokens: dict[str, int]) -> Json:
    arm, config, manifest = measurement.arm, measurement.config, measurement.manifest
    started, finished = measurement.started.isoformat(), measurement.finished.isoformat()
    identity = hashlib.sha256(f"{manifest['digest']} {measurement.name}".encode()).hexdigest()
    value, error = measurement.accuracy()
    metrics: Json = {"accuracy": {"name": "accuracy", "value": value}}
    if error is not None:
        metrics["stderr"] = {"name": "stderr", "value": error}
    scored = sum(row.correct is not None for row in arm.rows)
    generate: Json = {
        "temperature": measurement.temperature,
        "top_p": config.sampling.top_p,
        "seed": config.seed,
    }
    ids: list[JsonValue] = [*sorted(arm.questions)]
    spec: Json = {
        "eval_id": identity[:22],
        "run_id": manifest["digest"][:22],
        "task_id": identity[22:44],
        "created": started,
        "task": measurement.results.benchmark,
        "task_args": {"arm": arm.arm, **measurement.settings},
        "dataset": {"name": measurement.results.benchmark, "samples": len(ids), "sample_ids": ids},
        "model": measurement.model.name,
        "model_generate_config": generate,
        "config": {"epochs": arm.samples},
        "packages": {name: str(version) for name, version in manifest["versions"].items()},
        "metadata": {"s1ray": {"model": arm.model, "digest": manifest["digest"]}},
    }
    results: Json = {
        "total_samples": len(arm.rows),
        "completed_samples": len(arm.answered),
        "scores": [
            {
                "name": SCORER,
                "scorer": SCORER,
                "scored_samples": scored,
                "unscored_samples": len(arm.rows) - scored,
                "metrics": metrics,
            }
        ],
    }
    return {
        "version": 2,
        "status": "success",
        "eval": spec,
        "plan": {"name": "plan", "steps": [{"solver": arm.setting.strategy, "params": measurement.settings}]},
        "results": results,
        "stats": {
            "started_at": started,
            "completed_at": finished,
            "model_usage": {measurement.model.name: _usage(tokens)},
        },
    }


def _dumps(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False)
