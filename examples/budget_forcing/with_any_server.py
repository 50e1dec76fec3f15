"""Budget forcing at a server that knows nothing of it: any OpenAI-compatible `/completions` with token ids.

    vllm serve MODEL --served-model-name NAME
    python examples/budget_forcing/with_any_server.py http://127.0.0.1:8000/v1 NAME MODEL

MODEL is the folder or Hugging Face id of the model there, for its tokenizer. Without it: the packaged miniature.
"""

import sys

from s1ray.generation import GenerationRequest
from s1ray.generation.blocking import BlockingGenerator
from s1ray.generation.segmented import SegmentedGenerator
from s1ray.thinking import ThinkingBudget

QUESTION = [{"role": "user", "content": "Start with 17 and apply +5 -8 +9."}]

url, name, weights = (*sys.argv[1:], "miniature-base")[:3]
budget = ThinkingBudget(max_tokens=64, waits=1)
request = GenerationRequest(id="example", messages=QUESTION, budget=budget, max_tokens=200)
with BlockingGenerator(lambda: SegmentedGenerator(url, name, weights=weights, thinking_format="s1")) as generator:
    (completion,) = generator.complete([request])
print(completion.error or f"{completion.thinking}\n\n{completion.answer}")
print(f"{completion.thinking_tokens} thinking tokens, {completion.waits} waits, cut by {completion.end_forced}")
