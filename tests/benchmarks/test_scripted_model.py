"""The scripted model says what its script says, by the weights alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.budget_forcing.scripted_model import ScriptedModel, write_scripted_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ScriptedModel:
    return write_scripted_model(tmp_path_factory.mktemp("scripted"), chain=32, answer=4, layers=1)


def greedy(model: ScriptedModel, prompt_ids: list[int], number: int) -> list[int]:
    import torch
    from transformers import AutoModelForCausalLM

    weights = AutoModelForCausalLM.from_pretrained(model.folder).eval()
    ids = torch.tensor([prompt_ids])
    with torch.no_grad():
        output = weights.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=number, do_sample=False)
    ids_after: list[int] = output[0, len(prompt_ids) :].tolist()
    return ids_after


@pytest.mark.parametrize("entry", [None, "Wait", "So", "Actually", "Again", "Stop"])
def test_the_weights_follow_the_script(model: ScriptedModel, entry: str) -> None:
    prompt = model.prompt(entry, length=40)
    assert len(prompt) == 40
    assert greedy(model, prompt, 60) == model.free_run(prompt, 60)


def test_a_free_run_thinks_as_long_as_its_entry_word_says_and_answers(model: ScriptedModel) -> None:
    for entry, length in model.entries.items():
        output = model.free_run(model.prompt(entry), 1000)
        assert tuple(output[:length]) == model.chain[-length:]
        assert output[length:] == [*model.tokenized.end, *model.answer, model.eos_token_id]


def test_the_written_tokenizer_reads_its_own_text_back(model: ScriptedModel) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.folder)
    ids = [*model.prompt("Hmm"), *model.free_run(model.prompt("Hmm"), 100)]
    assert tokenizer.encode(tokenizer.decode(ids)) == ids
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Grüße, world 7"}], add_generation_prompt=True, tokenize=False
    )
    assert tokenizer.decode(tokenizer.encode(prompt)) == prompt


@pytest.mark.parametrize("name", ["s1", "deepseek_r1", "qwen3"])
def test_every_format_ends_its_thinking_in_its_own_way(tmp_path: Path, name: str) -> None:
    model = write_scripted_model(tmp_path, thinking_format=name, chain=8, answer=2, layers=1)
    output = model.free_run(model.prompt("Wait"), 100)
    thinking, answer = model.tokenized.format.split(model.tokenized.decode([*model.tokenized.start, *output]))
    assert model.tokenized.encode(" " + thinking.strip())[:7] == model.chain[:7]
    assert answer


def test_a_prompt_that_is_too_short_for_its_words_is_refused(model: ScriptedModel) -> None:
    with pytest.raises(ValueError, match="length: the shortest prompt has"):
        model.prompt("Wait", length=3)
