"""Domains without a judge: an encoder's vectors of questions, and a linear function of them for each domain.

Without examples a question has the domain whose description's vector is closest. With labelled examples it has the one
that a multinomial logistic regression on the examples' vectors finds most likely; it only knows domains that have
examples.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from s1ray.config import ConfigError
from s1ray.curation.domains.config import DomainConfig, EmbeddingClassifier, Examples
from s1ray.curation.domains.taxonomy import Taxonomy
from s1ray.curation.encoder import Vectors, encoder
from s1ray.curation.file_source import FileSource
from s1ray.curation.parts import run_tasks
from s1ray.reading.records import column_of, file_records, matching, text_of
from s1ray.storage import Location, location

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("s1ray")

FIELD, EXAMPLES = "domains.classifier.encoder", "domains.classifier.examples"
CHUNK = 512
"""Examples that a worker embeds at a time."""
PENALTY = 0.3
"""Half of it weighs the squared weights, against the summed loss of the examples."""
STEPS = 300
"""Of the regression at most."""
Embed = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True)
class LinearClassifier:
    """Scores of K domains for a vector of D numbers."""

    names: tuple[str, ...]
    weights: npt.NDArray[np.float32]
    """Shape (K, D)."""
    bias: npt.NDArray[np.float32]
    """Shape (K,)."""
    likelihoods: bool
    """Whether scores are log-likelihoods, up to one number a question; else they are cosines."""

    def best(self, vectors: Vectors) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The best domain of N questions, and its score: a likelihood or a cosine; shapes (N,)."""
        scores = vectors.astype(np.float64) @ self.weights.T.astype(np.float64) + self.bias
        if self.likelihoods:
            scores = _softmax(scores)
        best = scores.argmax(1)
        return best, scores[np.arange(len(best)), best]


def by_descriptions(taxonomy: Taxonomy, embed: Embed) -> LinearClassifier:
    """Without examples: a domain's vector is that of its name and what belongs to it."""
    vectors = embed([f"{domain.name}: {domain.about}" for domain in taxonomy.classes])
    bias = np.zeros(len(vectors), np.float32)
    return LinearClassifier(tuple(taxonomy.names), vectors, bias, likelihoods=False)


def by_examples(vectors: Vectors, labels: Sequence[str]) -> LinearClassifier:
    """Logistic regression on N examples, by accelerated gradient descent (Nesterov), which draws nothing.

    Args:
        vectors: of the examples; shape (N, D).
        labels: their domains.
    """
    names = sorted({*labels})
    places = {name: place for place, name in enumerate(names)}
    wanted = np.zeros((len(labels), len(names)))
    wanted[np.arange(len(labels)), [places[label] for label in labels]] = 1
    # A column of ones is the bias; the loss's curvature is at most half of the largest eigenvalue, plus the penalty.
    inputs = np.hstack([vectors.astype(np.float64), np.ones((len(labels), 1))])
    step = 1 / (0.5 * np.linalg.eigvalsh(inputs.T @ inputs)[-1] + PENALTY)
    weights = ahead = np.zeros((len(names), inputs.shape[1]))
    momentum = 1.0
    for _ in range(STEPS):
        gradient = (_softmax(inputs @ ahead.T) - wanted).T @ inputs + PENALTY * ahead
        moved = ahead - step * gradient
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = moved + (momentum - 1) / following * (moved - weights)
        weights, momentum = moved, following
    found = weights.astype(np.float32)
    return LinearClassifier(tuple(names), found[:, :-1], found[:, -1], likelihoods=True)


def _softmax(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    shares: npt.NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return shares


def example_files(examples: Examples) -> list[str]:
    """The files and folders that the examples are in."""
    return FileSource(kind="files", name="examples", path=examples.path).inputs()


def labelled(config: DomainConfig, examples: Examples) -> list[tuple[str, str]]:
    """(question, domain) of every example whose domain is one of the taxonomy.

    Raises:
        ConfigError: fewer than two domains have examples.
        S1rayError: the file cannot be read, or has no such columns.
    """
    found = list(_labelled(config, examples))
    if (domains := len({domain for _, domain in found})) < 2:
        raise ConfigError(
            f"{EXAMPLES}: {examples.path}: examples of two domains or more are needed, and {len(found):,} rows have "
            f"{domains} of the taxonomy; map what they say with domains.mapping"
        )
    return found


def _labelled(config: DomainConfig, examples: Examples) -> Iterator[tuple[str, str]]:
    origin = f"{EXAMPLES}: {examples.path}"
    for record in matching(file_records(examples.path), examples.where, origin):
        question = text_of(column_of(record, examples.question, origin))
        said = text_of(column_of(record, examples.domain, origin))
        domain = config.of_source(said)[0] if said else None
        if question and domain is not None:
            yield question, domain


def fitted(config: DomainConfig, classifier: EmbeddingClassifier) -> LinearClassifier:
    """The classifier of a config; examples are embedded on Ray where it is connected.

    Raises:
        ConfigError: fewer than two domains have examples.
        S1rayError: the encoder or the examples cannot be read.
    """
    folder, taxonomy = location(classifier.encoder), config.classes
    assert taxonomy is not None
    if classifier.examples is None:
        return by_descriptions(taxonomy, encoder(folder, FIELD).embed)
    examples = labelled(config, classifier.examples)
    if missing := len(taxonomy.names) - len({domain for _, domain in examples}):
        log.info("curate: %d of %d domains have no example and are not found", missing, len(taxonomy.names))
    texts = [text for text, _ in examples]
    chunks = [(texts[start : start + CHUNK],) for start in range(0, len(texts), CHUNK)]
    vectors = np.concatenate(run_tasks("learning domains from examples", embedded, chunks, folder=folder))
    return by_examples(vectors, [domain for _, domain in examples])


def embedded(texts: Sequence[str], folder: Location) -> Vectors:
    """The vectors of some texts; shape (N, D)."""
    return encoder(folder, FIELD).embed(texts)


def part_domains(
    rows: pa.Table,
    part: str,
    *,
    wanted: Mapping[str, npt.NDArray[np.int64]],
    model: LinearClassifier,
    encoder_folder: Location,
    min_score: float,
) -> pa.Table:
    """The domains of some rows of a part.

    Args:
        rows: of the part.
        part: its name.
        wanted: the rows of each part.
        model: finds the domain of a vector.
        encoder_folder: of the encoder.
        min_score: least score of a domain.

    Returns:
        A column `place`: positions in the model's names; -1: no score is enough.
    """
    import pyarrow as pa

    texts = rows.column("question").take(pa.array(wanted[part])).to_pylist()
    best, scores = model.best(embedded(texts, encoder_folder))
    return pa.table({"place": np.where(scores >= min_score, best, -1)})
