"""Domains by vectors: closest description, and what is learned from examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from s1ray.config import ConfigError, validate_config
from s1ray.curation.config import CurationConfig
from s1ray.curation.domains.config import DomainConfig, EmbeddingClassifier
from s1ray.curation.domains.embedding import PENALTY, LinearClassifier, by_examples, fitted, labelled, part_domains
from s1ray.curation.domains.step import domain_inputs, domain_plan
from tests.support.encoders import random_encoder

TAXONOMY = {"algebra": "equation variable", "geometry": "triangle circle"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = ["algebra", "geometry", "equation", "variable", "triangle", "circle", ":", "the"]
    return random_encoder(tmp_path_factory.mktemp("encoder"), words)


def config(folder: Path, **fields: Any) -> DomainConfig:
    classifier = {"kind": "embedding", "encoder": str(folder), **fields.pop("classifier", {})}
    return validate_config(DomainConfig, {"taxonomy": TAXONOMY, "classifier": classifier, **fields}, "test")


def plan(domains: DomainConfig) -> str:
    """What a run would do."""
    sources = [{"kind": "miniature", "size": 1}]
    stage = validate_config(CurationConfig, {"output": "unused", "sources": sources}, "test")
    return "\n".join(domain_plan(stage.model_copy(update={"domains": domains})))


def of(texts: list[str], config: DomainConfig) -> list[str | None]:
    """The domains of questions that are one part."""
    classifier = config.classifier
    assert isinstance(classifier, EmbeddingClassifier)
    model = fitted(config, classifier)
    wanted = {"part": np.arange(len(texts))[1:]}
    places = part_domains(
        pa.table({"question": texts}),
        "part",
        wanted=wanted,
        model=model,
        encoder_folder=Path(classifier.encoder),
        min_score=classifier.min_score,
    )
    return [model.names[place] if place >= 0 else None for place in places.column("place").to_pylist()]


def test_a_question_has_the_domain_whose_description_is_closest(folder: Path) -> None:
    texts = ["not asked", "the equation variable", "triangle circle the", "geometry : triangle circle"]
    assert of(texts, config(folder)) == ["algebra", "geometry", "geometry"]
    assert of(texts, config(folder, classifier={"min_score": 0.999})) == [None, None, "geometry"]


def examples(path: Path, rows: list[tuple[str, str | None]]) -> dict[str, Any]:
    path.write_text("".join(json.dumps({"q": question, "d": domain, "n": 1}) + "\n" for question, domain in rows))
    return {"examples": {"path": str(path), "question": "q", "domain": "d"}}


def test_examples_teach_what_descriptions_do_not_say(folder: Path, tmp_path: Path) -> None:
    rows: list[tuple[str, str | None]] = [
        ("the circle", "Alg."),
        ("circle the circle", "ALGEBRA"),
        ("variable", "geometry"),
        ("the variable", "geometry"),
        ("triangle", "none of ours"),
        ("triangle", None),
    ]
    taught = config(folder, mapping={"Alg.": "algebra"}, classifier=examples(tmp_path / "e.jsonl", rows * 20))
    assert of(["", "circle", "the variable"], taught) == ["algebra", "geometry"]
    assert isinstance(taught.classifier, EmbeddingClassifier)
    assert taught.classifier.examples is not None
    assert len(labelled(taught, taught.classifier.examples)) == 80
    assert "by the examples of" in plan(taught)
    assert domain_inputs(taught) == {
        "domains.classifier.encoder": str(folder),
        "domains.classifier.examples.0": str(tmp_path / "e.jsonl"),
    }


def test_examples_of_one_domain_teach_nothing_and_are_refused(folder: Path, tmp_path: Path) -> None:
    one = config(folder, classifier=examples(tmp_path / "e.jsonl", [("circle", "geometry"), ("line", "Lines")]))
    with pytest.raises(ConfigError, match="1 rows have 1 of the taxonomy"):
        of(["", "circle"], one)
    absent = examples(tmp_path / "e.jsonl", [("circle", "geometry")])
    absent["examples"]["domain"] = "subject"
    with pytest.raises(ConfigError, match=r"domains.classifier.examples: .*subject"):
        plan(config(folder, classifier=absent))


def test_an_encoder_that_is_not_there_is_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"domains\.classifier\.encoder: .* must be a folder"):
        plan(config(tmp_path))


def test_the_regression_is_the_one_with_the_least_loss() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 8))
    labels = rng.integers(0, 3, 200)
    vectors = (centres[labels] + rng.normal(size=(200, 8))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"d{label}" for label in labels.tolist()]
    model = by_examples(vectors, names)

    def loss(weights: np.ndarray[Any, Any]) -> float:
        inputs = np.hstack([vectors, np.ones((200, 1))])
        scores = inputs @ weights.T
        logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        return float(-logs[np.arange(200), labels].sum() + 0.5 * PENALTY * (weights**2).sum())

    found = np.hstack([model.weights, model.bias[:, None]]).astype(np.float64)
    least = loss(found)
    for _ in range(50):
        assert loss(found + rng.normal(size=found.shape) * 0.01) > least - 1e-4
    best, scores = model.best(vectors)
    assert np.mean(best == labels) > 0.8
    assert np.all((scores > 1 / 3) & (scores <= 1))
    again = by_examples(vectors, names)
    assert np.array_equal(again.weights, model.weights)


def test_scores_without_examples_are_cosines() -> None:
    model = LinearClassifier(("a", "b"), np.eye(2, dtype=np.float32), np.zeros(2, np.float32), likelihoods=False)
    best, scores = model.best(np.array([[0.6, 0.8], [1, 0]], np.float32))
    assert best.tolist() == [1, 0]
    assert scores.tolist() == pytest.approx([0.8, 1])
