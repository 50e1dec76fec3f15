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


def greedy(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: list[str]) -> list[str]:
    import torch

    batch = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    with torch.no_grad():
        output = model.generate(**batch, max_new_tokens=24, do_sample=False)
    texts = tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :])
    return [text.replace(tokenizer.pad_token, "") for text in texts]


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
    names = sorted(DOMAINS)
    questions = [to_question(draw(generator("easy", seed), names[seed % len(names)], 1)) for seed in range(56)]
    right = answered = 0
    replies = greedy(model, tokenizer, [chat(tokenizer, question.question) for question in questions])
    for question, reply in zip(questions, replies, strict=True):
        answered += "Answer:" in reply and reply.endswith("<|im_end|>")
        right += verify(question, reply.split("Answer:")[-1].removesuffix("<|im_end|>"))
    assert answered >= 50
    assert right / 56 > 0.3


def test_in_plain_text_it_takes_single_steps(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Given a working up to the last step, it writes that step: what fine-tuning can build on."""
    names = sorted(DOMAINS)
    problems = [draw(generator("step", seed), names[seed % len(names)], 4) for seed in range(56)]
    workings = [one_pass(problem.rules, problem.spec)[0] for problem in problems]
    prompts = ["\n".join([problem.text, *lines[:-1], ""]) for problem, lines in zip(problems, workings, strict=True)]
    replies = greedy(model, tokenizer, prompts)
    right = sum(reply.startswith(lines[-1] + "\n") for lines, reply in zip(workings, replies, strict=True))
    assert right / 56 > 0.7
