"""Pre-training in miniature: a few steps, interrupted and not, end in the same loadable model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from s1ray.miniature import pretrain
from s1ray.miniature.corpus import documents
from s1ray.miniature.pretrain import Recipe, Training, batches, learning_rate_factor, train
from s1ray.miniature.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TINY = Recipe(
    steps=12, hidden=32, layers=1, heads=2, key_value_heads=1, intermediate=32, tokens_per_batch=512, workers=1
)


@pytest.fixture(scope="module")
def trained_tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(0)


@pytest.fixture(autouse=True)
def quick_start(monkeypatch: pytest.MonkeyPatch, trained_tokenizer: PreTrainedTokenizerFast) -> None:
    monkeypatch.setattr(pretrain, "CHUNK", 20)
    monkeypatch.setattr(pretrain, "train_tokenizer", lambda *_, **__: trained_tokenizer)


def weights(training: Training) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in training.model.parameters()])


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = Training(TINY, tmp_path / "whole", ())
    whole.run()
    first = Training(TINY, tmp_path / "parts", ())
    first._run_chunk()
    first.chunk += 1
    first.save()
    assert 0 < first.step < whole.step
    second = Training(TINY, tmp_path / "parts", ())
    second.resume()
    second.run()
    assert second.step == whole.step == TINY.steps
    assert torch.equal(weights(second), weights(whole))


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    Training(TINY, tmp_path, ()).save()
    other = Training(Recipe(**{**vars(TINY), "seed": 1}), tmp_path, ())
    with pytest.raises(ValueError, match=r"checkpoint.pt was made with"):
        other.resume()


def test_training_writes_a_model_that_transformers_loads(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    train(0, TINY, tmp_path, "", False)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert model.dtype == torch.bfloat16
    assert model.config.vocab_size == len(tokenizer) + pretrain.SPARE_ROWS
    record = json.loads((tmp_path / "TRAINING.json").read_text())
    assert record["steps"] == TINY.steps
    assert record["recipe"]["hidden"] == TINY.hidden


def test_workers_share_the_batches_without_overlap_in_equal_numbers(tmp_path: Path) -> None:
    made = documents(0, 1, 120, held_out=())
    alone = list(Training(TINY, tmp_path, ())._share(made))
    pair = Recipe(**{**vars(TINY), "workers": 2, "tokens_per_batch": 2 * TINY.tokens_per_batch})
    first, second = (list(Training(pair, tmp_path, (), rank)._share(made)) for rank in (0, 1))
    assert len(first) == len(second) == len(alone) // 2
    for index, (ids, counted) in enumerate(alone[: 2 * len(first)]):
        theirs = (first, second)[index % 2][index // 2]
        assert torch.equal(ids, theirs[0])
        assert torch.equal(counted, theirs[1])


def test_the_loss_counts_every_body_token_and_few_of_the_questions(tmp_path: Path) -> None:
    tokenizer = Training(TINY, tmp_path, ()).tokenizer
    made = documents(0, 1, 200, held_out=())
    ids, bodies = 0, sum(len(tokenizer(document.body)["input_ids"]) for document in made)
    questions = sum(len(tokenizer(document.question)["input_ids"]) for document in made)
    counted = 0
    for batch, mask in batches(tokenizer, made, 2000, seed=0):
        assert batch.numel() <= 2000
        assert not mask[batch == tokenizer.pad_token_id].any()
        ids += int((batch != tokenizer.pad_token_id).sum())
        counted += int(mask.sum())
    assert ids == bodies + questions
    assert 0.05 < (counted - bodies) / questions < 0.15


def test_the_learning_rate_rises_then_falls_to_nearly_nothing() -> None:
    factors = [learning_rate_factor(progress / 100, 0.1) for progress in range(101)]
    assert factors.index(max(factors)) == 10
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] == pytest.approx(0.01)
