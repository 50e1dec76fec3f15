"""The tier of embeddings, with an encoder of random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from s1ray.config import ConfigError, validate_config
from s1ray.curation.config import DecontaminationConfig
from s1ray.curation.decontamination import BenchmarkIndex
from s1ray.curation.encoder import Encoder
from s1ray.storage import StorePath, upload
from tests.support.encoders import random_encoder
from tests.support.object_store import bucket, s3_environment, s3_server

__all__ = ["bucket", "s3_environment", "s3_server"]

ASKED = "A man walks 5 miles in 2 hours"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = [*ASKED.lower().split(), "6", "woman", "the", "sea"]
    return random_encoder(tmp_path_factory.mktemp("encoder"), words)


def config(folder: Path, **fields: object) -> DecontaminationConfig:
    data = {"review": ["embedding"], "encoder": str(folder), "cosine": 0.9, **fields}
    return validate_config(DecontaminationConfig, data, "test")


def test_vectors_do_not_depend_on_the_texts_beside_them(folder: Path) -> None:
    encoder = Encoder(folder, "encoder")
    texts = [ASKED.lower(), "the sea", "", "a " * 300]
    together = encoder.embed(texts)
    assert np.allclose(np.linalg.norm(together[:2], axis=1), 1, atol=1e-5)
    for row, text in enumerate(texts):
        assert np.allclose(together[row], encoder.embed([text])[0], atol=1e-5)


def test_close_meanings_with_the_same_numbers_are_hits(folder: Path) -> None:
    questions = [ASKED.replace("man", "man the"), ASKED.replace("5", "6"), "the sea"]
    for same_numbers, found in ((True, [True, False, False]), (False, [True, True, False])):
        index = BenchmarkIndex.build([("b/0", ASKED)], config(folder, same_numbers=same_numbers))
        findings = index.find([question.lower() for question in questions])
        assert [bool(finding.review) for finding in findings] == found
    hit = findings[0].review[0]
    assert (hit.tier, hit.label, hit.asked) == ("embedding", "b/0", ASKED)
    assert 0.9 <= hit.score <= 1


def test_an_encoder_in_a_store_is_fetched(
    folder: Path, bucket: StorePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    upload(folder, bucket / "encoder")
    here, there = (Encoder(place, "encoder").embed([ASKED.lower()]) for place in (folder, bucket / "encoder"))
    assert np.array_equal(here, there)


def test_an_encoder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs `encoder`"):
        validate_config(DecontaminationConfig, {"review": ["embedding"]}, "test")
    with pytest.raises(ConfigError, match=r"decontamination\.encoder: .* must be a folder"):
        BenchmarkIndex.build([("b/0", ASKED)], config(tmp_path))


def changed(**fields: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return change


def other_words(folder: Path) -> None:
    from tokenizers import Tokenizer, models

    vocabulary = {word: place for place, word in enumerate(["[PAD]", "[UNK]", *map(str, range(50))])}
    Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]")).save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"version https://"), "cannot be loaded"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be loaded"),
        (changed(hidden_size=32), "cannot be loaded"),
        (changed(num_hidden_layers=2), r"model\.safetensors lacks encoder\.layer\.1\..* and \d+ more of the weights"),
        (changed(model_type="gpt2"), r"model\.safetensors lacks .*not of one model"),
        (other_words, r"tokenizer\.json has 52 tokens and model\.safetensors vectors of 5, so"),
    ],
)
def test_files_that_are_no_encoder_are_refused_and_nothing_is_drawn(
    damage: Callable[[Path], object], problem: str, tmp_path: Path
) -> None:
    damage(random_encoder(tmp_path, ["a", "b", "c"]))
    with pytest.raises(ConfigError, match=rf"^its\.field: .*{problem}"):
        Encoder(tmp_path, "its.field")
