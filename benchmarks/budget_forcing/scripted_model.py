r"""A language model that follows a script: real attention and MLP work, and a next token that is known beforehand.

Attention and MLP are computed with random weights, but nothing of it reaches the residual stream (`o_proj` and
`down_proj` are zero), which carries the one-hot embedding of the last token alone. The language-model head is therefore
a table of next-token logits: `logits[token, next]`. A product with a one-hot vector is exact in whatever order it is
summed, so that ids do not depend on batch, chunk or thread.

The script, for a thinking format (an arrow is the first preference after a token):

    entry word -> chain[-n] -> ... -> chain[-1] -> end delimiter -> answer words -> end of sequence

An entry word lets n words of thought follow, which is what makes lengths equal or unequal: as the prompt's last token
it sets the length of the first segment, as a request's wait text that of the segment after the wait. Whatever else the
prompt ends in (a line break, "think") is followed by the whole chain. For the rarer turns of budget forcing there are
"Again" (a loop of 16 words that never ends), "Stop" (EOS inside the thinking) and "Actually" (the model's own "Wait").
Where a first preference is banned there is a second: a chain goes on one word further, and a model that must not stop
thinks on from the middle of the chain.

    model = write_scripted_model(folder)
    prompt_ids = model.prompt("Wait")          # 512 tokens, thinking open, then len(chain) words of thought
    model.preferences(prompt_ids[-1])[0]       # what comes next
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from s1ray.thinking import ThinkingFormat, TokenizedFormat

if TYPE_CHECKING:
    import numpy as np

ENTRY_WORDS = ("Wait", "Hmm", "Alternatively", "But", "So", "Then", "Also", "Now")
LENGTH_SPREAD = 1.0
"""Standard deviation of the logarithm of a stretch's length. Between one "Wait" and the next it is 1.03 in 40 traces of
R1-Distill-Llama-8B on MATH (498 stretches, of 204 words and punctuation marks on average)."""


def _entry_shares() -> dict[str, float]:
    # The middles of as many equally likely parts of a log-normal distribution, over the longest of them.
    count = len(ENTRY_WORDS)
    deviates = [NormalDist().inv_cdf((count - i - 0.5) / count) for i in range(count)]
    return {word: math.exp(LENGTH_SPREAD * (z - deviates[0])) for word, z in zip(ENTRY_WORDS, deviates, strict=True)}


ENTRY_SHARES: Mapping[str, float] = _entry_shares()
"""Entry words, and how much of the chain follows each: 1 down to 0.05. A word drawn at random draws a length as real
thinking has it."""

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
    "<tool_call>",
)
OTHER_WORDS = ("think", "answer", "Final", " Answer", "Again", "Stop", "Actually", "user", "assistant")

LOOP_WORDS = 16
LINE = 8
"""Every so many words of the chain end in a line break."""

FIRST, SECOND, THIRD = 40.0, 30.0, 20.0
"""Logits of the first three preferences: ten times the temperature apart, chance never picks another."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class ScriptedModel:
    """A written model folder, and what it will say."""

    folder: str
    tokenizer: Any = field(repr=False)
    tokenized: TokenizedFormat = field(repr=False)
    eos_token_id: int
    chain: tuple[int, ...] = field(repr=False)
    """The words of a whole thought."""
    answer: tuple[int, ...] = field(repr=False)
    """The words of the answer; EOS follows."""
    entries: Mapping[str, int] = field(repr=False)
    """Entry words, and how many words of thought follow each."""
    table: Mapping[int, tuple[int, ...]] = field(repr=False)
    """First preferences after each id, in falling order."""

    def preferences(self, last_id: int) -> tuple[int, ...]:
        """What the model would say after a token, best first (the head of the order; all others are unlikely)."""
        return self.table[last_id]

    def prompt(
        self, entry: str | None = None, *, length: int | None = None, opened: bool = True, number: int = 0
    ) -> list[int]:
        """A chat prompt in ids.

        Args:
            entry: the word that it ends in, inside the opened thinking. None: the delimiter's line break is the end.
            length: tokens in all. None: as short as it gets.
            opened: the thinking is open already.
            number: questions of different numbers share no prefix.
        """
        encode = self.tokenized.encode
        before, after = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
        if opened:
            after += f"{self.tokenized.format.start}\n{entry or ''}"
        head, tail = encode(before), encode(after)
        size = len(self.chain)
        begin, stride = number % size, 1 + number // size
        wanted = 1 if length is None else length - len(head) - len(tail)
        if wanted < 1:
            raise ValueError(f"length: the shortest prompt has {len(head) + len(tail) + 1} tokens, got {length}")
        question = [self.chain[(begin + i * stride) % size] for i in range(wanted)]
        return [*head, *question, *tail]

    def free_run(self, prompt_ids: Sequence[int], limit: int) -> list[int]:
        """What the model says when nothing is forced, EOS included, `limit` ids at most."""
        output: list[int] = []
        last = prompt_ids[-1]
        while len(output) < limit and last != self.eos_token_id:
            last = self.table[last][0]
            output.append(last)
        return output


