"""REBASE, reward-balanced search (arXiv 2408.00724; s1, section 6.2): a tree of steps, grown where the reward is.

At each depth every open node gets a reward, that of its last step, and the width that is left is shared out among them
by a softmax of their rewards; each share is so many samples of a next step. A path that ends its thinking is a leaf,
and takes one from the width. The leaves' answers vote.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from pydantic import Field

from s1ray.evaluation.strategies.base import Sampling
from s1ray.evaluation.strategies.cost import score_all
from s1ray.evaluation.strategies.requests import ask_together
from s1ray.evaluation.strategies.rewards import RewardEndpoint, aggregated
from s1ray.evaluation.strategies.sampled import MOST_DRAWS, Sampled
from s1ray.evaluation.strategies.voting import elect_response
from s1ray.generation import GenerationRequest, Generator, request_seed
from s1ray.generation.base import Continuation
from s1ray.models import FormatRef, ModelPath
from s1ray.schemas import Completion, Question
from s1ray.storage import local_model
from s1ray.thinking.completion import completion_from_ids
from s1ray.thinking.format import PRESETS, ThinkingFormat, TokenizedFormat, eos_ids_of


@dataclasses.dataclass
class Node:
    """A path from the question to some step."""

    ids: list[int]
    """Of the thinking so far, its start delimiter included."""
    steps: list[str] = dataclasses.field(default_factory=list)
    rewards: list[float] = dataclasses.field(default_factory=list)
    """Of the steps."""
    ended: bool = False
    """The model has ended its thinking, or a limit has."""
    end_forced: str | None = None
    """The limit: "budget" (`max_tokens`) or "depth". None: the model, or none yet."""


class Rebase(Sampled):
    """Grow a tree of steps under a process reward model, and let its leaves vote.

    Steps are continued in token ids at a server's `/completions`, so the model's tokenizer is needed here, and the
    server has to take `stop`, `stop_token_ids` and `return_token_ids`, as vLLM's and ours do. What the reward model
    reads is counted in the row's `reward_tokens`.
    """

    strategy: str = "rebase"
    reward: RewardEndpoint
    """Where the process reward model answers."""
    weights: ModelPath
    """Folder, Hugging Face id or alias of the measured model, for its tokenizer."""
    thinking_format: FormatRef = PRESETS["s1"]
    """How it writes its thinking."""
    width: int = Field(default=16, ge=2, le=MOST_DRAWS)
    """Samples a depth, and leaves at most."""
    balance: float = Field(default=0.2, gt=0)
    """Temperature of the softmax over rewards: the lower, the more goes to the best node."""
    delimiter: str = Field(default="\n\n", min_length=1)
    """Ends a step."""
    step_tokens: int = Field(default=256, ge=1)
    """Of a step at most; a longer one is cut there, and goes on as the next."""
    depth: int = Field(default=50, ge=1)
    """Steps of a path at most; then its thinking is ended by force."""
    votes: Literal["majority", "last", "min", "mean", "product"] = "majority"
    """What a leaf's vote weighs: one, or its steps' rewards taken together. s1 takes the majority."""

    @property
    def requests(self) -> int:
        """One a sampled step, and one an answer."""
        return self.width * (self.depth + 1)

    @property
    def at_once(self) -> int:
        """The samples of one depth."""
        return self.width

    @property
    def outside(self) -> bool:
        """It forces from outside itself."""
        return False

    @property
    def forces(self) -> bool:
        """The thinking's end is written into the prompt from here."""
        return False

    @property
    def limits(self) -> tuple[int, int | None]:
        """All steps of all depths, thrown away or not."""
        return 0, self.width * self.depth * self.step_tokens

    def describe(self) -> str:
        """For example "rebase of 16 majority"."""
        return self.labelled(f"rebase of {self.width} {self.votes}")

    async def __call__(
        self, generator: Generator, question: Question, sample: int, sampling: Sampling, seed: int
    ) -> Completion:
        """Grow the tree, answer at its leaves, and vote."""
        tree = await asyncio.to_thread(Tree, self, generator, question, sample, sampling, seed)
        leaves = await tree.grow()
        responses = await tree.answers(leaves)
        weights = None if self.votes == "majority" else [aggregated(leaf.rewards, self.votes) for leaf in leaves]
        return await elect_response(question, responses, weights)


