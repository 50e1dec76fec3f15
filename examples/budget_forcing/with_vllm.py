"""Budget forcing in `vllm.LLM`: one budget for all requests, forced inside the engine.

python examples/budget_forcing/with_vllm.py
"""

from vllm import LLM

from s1ray.miniature import BASE_MODEL_DIR
from s1ray.thinking import ThinkingBudget
from s1ray.thinking.vllm import PROCESSOR, BudgetForcing

QUESTION = [{"role": "user", "content": "Start with 17 and apply +5 -8 +9."}]
# The miniature, on any CPU; without a size for its KV cache, vLLM wants nearly all of the machine's memory.
SMALL = {"dtype": "float32", "max_model_len": 1024, "enforce_eager": True, "kv_cache_memory_bytes": 2**28}

if __name__ == "__main__":  # vLLM starts processes that import this file
    llm = LLM(str(BASE_MODEL_DIR), logits_processors=[PROCESSOR], **SMALL)
    forcing = BudgetForcing(llm, ThinkingBudget(max_tokens=64, waits=1), thinking_format="s1", max_tokens=200)
    (completion,) = forcing.completions(llm.chat(QUESTION, forcing.sampling_params(temperature=0.0)))
    print(f"{completion.thinking}\n\n{completion.answer}")
    print(f"{completion.thinking_tokens} thinking tokens, {completion.waits} waits, cut by {completion.end_forced}")
