"""Budget forcing inside vLLM: the processor, what a caller of `vllm.LLM` needs, and the reasoning parsers."""

from s1ray.thinking.plan import PROCESSOR
from s1ray.thinking.vllm.offline import BudgetForcing

__all__ = ["PROCESSOR", "BudgetForcing"]