class Tree:
    """The search for one answer."""

    def __init__(
        self, arm: Rebase, generator: Generator, question: Question, sample: int, sampling: Sampling, seed: int
    ) -> None:
        self._arm, self._generator, self._question, self._sampling = arm, generator, question, sampling
        self._key, self._seed, self._number = f"{question.id}-{sample}", seed, 0
        self._tokenizer, self._tokenized = _tokenizer(arm.weights, arm.thinking_format)
        chat = [{"role": "user", "content": question.question}]
        prompt = self._tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        self._prompt: list[int] = self._tokenizer.encode(prompt, add_special_tokens=False)

    async def grow(self) -> list[Node]:
        """The paths whose thinking has ended, in the order in which it did."""
        arm, leaves = self._arm, list[Node]()
        # A line break follows the start delimiter in training, and would be a first step of nothing.
        root = Node([*self._tokenized.start, *self._tokenized.newline])
        growing = [root] * arm.width
        if self._room(root) < 1:
            root.end_forced = "budget"
            return growing
        for _ in range(arm.depth):
            grown = await self._step(growing)
            leaves += [node for node in grown if node.ended]
            candidates = [node for node in grown if not node.ended]
            left = arm.width - len(leaves)
            if not candidates or left <= 0:
                return leaves[: arm.width]
            # A step of nothing but space has no reward of its own.
            rewards = [node.rewards[-1] if node.rewards else 0.0 for node in candidates]
            shares = balanced(rewards, left, arm.balance)
            growing = [node for node, share in zip(candidates, shares, strict=True) for _ in range(share)]
        for node in growing:
            node.end_forced = "depth"
        return leaves + growing[: arm.width - len(leaves)]

    async def answers(self, leaves: Sequence[Node]) -> list[Completion]:
        """An answer for each leaf, with its path's thinking."""
        end = [*self._tokenized.end]
        requests = []
        for leaf in leaves:
            prompt = self._prompt + leaf.ids + self._newline(leaf.ids) + end
            requests.append(self._request(prompt, Continuation("answer"), self._sampling.answer_tokens))
        said = await ask_together(self._generator, requests)
        return [self._completion(leaf, answer) for leaf, answer in zip(leaves, said, strict=True)]

    async def _step(self, growing: Sequence[Node]) -> list[Node]:
        """Each node with one more step, and the reward of it."""
        arm, stops = self._arm, tuple(self._tokenized.end_triggers)
        continuation = Continuation("thinking", (arm.delimiter,), stops)
        requests = [self._request(self._prompt + node.ids, continuation, self._room(node)) for node in growing]
        said = await ask_together(self._generator, requests)
        grown = [self._grown(node, step) for node, step in zip(growing, said, strict=True)]
        judged = [node for node in grown if len(node.steps) > len(node.rewards)]
        scored = await score_all(
            self._generator, arm.reward, [(self._question.question, node.steps) for node in judged]
        )
        for node, reward in zip(judged, scored, strict=True):
            node.rewards = list(reward.scores)
        return grown

    def _grown(self, node: Node, step: Completion) -> Node:
        ids = list(step.output_ids or ())
        stopped = next((n for n, token in enumerate(ids) if token in self._tokenized.end_triggers), None)
        thought = ids if stopped is None else ids[:stopped]
        text = self._tokenizer.decode(thought, skip_special_tokens=False).strip()
        child = Node(node.ids + thought, [*node.steps, text] if text else list(node.steps), list(node.rewards))
        by_itself = stopped is not None or not thought
        if not by_itself and self._room(child) < 1:
            child.end_forced = "budget"
        child.ended = by_itself or child.end_forced is not None
        return child

    def _room(self, node: Node) -> int:
        """Tokens that the node's next step may have."""
        most = self._arm.max_tokens
        left = self._arm.step_tokens if most is None else most - (len(node.ids) - len(self._tokenized.start))
        return min(self._arm.step_tokens, left)

    def _newline(self, ids: Sequence[int]) -> list[int]:
        """What stands before the end delimiter, where the thinking does not end in a line break."""
        newline = list(self._tokenized.newline)
        return [] if ids[-1:] == newline[-1:] else newline

    def _request(self, prompt: list[int], continuation: Continuation, most: int) -> GenerationRequest:
        self._number += 1
        key = f"{self._key}-{self._number}"
        return GenerationRequest(
            id=key,
            prompt_ids=prompt,
            continues=continuation,
            temperature=self._arm.temperature,
            top_p=self._sampling.top_p,
            max_tokens=most,
            seed=request_seed(self._seed, key),
        )

    def _completion(self, leaf: Node, answer: Completion) -> Completion:
        ids = leaf.ids + self._newline(leaf.ids) + [*self._tokenized.end] + list(answer.output_ids or ())
        found = completion_from_ids(answer.id, self._tokenized, None, self._prompt, ids, answer.finish_reason)
        return dataclasses.replace(found, end_forced=leaf.end_forced)


def balanced(rewards: Sequence[float], width: int, temperature: float) -> list[int]:
    """How many samples each node gets: the best first, each the rounded-up part of what is left (2408.00724, section 3,
    as in s1's code).

    Args:
        rewards: of the nodes.
        width: samples to share out.
        temperature: of the softmax.

    Returns:
        One number a node; they add up to the width.
    """
    highest = max(rewards)
    parts = [math.exp((reward - highest) / temperature) for reward in rewards]
    shares, left, rest = [0] * len(parts), width, math.fsum(parts)
    for place in sorted(range(len(parts)), key=lambda n: -parts[n]):
        share = left if rest <= 0 else min(left, math.ceil(left * parts[place] / rest - 1e-9))
        shares[place], left, rest = share, left - share, rest - parts[place]
    shares[parts.index(max(parts))] += left
    return shares


@lru_cache(8)
def _tokenizer(weights: str, fmt: ThinkingFormat) -> tuple[Any, TokenizedFormat]:
    """A model's tokenizer, and its format in its ids.

    Raises:
        InputError: there is none, or it cannot write the format.
    """
    from transformers import AutoTokenizer

    weights = local_model(weights)
    tokenizer = AutoTokenizer.from_pretrained(weights)
    return tokenizer, fmt.resolve(tokenizer, eos_ids_of(weights))
