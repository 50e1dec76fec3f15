"""Ask one model the miniature's questions twice: with the rules of the answer, and without the ban on delimiters.

    make demo                                # trains the model
    python -m benchmarks.answer_rules        # about ten minutes on two cores; writes results.json next to this module

One engine answers for both, greedily, and every other rule holds for both: the thinking's budget, and the answer's
limit of 32 tokens. Without the ban the model can think on behind the end of its thinking, as it could in s1's own code.
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from s1ray.config import load_config
from s1ray.evaluation.config import EvalConfig, ServedModel
from s1ray.evaluation.loading import load_results
from s1ray.evaluation.results import EvalResults, compare
from s1ray.evaluation.runner import evaluate, work
from s1ray.generation.base import GenerationRequest
from s1ray.generation.vllm import VLLMGenerator
from s1ray.models import EngineConfig
from s1ray.recipes import find_recipe
from s1ray.schemas import Completion
from s1ray.storage import write_json

BAN, FREE = "ban", "no ban"
HERE = Path(__file__).parent
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Shared:
    """One engine for both models of the evaluation, which close it twice.

    Answers are texts as the server gives them: delimiters and headers in them are seen, and graded with the rest.
    """

    def __init__(self, engine: VLLMGenerator) -> None:
        self._engine = engine

    async def complete(self, request: GenerationRequest) -> Completion:
        """Generate one response."""
        completion = await self._engine.complete(request)
        tokenized = self._engine._tokenized
        text = tokenized.decode(completion.output_ids or ()).partition(tokenized.format.end)[2]
        for token_id in tokenized.end_triggers:
            text = text.removesuffix(tokenized.decode([token_id]))
        return dataclasses.replace(completion, answer=text.strip("\n"))

    async def close(self) -> None:
        """Leave the engine to `measure_both`."""


def without_ban(engine: VLLMGenerator) -> VLLMGenerator:
    """The same engine, asked with plans that ban nothing in the answer."""
    free = copy.copy(engine)
    free._tokenized = dataclasses.replace(engine._tokenized, answer_ban=())
    return free


def measure_both(weights: Path, output: str, limit: int) -> EvalResults:
    """Both runs, as one evaluation of two models."""
    models = [ServedModel(label=label, name="model") for label in (FREE, BAN)]
    recipe = load_config(EvalConfig, find_recipe("miniature", "eval"))
    config = recipe.model_copy(update={"output": output, "models": models, "limit": limit})
    settings = EngineConfig(model=str(weights), device="cpu", max_model_len=512, max_num_seqs=64, kv_cache_gib=0.5)
    engine = VLLMGenerator(settings)
    engines = {BAN: Shared(engine), FREE: Shared(without_ban(engine))}
    with evaluate.open(config) as run:
        work(config, run, engines=lambda model: engines[model.label])
    engine._engine.shutdown()
    return load_results([output])


@app.command()
def main(
    model: Annotated[Path, typer.Option(help="Folder of the model.")] = Path("runs/demo/train/model"),
    limit: Annotated[int, typer.Option(min=1, help="Questions.")] = 500,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of results.json.")] = HERE,
) -> None:
    """Measure, print the table and write results.json."""
    with tempfile.TemporaryDirectory() as folder:
        results = measure_both(model, f"{folder}/eval", limit)
    table = Table("arm", "accuracy, no ban", "ban", "difference", "answers with markers", "", "answer tokens", "")
    rows = []
    for free in results.of(FREE):
        banned = results.find(BAN, free.arm)
        assert banned is not None
        difference = compare(free, banned).difference
        row = {
            "arm": free.arm,
            "difference": dataclasses.asdict(difference),
            **{
                name: {
                    "accuracy": dataclasses.asdict(result.accuracy),
                    "thinking_tokens": result.thinking_tokens.value,
                    "answer_tokens": result.answer_tokens.value,
                    "raw_markers": result.raw_markers,
                    "cut": result.cut,
                }
                for name, result in (("no_ban", free), ("ban", banned))
            },
        }
        rows.append(row)
        table.add_row(
            free.arm,
            *(f"{r.accuracy.value:.1%} ({r.accuracy.low:.1%}-{r.accuracy.high:.1%})" for r in (free, banned)),
            f"{difference.value:+.1%} ({difference.low:+.1%} to {difference.high:+.1%})",
            *(str(r.raw_markers) for r in (free, banned)),
            *(f"{r.answer_tokens.value:.1f}" for r in (free, banned)),
        )
    Console(width=140).print(table)
    write_json(output / "results.json", {"questions": limit, "arms": rows})


if __name__ == "__main__":
    app()
