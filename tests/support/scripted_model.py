"""A model that thinks in letters: the more it may think, the more questions it gets right. Real forcer, no weights."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from pathlib import Path

from s1ray.generation import GenerationError, GenerationRequest
from s1ray.generation.scripted import ScriptedGenerator
from s1ray.schemas import Completion, Question, question_id
from s1ray.thinking.format import ThinkingFormat

SPECIAL = ["<|im_end|>", "<|im_start|>"]
EOS, TURN = 0, 1
VOCABULARY = SPECIAL + list(string.printable)


class LetterTokenizer:
    """One id a character, and the two special tokens."""

    eos_token_id = EOS
    name_or_path = "letters"

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        for number, special in enumerate(SPECIAL):
            text = text.replace(special, chr(0xE000 + number))
        return [ord(c) - 0xE000 if ord(c) >= 0xE000 else VOCABULARY.index(c) for c in text]

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        return "".join(VOCABULARY[i] for i in token_ids if i > TURN or not skip_special_tokens)

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str | None]:
        return [VOCABULARY[i] for i in ids]

    def get_added_vocab(self) -> dict[str, int]:
        return {text: number for number, text in enumerate(SPECIAL)}

    def __len__(self) -> int:
        return len(VOCABULARY)


TOKENIZER = LetterTokenizer()
FORMAT = ThinkingFormat.preset("s1").resolve(TOKENIZER)


def questions(count: int) -> list[Question]:
    """Question i needs 1 + i % 50 letters of thought."""
    rows = []
    for i in range(count):
        text = f"Question {i}: think {1 + i % 50} letters"
        rows.append(
            Question(id=question_id(text), question=text, answer=str(1000 + i), domain=f"domain {i % 4}", source="test")
        )
    return rows


def script(request: GenerationRequest, output: Sequence[int]) -> list[int]:
    assert request.messages is not None
    text = request.messages[0]["content"]
    number, needed = int(text.split()[1].rstrip(":")), int(text.split()[3])
    so_far = TOKENIZER.decode(output, skip_special_tokens=False)
    thinking, ended, answer = so_far.partition("<|im_start|>answer")
    if not ended:
        since_wait = thinking.rpartition("Wait")[2].rpartition("think")[2]
        return [TURN, 5] if len(since_wait) >= needed else [5, 6]
    letters = len(thinking.removeprefix("<|im_start|>think").rstrip("\n"))
    given = answer.lstrip("\n").removeprefix("Final Answer:").lstrip()
    reply = str(1000 + number) if letters >= needed else "unknown"
    return [EOS] if given == reply else TOKENIZER.encode(reply[len(given) :], add_special_tokens=False)


class Recorder:
    """The scripted model with everything that can go wrong on the way to it.

    Args:
        label: of the model.
        log: file that takes each request's id, flushed, so that it outlives the process.
        fail: what a request fails with; None: it does not.
        change: makes another completion of a completion.
    """

    def __init__(
        self,
        label: str,
        log: Path | None = None,
        fail: Callable[[GenerationRequest], str | BaseException | None] = lambda request: None,
        change: Callable[[Completion], Completion] = lambda completion: completion,
    ) -> None:
        self._label, self._log, self._fail, self._change = label, log, fail, change
        self._inner = ScriptedGenerator(FORMAT, script, eos_token_id=EOS, render=lambda request: [7])
        self.closed = False

    async def complete(self, request: GenerationRequest) -> Completion:
        if (problem := self._fail(request)) is not None:
            raise problem if isinstance(problem, BaseException) else GenerationError(problem)
        completion = self._change(await self._inner.complete(request))
        if self._log is not None:
            assert request.budget is not None
            with open(self._log, "a") as stream:
                stream.write(f"{self._label} {request.budget.model_dump_json()} {request.id}\n")
        return completion

    async def close(self) -> None:
        self.closed = True
