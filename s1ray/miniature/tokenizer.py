"""The miniature's tokenizer: byte-level BPE of about a thousand tokens with Qwen's special tokens and chat markup.

Digits, single letters, punctuation and white space are always separate tokens, so a number or an arrow has the same
tokens in a question and in its working. Words of two letters or more may merge with the space before them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from s1ray.miniature.corpus import documents

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT, TURN_START, TURN_END, PAD = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_pad|>"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END, PAD)

VOCABULARY_SIZE = 1000
"""Tokens asked for, including special ones; there are fewer if the corpus runs out of words."""

LEARNING_PIECES = r" ?\p{L}{2,}|\p{L}|\p{N}|[^\s\p{L}\p{N}]|\s"
"""Pieces from which merges are learned: only words of two letters or more, with the space before them, can merge."""

PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How text is split before merging. This is Qwen2's expression, because transformers 5 puts it into the tokenizer of
every model of that architecture, whatever tokenizer.json says."""

WORDS = tuple((Path(__file__).parent / "words.txt").read_text().split())
"""Words that only prompts and forced texts use; they get tokens of their own as well."""

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""ChatML without a default system prompt."""


def train_tokenizer(seed: int = 0, *, documents_read: int = 4000, max_length: int = 2048) -> PreTrainedTokenizerFast:
    """Train the tokenizer on the corpus of `seed`; the same seed gives the same vocabulary.

    Args:
        seed: of the corpus.
        documents_read: documents to train on.
        max_length: the context length, in tokens, that the tokenizer states.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = _cut(LEARNING_PIECES)
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
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    vocabulary, merges = join_spaces_last(learned["vocab"], [(left, right) for left, right in learned["merges"]])
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _cut(PIECES)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=PAD,
        additional_special_tokens=[END_OF_TEXT, TURN_START],
        clean_up_tokenization_spaces=False,
        model_max_length=max_length,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the tokenizer so that `AutoTokenizer` and vLLM load it, the chat template inside tokenizer_config.json.

    The configuration is written by hand, with the fields that transformers 4 and 5 both read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": tokenizer.eos_token,
        "pad_token": tokenizer.pad_token,
        "additional_special_tokens": [END_OF_TEXT, TURN_START],
        "model_max_length": tokenizer.model_max_length,
        "clean_up_tokenization_spaces": False,
        "chat_template": tokenizer.chat_template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")


def join_spaces_last(
    vocabulary: dict[str, int], merges: list[tuple[str, str]]
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Merge a capital letter first with its word, and last with the space before it.

    Otherwise, with the pieces of `PIECES`, the letter S used as a name would be one token after a space and another one
    elsewhere. The ids that this frees go to the words that it needs; all other tokens keep theirs.

    Raises:
        ValueError: more words are needed than ids are freed.
    """
    space = "\u0120"
    freed = [left + right for left, right in merges if left == space and len(right) == 1 and right.isupper()]
    rerouted: list[tuple[str, str]] = []
    needed: list[str] = []
    for left, right in merges:
        if left + right in freed:
            continue
        if left in freed:
            word = left[1:] + right
            if word not in vocabulary:
                needed.append(word)
                rerouted.append((left[1:], right))
            rerouted.append((space, word))
        else:
            rerouted.append((left, right))
    if len(needed) > len(freed):
        raise ValueError(f"the words {needed} need ids, but only {len(freed)} are free: give some of them to WORDS")
    ids = {token: number for token, number in vocabulary.items() if token not in freed}
    spare = sorted(vocabulary[token] for token in freed)
    ids |= dict(zip(needed, spare, strict=False))
    unused = spare[len(needed) :]
    ids |= {token: vocabulary[token] for token in freed if vocabulary[token] in unused}
    return ids, rerouted


def _cut(expression: str) -> PreTokenizer:
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(expression), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _plain(*texts: str) -> list[str]:
    for special in SPECIAL_TOKENS:
        texts = tuple(text.replace(special, "") for text in texts)
    return list(texts)
