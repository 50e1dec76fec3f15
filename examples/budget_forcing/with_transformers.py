"""Budget forcing in Hugging Face transformers: a logits processor for `model.generate`.

python examples/budget_forcing/with_transformers.py
"""

from transformers import AutoModelForCausalLM, AutoTokenizer

from s1ray.miniature import BASE_MODEL_DIR
from s1ray.thinking import ThinkingBudget
from s1ray.thinking.transformers import BudgetForcingLogitsProcessor

QUESTION = [{"role": "user", "content": "Start with 17 and apply +5 -8 +9."}]

tokenizer, model = (
    AutoTokenizer.from_pretrained(BASE_MODEL_DIR),
    AutoModelForCausalLM.from_pretrained(BASE_MODEL_DIR, dtype="float32"),
)
inputs = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=True, return_tensors="pt")

budget = ThinkingBudget(max_tokens=64, waits=1)
forcing = BudgetForcingLogitsProcessor(tokenizer, budget, thinking_format="s1", max_new_tokens=200)
output = model.generate(**inputs, max_new_tokens=200, do_sample=False, logits_processor=[forcing])
(completion,) = forcing.completions(output)
print(f"{completion.thinking}\n\n{completion.answer}")
print(f"{completion.thinking_tokens} thinking tokens, {completion.waits} waits, cut by {completion.end_forced}")
