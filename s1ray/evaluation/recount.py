"""Counts thinking tokens a second time, from the ids of a response and the delimiters alone.

A server that forces budgets counts thinking with the same state machine. If the forcing were broken, its count could
still look right, since it expects the end where it has forced it. Control is a measurement only if the count knows
nothing of the budget: this one finds the delimiters in the ids and counts what is between them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from s1ray.config import ConfigError
from s1ray.generation import GenerationRequest, Generator
from s1ray.manifests import RunError
from s1ray.schemas import Completion
from s1ray.storage import local_model
from s1ray.thinking.format import ThinkingFormat, TokenizedFormat
from s1ray.thinking.marks import wait_characters


class Recount:
    """Counts the responses of one model.

    Args:
        tokenized: its thinking format, in its tokenizer's ids.
    """

    def __init__(self, tokenized: TokenizedFormat):
        self._format = tokenized

    @classmethod
    def of_model(cls, weights: str, thinking_format: ThinkingFormat) -> Recount:
        """For the model in a folder.

        Raises:
            ConfigError: the folder has no tokenizer, or it cannot express the format.
        """
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(local_model(weights))
            return cls(thinking_format.resolve(tokenizer))
        except (OSError, ValueError) as error:
            raise ConfigError(f"weights: {weights}: its tokenizer cannot be used to count thinking: {error}") from None

    def thinks(self, output_ids: Sequence[int]) -> bool:
        """Whether a response shows a delimiter: it begins with the start, or has the end somewhere."""
        start, end = list(self._format.start), list(self._format.end)
        output = list(output_ids)
        return output[: len(start)] == start or any(
            output[i : i + len(end)] == end for i in range(len(output) - len(end) + 1)
        )

    def thinking_tokens(self, output_ids: Sequence[int], claimed: int, *, forced: bool) -> int:
        """Ids between the start and the end delimiter; a response that never ends its thinking is counted to its end.

        Args:
            output_ids: the response. Without a start delimiter at its beginning, the prompt had opened the thinking.
            claimed: the server's count. It decides the one case that ids cannot: whether a line break before a forced
                end was the model's last thought or the first forced token.
            forced: the end of thinking was forced.
        """
        start, end, newline = (list(ids) for ids in (self._format.start, self._format.end, self._format.newline))
        output = list(output_ids)
        begin = len(start) if output[: len(start)] == start else 0
        stop = next((i for i in range(begin, len(output)) if output[i : i + len(end)] == end), None)
        if stop is None:
            return len(output) - begin
        before = stop - len(newline)
        if forced and before >= begin and output[before:stop] == newline and claimed == before - begin:
            return claimed
        return stop - begin

    def marked(self, completion: Completion) -> Completion:
        """A response with its inserted waits found in its text, where the server has told their positions."""
        places, output = completion.wait_positions, completion.output_ids
        if not places or output is None or len(places) % 2:
            return completion
        waits = list(zip(places[::2], places[1::2], strict=True))
        blocks = list(self._blocks(output))
        spans = wait_characters(self._format, output, blocks, waits, completion.thinking)
        return dataclasses.replace(completion, wait_spans=spans or None)

    def _blocks(self, output: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Positions of each block of thinking."""
        start, end = list(self._format.start), list(self._format.end)
        begin = len(start) if list(output[: len(start)]) == start else 0
        while True:
            stop = _find(output, end, begin)
            yield begin, len(output) if stop is None else stop
            again = None if stop is None else _find(output, start, stop + len(end))
            if again is None:
                return
            begin = again + len(start)


def _corrected(completion: Completion, tokens: int) -> Mapping[str, object] | None:
    """The account of a strategy of the server's, with the second count of the response that it gave; the others of its
    responses are by the server's own count.
    """
    account = completion.strategy
    if account is None:
        return None
    told = account["thinking_tokens"]
    assert isinstance(told, int), "the wire has read it"
    return {**account, "thinking_tokens": told - completion.thinking_tokens + tokens}


def _find(output: Sequence[int], wanted: list[int], begin: int) -> int | None:
    places = range(begin, len(output) - len(wanted) + 1)
    return next((i for i in places if list(output[i : i + len(wanted)]) == wanted), None)


class Recounted:
    """A model whose responses carry the second count, also where a strategy needs several of them for one answer."""

    def __init__(self, generator: Generator, recount: Recount) -> None:
        """Wrap `generator`; `close` closes it."""
        self._generator = generator
        self._recount = recount

    async def complete(self, request: GenerationRequest) -> Completion:
        """Generate one response, and count its thinking.

        Raises:
            GenerationError: no response could be had.
            RunError: it has no token ids.
        """
        completion = await self._generator.complete(request)
        if completion.output_ids is None:
            raise RunError(f"response {request.id!r} came without token ids: its thinking cannot be counted from them")
        return self._counted(self._recount.marked(completion), completion.output_ids, request)

    def _counted(self, completion: Completion, output_ids: list[int], request: GenerationRequest) -> Completion:
        forced = completion.end_forced is not None
        if completion.thinking_unknown:
            return self._counted_first(completion, output_ids)
        if request.budget is None and not self._recount.thinks(output_ids):
            # Where nothing opens the thinking by force, a response without delimiters need not be all thinking.
            return completion
        tokens = self._recount.thinking_tokens(output_ids, completion.thinking_tokens, forced=forced)
        return dataclasses.replace(completion, thinking_tokens=tokens, strategy=_corrected(completion, tokens))

    def _counted_first(self, completion: Completion, output_ids: list[int]) -> Completion:
        """A response whose server does not tell its thinking: the ids alone do. Delimiters count as answer."""
        thinking = self._recount.thinking_tokens(output_ids, 0, forced=False) if self._recount.thinks(output_ids) else 0
        answer = len(output_ids) - thinking
        return dataclasses.replace(completion, thinking_tokens=thinking, answer_tokens=answer, thinking_unknown=False)

    async def close(self) -> None:
        """Close the model's generator."""
        await self._generator.close()
