"""The shipped base model: what is in its folder, and that it knows the world but does not think at length."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from s1ray.miniature import BASE_MODEL_DIR
from s1ray.miniature.domains import DOMAINS
from s1ray.miniature.questions import draw, to_question, verify
from s1ray.miniature.seeding import generator
from s1ray.miniature.working import one_pass

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM


@pytest.fixture(scope="module")
def model() -> Qwen2ForCausalLM:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(BASE_MODEL_DIR)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(BASE_MODEL_DIR)


def greedy(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str, new_tokens: int = 24) -> str:
    import torch

    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        output = model.generate(ids, max_new_tokens=new_tokens, do_sample=False)
    return str(tokenizer.decode(output[0, ids.shape[1] :]))


def chat(tokenizer: PreTrainedTokenizerFast, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def test_the_folder_is_small_and_complete() -> None:
    size = sum(path.stat().st_size for path in BASE_MODEL_DIR.iterdir())
    assert size < 10 * 2**20
    for name in ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "TRAINING.json"):
        assert (BASE_MODEL_DIR / name).is_file()
    assert "chat_template" in json.loads((BASE_MODEL_DIR / "tokenizer_config.json").read_text())


def test_the_record_says_how_the_weights_came_about() -> None:
    record = json.loads((BASE_MODEL_DIR / "TRAINING.json").read_text())
    for field in ("recipe", "data", "parameters", "steps", "tokens", "minutes", "loss", "versions"):
        assert record[field], field
    assert record["parameters"] < 3_000_000


def test_it_is_a_bfloat16_qwen2_with_spare_embedding_rows(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    import torch

    assert model.config.model_type == "qwen2"
    assert model.dtype == torch.bfloat16
    assert model.config.vocab_size > len(tokenizer)
    assert model.config.max_position_embeddings == 2048
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert tokenizer.eos_token_id in model.generation_config.eos_token_id


def test_in_chat_it_answers_at_once_and_easy_questions_above_chance(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    right = answered = 0
    names = sorted(DOMAINS)
    for seed in range(56):
        question = to_question(draw(generator("easy", seed), names[seed % len(names)], 1))
        reply = greedy(model, tokenizer, chat(tokenizer, question.question))
        answered += "Answer:" in reply and reply.endswith("<|im_end|>")
        right += verify(question, reply.split("Answer:")[-1].removesuffix("<|im_end|>"))
    assert answered >= 50
    assert right / 56 > 0.3


def test_in_plain_text_it_takes_single_steps(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Given a working up to the last step, it writes that step: what fine-tuning can build on."""
    right = 0
    names = sorted(DOMAINS)
    for seed in range(56):
        problem = draw(generator("step", seed), names[seed % len(names)], 4)
        lines, _ = one_pass(problem.rules, problem.spec)
        prompt = "\n".join([problem.text, *lines[:-1], ""])
        right += greedy(model, tokenizer, prompt).startswith(lines[-1] + "\n")
    assert right / 56 > 0.7