def write_scripted_model(
    folder: str | Path,
    *,
    thinking_format: str = "s1",
    chain: int = 128,
    answer: int = 16,
    layers: int = 2,
    context: int = 4096,
) -> ScriptedModel:
    """Write a Qwen3 folder (configuration, float32 weights, tokenizer with a chat template).

    Args:
        folder: is made if it is not there.
        thinking_format: preset whose end delimiter the script writes.
        chain: words of a whole thought.
        answer: words of an answer.
        layers: of the work. The width follows from the vocabulary: each token needs a dimension of its own.
        context: tokens of prompt and response at most.
    """
    chain_words, answer_words, loop_words = _words(chain, answer)
    words = [*ENTRY_SHARES, *OTHER_WORDS, *chain_words, *answer_words, *loop_words]
    tokenizer = make_tokenizer(words)
    fmt = ThinkingFormat.preset(thinking_format)
    tokenized = fmt.resolve(tokenizer)
    ids = {word: _id(tokenized, word) for word in words}
    chain_ids, answer_ids = [ids[word] for word in chain_words], [ids[word] for word in answer_words]
    loop_ids = [ids[word] for word in loop_words]
    eos = int(tokenizer.eos_token_id)
    entries = {word: max(1, round(share * chain)) for word, share in ENTRY_SHARES.items()}

    anywhere = (chain_ids[0], chain_ids[chain // 2], chain_ids[-1])
    table: dict[int, tuple[int, ...]] = dict.fromkeys(range(len(tokenizer)), anywhere)
    for word, length in entries.items():
        begin = chain - length
        table[ids[word]] = (chain_ids[begin], chain_ids[min(begin + 1, chain - 1)], chain_ids[0])
    _follow(table, chain_ids, (tokenized.end[0], chain_ids[chain // 2], chain_ids[0]))
    _follow(table, answer_ids, (eos, answer_ids[0], chain_ids[0]))
    _follow(table, loop_ids, (loop_ids[0], chain_ids[0], loop_ids[1]))
    for here, following in zip(tokenized.end, tokenized.end[1:], strict=False):
        table[here] = (following, chain_ids[0], answer_ids[0])
    for last in (tokenized.end[-1], tokenized.encode(fmt.final_answer)[-1]):
        table[last] = (answer_ids[0], answer_ids[1], chain_ids[0])
    table[ids["Again"]] = (loop_ids[0], loop_ids[1], chain_ids[0])
    table[ids["Stop"]] = (eos, chain_ids[0], chain_ids[1])
    table[ids["Actually"]] = (ids["Wait"], chain_ids[0], ids["Hmm"])

    write_table_model(folder, tokenizer, preference_logits(table, len(tokenizer)), layers=layers, context=context)
    return ScriptedModel(
        folder=str(folder),
        tokenizer=tokenizer,
        tokenized=tokenized,
        eos_token_id=eos,
        chain=tuple(chain_ids),
        answer=tuple(answer_ids),
        entries=entries,
        table=table,
    )


def preference_logits(table: Mapping[int, Sequence[int]], size: int) -> np.ndarray:
    """Next-token logits [size, size] in which each row's preferences come first and no two ids are equal."""
    import numpy as np

    logits = np.tile(-np.arange(size, dtype=np.float32) / 64, (size, 1))
    for last, preferred in table.items():
        for rank, token_id in reversed(list(enumerate(preferred))):
            logits[last, token_id] = (FIRST, SECOND, THIRD)[rank]
    return logits


def make_tokenizer(words: Iterable[str]) -> Any:
    """A byte-level tokenizer in which each of `words` is one token and everything else is bytes.

    Words are letters, with a space before or none; those with a space may end in a line break.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    spelled = {" ": "Ġ", "\n": "Ċ"}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *("".join(spelled.get(c, c) for c in word) for word in words)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    # Without merges, a word that is in the vocabulary is one token and any other is its bytes.
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    split = pre_tokenizers.Split(Regex(r" \p{L}+\n?|\p{L}+|\p{N}|\s|[^\s\p{L}\p{N}]"), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", name_or_path="scripted"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def write_table_model(
    folder: str | Path, tokenizer: Any, logits: np.ndarray, *, layers: int = 2, context: int = 4096
) -> None:
    """Write a Qwen3 whose next-token logits after token i are `logits[i]`, at the cost of a model with `layers` layers.

    Not a Qwen2: transformers reads every tokenizer beside a Qwen2 as Qwen's own, whatever tokenizer.json says.

    Args:
        folder: is made if it is not there.
        tokenizer: is saved with it.
        logits: [tokens, tokens] float32, indexed by last and next id.
        layers: transformer layers of real work.
        context: tokens of prompt and response at most.
    """
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    size = len(tokenizer)
    width = 128 * -(-size // 128)
    config = Qwen3Config(
        vocab_size=width,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=context,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
        rms_norm_eps=1e-6,
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config).to(torch.float32)
    scale = width**0.5
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        # A one-hot row of this length keeps it through the final norm.
        model.model.embed_tokens.weight.copy_(torch.eye(width) * scale)
        head = torch.full((width, width), -100.0)
        head[:size, :size] = torch.from_numpy(logits).T
        model.lm_head.weight.copy_(head / scale)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # The name that transformers 4 and 5 both know.
    settings = Path(folder) / "tokenizer_config.json"
    written = json.loads(settings.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings.write_text(json.dumps(written, indent=1))


def _words(chain: int, answer: int) -> tuple[list[str], list[str], list[str]]:
    """Spellings of the chain's, the answer's and the loop's words."""
    consonants, vowels = "bdfghjklmnprstvz", "aeiou"
    syllables = [c + v for c in consonants for v in vowels]
    made = [f" {a}{b}" for a in syllables for b in syllables]
    chain_words = [word + "\n" * ((i + 1) % LINE == 0) for i, word in enumerate(made[:chain])]
    rest = made[chain:]
    return chain_words, rest[:answer], rest[answer : answer + LOOP_WORDS]


def _id(tokenized: TokenizedFormat, word: str) -> int:
    (token_id,) = tokenized.encode(word)
    return token_id


def _follow(table: dict[int, tuple[int, ...]], ids: Sequence[int], after: tuple[int, ...]) -> None:
    """Let each of `ids` follow the one before it, and `after` the last."""
    for i, here in enumerate(ids[:-1]):
        table[here] = (ids[i + 1], ids[min(i + 2, len(ids) - 1)], after[0])
    table[ids[-1]] = after
