"""The vLLM engine inside a replica, started so that it is quick on a laptop too.

Imported only where ray.serve.llm is (it imports vLLM).
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncIterator
from typing import Any

from jinja2 import TemplateError

from s1ray.generation.vllm import keep_worker_inside
from s1ray.serving.ray_llm import CallbackBase, ErrorInfo, ErrorResponse, VLLMEngine
from s1ray.serving.replica.watchdog import EngineLostError, end_when_ill
from s1ray.serving.scaling.engine_load import EngineLoad

logger = logging.getLogger("ray.serve")

CLIENT_ERRORS = (TypeError, LookupError, AttributeError, OverflowError, TemplateError)
"""What an odd request makes of vLLM's code before it reaches the engine, beside the ValueErrors that Ray answers with
400: a part of a message without its text, a chat that the model's template refuses. Failures of the engine have classes
of their own."""


class LocalModel(CallbackBase):
    """For a model that lies in a folder: nothing has to be downloaded.

    Without this ray.serve.llm starts a task for it on every node, in a new process that imports vLLM first.
    """

    async def on_before_node_init(self) -> None:
        """Leave out the download."""
        self.ctx.run_init_node = False


class BudgetForcingEngine(VLLMEngine):
    """ray.serve.llm's engine, one process smaller where a CPU does the work of one worker."""

    def _start_async_llm_engine(self, vllm_engine_args: Any, vllm_engine_config: Any, placement_group: Any) -> Any:
        keep_worker_inside(vllm_engine_config)
        client = super()._start_async_llm_engine(vllm_engine_args, vllm_engine_config, placement_group)
        self._load = EngineLoad()
        # Ray takes no loggers of ours.
        client.logger_manager.stat_loggers.append(self._load)
        return client

    def load(self) -> dict[str, float]:
        """What the engine has to do, for autoscaling."""
        return self._load.report(idle=not self._engine_client.output_processor.has_unfinished_requests())

    def begin(self, sequences: int) -> None:
        """Count a request for so many responses."""
        self._load.begin(sequences)

    async def start(self) -> None:
        """Start the engine."""
        await super().start()
        # Ray 2.60 looks for it under a name that vLLM 0.29 has given up, and would count no tokens.
        self._oai_serving_tokenization = getattr(self._app_state, "serving_tokenization", None)

    async def chat(self, request: Any, raw_request_info: Any = None) -> AsyncIterator[Any]:
        """Chat completion."""
        async for response in self._told(super().chat(request, raw_request_info)):
            yield response

    async def completions(self, request: Any, raw_request_info: Any = None) -> AsyncIterator[Any]:
        """Text completion."""
        async for response in self._told(super().completions(request, raw_request_info)):
            yield response

    async def tokenize(self, request: Any, raw_request_info: Any = None) -> AsyncIterator[Any]:
        """A prompt's tokens."""
        async for response in self._told(super().tokenize(request, raw_request_info)):
            yield response

    async def detokenize(self, request: Any, raw_request_info: Any = None) -> AsyncIterator[Any]:
        """The text of tokens."""
        async for response in self._told(super().detokenize(request, raw_request_info)):
            yield response

    async def _told(self, responses: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Responses. Where a request fails by the client's fault, an error that says so; where it fails because the
        engine died, an exception by which the HTTP worker knows.
        """
        begun = False
        try:
            async for response in responses:
                if _is_failure(response) and self._engine_client.errored:
                    raise EngineLostError("the engine of this replica died")
                begun = True
                yield response
        except CLIENT_ERRORS as error:
            if begun:
                raise
            logger.warning("a request could not be read: %s at %s", type(error).__name__, place(error))
            message = f"the request cannot be read: {type(error).__name__}: {error}"
            info = ErrorInfo(message=message, type="invalid_request_error", code=400)
            yield ErrorResponse(error=info)
        except EngineLostError:
            raise
        except Exception as error:
            if self._engine_client.errored:
                raise EngineLostError(f"the engine of this replica died: {type(error).__name__}") from None
            raise

    async def watch(self, stalled_after_s: float) -> None:
        """End this process when the engine is dead or stuck."""
        await end_when_ill(self._engine_client, stalled_after_s)

    def priority(self, deadline: float | None) -> int:
        """A request's place in the engine's own queue, in vLLM's terms; 0 where the engine has no such order."""
        policy = self._engine_client.vllm_config.scheduler_config.policy
        return int(deadline * 1000) if policy == "priority" and deadline is not None else 0

    @property
    def context_length(self) -> int:
        """Tokens that prompt and response may have together; known once the engine has started."""
        return int(self._engine_client.model_config.max_model_len)

    @property
    def default_max_tokens(self) -> int | None:
        """Tokens of a response at most where the request does not say: the model's generation config may know."""
        return self._engine_client.model_config.get_diff_sampling_param().get("max_tokens")


def _is_failure(response: Any) -> bool:
    if isinstance(response, str):
        return response.startswith('data: {"error"')
    return isinstance(response, ErrorResponse) and (response.error.code or 500) >= 500


def place(error: BaseException) -> str:
    """Where an error was raised. Its message may repeat what the client wrote, which is nobody's business here."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "(unknown)"
