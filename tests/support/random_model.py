"""A tiny Qwen2 of random weights, keen on stopping and on saying "Wait", with a tokenizer in s1's format.

The weights are random but for one direction of the residual stream; the embedding has more rows than the tokenizer has
tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_pad|>"]
KEEN = ("<|im_start|>", "<|im_end|>", "Wait", "Hmm", "\n")
TAGS = ["<think>", "</think>", "<tool_call>"]
HOSTILE = (*KEEN, "<think>", "</think>", "<tool_call>", "think", " answer", "answer", "<", ">")
WORDS = "think answer Answer Final Wait Hmm Alternatively one two so : the user assistant\n"


def write_random_model(folder: Path, context: int, keen: Sequence[str] = KEEN, *, width: int = 96) -> None:
    """Write the model and its tokenizer; it is keen on the first token of each of these texts.

    Args:
        folder: where.
        context: its positions.
        keen: the texts.
        width: of the layers within; a step of a wider model takes longer.
    """
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    backend = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(r" ?\p{L}+|\p{N}|\s|[^\s\p{L}\p{N}]"), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([WORDS, *WORDS.split()] * 4, trainer)
    backend.add_special_tokens([*SPECIAL, *(tag for tag in TAGS if tag in keen)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|fim_pad|>")
    tokenizer.save_pretrained(folder)

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer) + 24,
        hidden_size=64,
        intermediate_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=context,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.dim() == 2:
                weights.normal_(0, 0.3 if "embed" in name or "lm_head" in name else 0.1)
        # Direction 0 is the same for every token and no layer writes to it: a bias on the logits.
        model.model.embed_tokens.weight[:, 0] = 3.0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0
            layer.mlp.down_proj.weight *= (96 / width) ** 0.5
            layer.mlp.down_proj.weight[0] = 0
        head = model.lm_head.weight
        head[:, 0] = 0
        head[[tokenizer.encode(text)[0] for text in keen], 0] = 0.9
        head[len(tokenizer) :, 0] = 0.5
    model.save_pretrained(folder)
