"""Keeps vLLM from compiling in the middle of serving on a CPU.

vLLM counts the rank of a sampled token with a function that torch compiles at the first request with logprobs. On a
CPU that starts a C++ compiler, for a minute or more on a busy machine, and until it is done the engine answers nobody.
The same function uncompiled takes microseconds more a token.
"""

from __future__ import annotations

import sys

NAME = "batched_count_greater_than"
MODULES = ("vllm.v1.sample.sampler", "vllm.v1.sample.ops.logprobs")
"""Where vLLM 0.29 holds the function: where it is used, and where it is defined."""


def count_ranks_eagerly() -> list[str]:
    """Let vLLM in this process run its rank count as it is written, not compiled.

    Returns:
        The modules in which it was replaced; none where vLLM holds no compiled function of that name.
    """
    replaced = []
    for name in MODULES:
        module = sys.modules.get(name)
        written = getattr(getattr(module, NAME, None), "_torchdynamo_orig_callable", None)
        if written is not None:
            setattr(module, NAME, written)
            replaced.append(name)
    return replaced
