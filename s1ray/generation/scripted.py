"""A generator without a model: a function says what the model would sample, the real forcer does the rest.

For tests of whatever consumes completions: budgets, waits and accounting behave as in the engine, in microseconds. It
is also the plainest reading of budget forcing: sample, then replace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from s1ray.generation.base import GenerationError, GenerationRequest
from s1ray.schemas import Completion
from s1ray.thinking.completion import completion_from_ids
from s1ray.thinking.forcer import BudgetForcer
from s1ray.thinking.format import TokenizedFormat
from s1ray.thinking.plan import make_plan

Script = Callable[[GenerationRequest, Sequence[int]], Sequence[int]]
"""The request and the ids so far; gives next ids in order of preference, the sampled one first. Where the first is not
allowed and not replaced, the next one that is allowed comes.
"""


class ScriptedGenerator:
    """Completes requests as `script` says.

    Args:
        tokenized: the thinking format, in the ids of a tokenizer.
        script: the model.
        eos_token_id: ends a response.
        context: tokens of prompt and response at most.
        render: prompt ids of chat messages; needed only for requests that have messages.
    """

    def __init__(
        self,
        tokenized: TokenizedFormat,
        script: Script,
        *,
        eos_token_id: int,
        context: int = 4096,
        render: Callable[[GenerationRequest], Sequence[int]] | None = None,
    ) -> None:
        self._tokenized = tokenized
        self._script = script
        self._eos = eos_token_id
        self._context = context
        self._render = render

    async def complete(self, request: GenerationRequest) -> Completion:
        """Generate one response, token by token."""
        if request.continues is not None or request.top_logprobs is not None:
            raise GenerationError(f"request {request.id!r}: a script neither continues a response nor has a confidence")
        prompt_ids = self._prompt(request)
        room = self._context - len(prompt_ids)
        if room < 1:
            raise GenerationError(f"request {request.id!r}: the prompt has {len(prompt_ids)} tokens, no room is left")
        limit = room if request.max_tokens is None else min(room, request.max_tokens)
        if request.budget is None:
            output, finish = self._free(request, limit)
            return completion_from_ids(request.id, self._tokenized, None, prompt_ids, output, finish)
        plan = make_plan(self._tokenized, request.budget)
        forcer = BudgetForcer(plan, prompt_ids, room=limit)
        output, finish = self._forced(request, forcer, limit)
        return completion_from_ids(
            request.id, self._tokenized, plan, prompt_ids, output, finish, swallowed=forcer.swallowed, room=limit
        )

    async def close(self) -> None:
        """Nothing to release."""

    def _prompt(self, request: GenerationRequest) -> Sequence[int]:
        if request.prompt_ids is not None:
            return request.prompt_ids
        if self._render is None:
            raise GenerationError(f"request {request.id!r}: this generator has no chat template; give prompt_ids")
        return self._render(request)

    def _free(self, request: GenerationRequest, limit: int) -> tuple[list[int], str]:
        output: list[int] = []
        while len(output) < limit:
            output.append(self._script(request, output)[0])
            if output[-1] == self._eos:
                return output, "stop"
        return output, "length"

    def _forced(self, request: GenerationRequest, forcer: BudgetForcer, limit: int) -> tuple[list[int], str]:
        output: list[int] = []
        while len(output) < limit:
            action = forcer.action
            if action is not None and action.force is not None:
                token, share = action.force, 0.0
            else:
                preferred = self._script(request, output)
                token, share = preferred[0], 0.0
                if action is not None:
                    token = self._allowed(preferred, action.exclude)
                    if token in action.ban:
                        share = 1.0
                        banned = action.ban + action.exclude
                        token = action.move_to if action.move_to is not None else self._allowed(preferred, banned)
            forcer.observe(token, share)
            output.append(token)
            if token == self._eos:
                return output, "stop"
        return output, "length"

    def _allowed(self, preferred: Sequence[int], ban: Sequence[int]) -> int:
        for token in preferred:
            if token not in ban:
                return token
        # The script knows nothing else to say: any word will do.
        return next(i for i in range(self._tokenized.vocab_size) if i not in ban)
