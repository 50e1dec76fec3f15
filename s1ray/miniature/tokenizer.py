"""The miniature's tokenizer: byte-level BPE of about a thousand tokens with Qwen's special tokens and chat markup.

Digits, single letters, punctuation and white space are always tokens of their own, so that a number or an arrow in a
question and the same one in a working are the same tokens; words of two letters and more may merge with the space
before them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from s1ray.miniature.corpus import documents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT, TURN_START, TURN_END, PAD = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_pad|>"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END, PAD)

VOCABULARY_SIZE = 1000
"""Tokens asked for, special ones included; fewer come out when the corpus has no more words."""

PIECES = r" ?\p{L}{2,}|\p{L}|\p{N}|[^\s\p{L}\p{N}]|\s"

WORDS = tuple((Path(__file__).parent / "words.txt").read_text().split())
"""Words beyond the world's own that prompts and forced texts use; they get tokens of their own too."""

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""ChatML without a default system prompt."""


def train_tokenizer(
    seed: int = 0, *, documents_read: int = 4000, maximum_length: int = 2048
) -> PreTrainedTokenizerFast:
    """Train the tokenizer on the corpus of `seed`; the same seed gives the same vocabulary.

    Args:
        maximum_length: the context length in tokens that the tokenizer advertises.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    texts = [
        text
        for document in documents(seed, 0, documents_read, held_out=())
        for text in _plain(document.question, document.body)
    ]
    texts += [" ".join(WORDS), *WORDS, *(WORDS[:12] * 20)] * (documents_read // 100)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
        special_tokens=[],
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=PAD,
        additional_special_tokens=[END_OF_TEXT, TURN_START],
        clean_up_tokenization_spaces=False,
        model_max_length=maximum_length,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the tokenizer so that `AutoTokenizer` and vLLM load it, the chat template inside tokenizer_config.json."""
    tokenizer.save_pretrained(str(folder), save_jinja_files=False)


def _plain(*texts: str) -> list[str]:
    for special in SPECIAL_TOKENS:
        texts = tuple(text.replace(special, "") for text in texts)
    return list(texts)
