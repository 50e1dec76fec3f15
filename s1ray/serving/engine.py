"""The vLLM engine inside a replica, started so that it is quick on a laptop too.

Imported only where ray.serve.llm is (it imports vLLM).
"""

from __future__ import annotations

from typing import Any

from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine


class LocalModel(CallbackBase):
    """For a model that lies in a folder: nothing has to be downloaded.

    Without this ray.serve.llm starts a task for it on every node, in a new process that imports vLLM first.
    """

    async def on_before_node_init(self) -> None:
        """Leave out the download."""
        self.ctx.run_init_node = False


class BudgetForcingEngine(VLLMEngine):
    """ray.serve.llm's engine, one process smaller on a CPU.

    ray.serve.llm asks for vLLM's multiprocess executor on every CPU. With one worker that is a second process which
    imports everything again (more than ten seconds of CPU) and polls shared memory at every decode step. Inside the
    engine's own process the same worker needs neither.
    """

    def _start_async_llm_engine(self, vllm_engine_args: Any, vllm_engine_config: Any, placement_group: Any) -> Any:
        parallel = vllm_engine_config.parallel_config
        if vllm_engine_config.device_config.device_type == "cpu" and parallel.world_size == 1:
            parallel.distributed_executor_backend = "uni"
        return super()._start_async_llm_engine(vllm_engine_args, vllm_engine_config, placement_group)

    @property
    def context_length(self) -> int:
        """Tokens that prompt and response may have together; known once the engine has started."""
        return int(self._engine_client.model_config.max_model_len)

    @property
    def default_max_tokens(self) -> int | None:
        """Tokens of a response at most where the request does not say: the model's generation config may know."""
        return self._engine_client.model_config.get_diff_sampling_param().get("max_tokens")
