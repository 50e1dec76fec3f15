"""lighteval's metric of its MATH-500 and AIME tasks (`Metrics.pass_at_k_math`), on one sample.

Its tasks give the reference as a solution with a box in it, so a bare gold is put into one.
"""

import logging

from lighteval.metrics.metrics import Metrics
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.requests import Doc
from loop import run

logging.disable(logging.CRITICAL)
metric = Metrics.pass_at_k_math(sample_params={"k": 1, "n": 1}).sample_level_fn


def judge(gold: str, text: str) -> tuple[str, str]:
    """A verdict on one case."""
    boxed = gold if "\\boxed" in gold else f"\\boxed{{{gold.strip('$')}}}"
    doc = Doc(query="", choices=[f"ANSWER: {boxed}"], gold_index=0)
    score = metric.compute(doc=doc, model_response=ModelResponse(text=[text]))
    return "correct" if score else "incorrect", str((doc.specific or {}).get("extracted_predictions"))[:200]


judge("1", "1")
run(judge)
