"""The vLLM engine inside a replica, set up so that it starts quickly on a laptop too.

Imported only where ray.serve.llm is (it imports vLLM).
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from jinja2 import TemplateError
from pydantic import BaseModel
from vllm import SamplingParams

from s1ray.generation.vllm import keep_worker_inside
from s1ray.serving.protocol.request_info import RequestInfo
from s1ray.serving.ray_llm import (
    CallbackBase,
    ChatCompletionRequest,
    CompletionRequest,
    DetokenizeRequest,
    ErrorInfo,
    ErrorResponse,
    TokenizeCompletionRequest,
    VLLMEngine,
)
from s1ray.serving.replica import flow, tool_grammar
from s1ray.serving.replica.engine_strategies import Strategies
from s1ray.serving.replica.watchdog import EngineLostError, exit_on_failure
from s1ray.serving.scaling.engine_load import EngineLoad
from s1ray.thinking.vllm import stops

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup
    from vllm import AsyncEngineArgs
    from vllm.config import VllmConfig
    from vllm.v1.engine.async_llm import AsyncLLM

logger = logging.getLogger("ray.serve")

Responses = AsyncGenerator[BaseModel | str]
"""A whole response, or the events of a stream."""

CLIENT_ERRORS = (TypeError, LookupError, AttributeError, OverflowError, TemplateError)
"""What vLLM's code raises on an odd request before it reaches the engine, in addition to the ValueErrors that Ray
answers with 400: a part of a message without its text, a chat that the model's template refuses. Failures of the engine
have classes of their own."""


TRIAL_STEPS = (2, 4)
"""Tokens of the first requests, which are the engine's own. Where vLLM samples on a CPU, torch compiles for one
sequence and for several, for seconds each: the longer request is alone in its last steps."""


TRIAL_S = 900.0
"""Seconds that they may take, compilers included."""


class LocalModel(CallbackBase):  # type: ignore[misc]  # Ray is untyped here
    """For a model in a folder: nothing has to be downloaded.

    Otherwise ray.serve.llm starts a task for the download on every node, in a new process that imports vLLM first.
    """

    async def on_before_node_init(self) -> None:
        """Skip the download."""
        self.ctx.run_init_node = False


class BudgetForcingEngine(VLLMEngine):  # type: ignore[misc]  # Ray is untyped here
    """ray.serve.llm's engine, with one process less where it has a single CPU worker."""

    def _start_async_llm_engine(
        self,
        vllm_engine_args: AsyncEngineArgs,
        vllm_engine_config: VllmConfig,
        placement_group: PlacementGroup | None,
    ) -> AsyncLLM:
        keep_worker_inside(vllm_engine_config)
        client = super()._start_async_llm_engine(vllm_engine_args, vllm_engine_config, placement_group)
        self._load = EngineLoad()
        self.strategies = Strategies()
        self.strategies.install(client)
        flow.install(client)
        return client

    def load(self) -> dict[str, float]:
        """The engine's load, for autoscaling."""
        return self._load.report(idle=not self._engine_client.output_processor.has_unfinished_requests())

    def begin(self, sequences: int) -> None:
        """Count a request for this number of responses."""
        self._load.begin(sequences)

    async def start(self) -> None:
        """Start the engine, and let it generate: what it compiles at first use would delay somebody's request."""
        await super().start()
        manager = self._engine_client.logger_manager
        # Its own requests are in no metrics.
        loggers, manager.stat_loggers = manager.stat_loggers, []
        await self._try_out()
        # Ray has no parameter for further loggers.
        manager.stat_loggers = [*loggers, self._load]
        stops.install(self.context_length)
        tool_grammar.install()
        # Ray 2.60 looks for it under a name that vLLM 0.29 no longer has, and would not tokenize.
        self._oai_serving_tokenization = getattr(self._app_state, "serving_tokenization", None)

    async def _try_out(self) -> None:
        """Generate something.

        Raises:
            EngineLostError: the engine died, or gave nothing in time.
        """

        async def generate(number: int, steps: int) -> None:
            params = SamplingParams(max_tokens=steps, ignore_eos=True)
            request_id = f"s1ray-start-{number}"
            async for _ in self._engine_client.generate({"prompt_token_ids": [0]}, params, request_id=request_id):
                pass

        try:
            async with asyncio.timeout(TRIAL_S):
                await asyncio.gather(*(generate(number, steps) for number, steps in enumerate(TRIAL_STEPS)))
        except TimeoutError:
            raise EngineLostError(f"the engine started, but generated nothing in {TRIAL_S:g} s") from None
        except Exception as error:
            if self._engine_client.errored:
                raise EngineLostError(f"the engine died at its first request: {error}") from error
            # A limit of its own, for instance of a context of a few tokens.
            logger.warning("the engine refused to be tried out: %s: %s", type(error).__name__, error)

    async def chat(self, request: ChatCompletionRequest, info: RequestInfo) -> Responses:
        """Chat completion."""
        async with aclosing(self._with_errors(super().chat(request, info))) as responses:
            async for response in responses:
                yield response

    async def completions(self, request: CompletionRequest, info: RequestInfo) -> Responses:
        """Text completion."""
        async with aclosing(self._with_errors(super().completions(request, info))) as responses:
            async for response in responses:
                yield response

    async def tokenize(self, request: TokenizeCompletionRequest, info: RequestInfo) -> Responses:
        """A prompt's tokens."""
        async with aclosing(self._with_errors(super().tokenize(request, info))) as responses:
            async for response in responses:
                yield response

    async def detokenize(self, request: DetokenizeRequest, info: RequestInfo) -> Responses:
        """The text of tokens."""
        async with aclosing(self._with_errors(super().detokenize(request, info))) as responses:
            async for response in responses:
                yield response

    async def _with_errors(self, responses: Responses) -> Responses:
        """Responses; where the client is at fault, an error response.

        Raises:
            EngineLostError: the engine died.
        """
        begun = False
        try:
            # Garbage collection may come late, and the engine works on until then.
            async with aclosing(responses):
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
        await exit_on_failure(self._engine_client, stalled_after_s)

    def priority(self, deadline: float) -> int:
        """A request's place in the engine's own queue, in vLLM's terms; 0 where the engine has no such order."""
        policy = self._engine_client.vllm_config.scheduler_config.policy
        return int(deadline * 1000) if policy == "priority" else 0

    @property
    def context_length(self) -> int:
        """Tokens that prompt and response may have together; known once the engine has started."""
        return int(self._engine_client.model_config.max_model_len)

    @property
    def default_max_tokens(self) -> int | None:
        """Tokens of a response at most where the request does not say: the model's generation config may know."""
        limit: int | None = self._engine_client.model_config.get_diff_sampling_param().get("max_tokens")
        return limit


def _is_failure(response: BaseModel | str) -> bool:
    if isinstance(response, str):
        return response.startswith('data: {"error"')
    return isinstance(response, ErrorResponse) and (response.error.code or 500) >= 500


def place(error: BaseException) -> str:
    """Where an error was raised. Its message may repeat what the client wrote, which belongs in no log."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "(unknown)"
