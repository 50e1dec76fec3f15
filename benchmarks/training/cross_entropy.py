"""Peak memory of the loss, each measurement in a process of its own: s1ray's in chunks, and all logits at once.

The forward and the backward pass of one row, through one small layer and a large vocabulary, so that the logits
dominate. Linux only, because it reads a process's peak memory from /proc.

    python -m benchmarks.training.cross_entropy KIND TOKENS VOCABULARY   # one measurement, started by `measure`
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.training.resident import growth

CHUNKED, PLAIN = "chunked", "plain"
CHUNK = 512
HIDDEN = 64


@dataclass(frozen=True)
class LossPeak:
    """Memory that the loss of one row needed."""

    tokens: int
    vocabulary: int
    chunked_bytes: int
    plain_bytes: int

    @property
    def ratio(self) -> float:
        """How many times as much all logits at once need."""
        return self.plain_bytes / self.chunked_bytes

    def describe(self) -> dict[str, object]:
        """For the results file."""
        return asdict(self) | {"plain_to_chunked": round(self.ratio, 2)}


def measure(tokens: int, vocabulary: int) -> LossPeak:
    """Run both in new processes.

    Raises:
        subprocess.CalledProcessError: one failed.
    """
    peaks = {}
    for kind in (CHUNKED, PLAIN):
        command = [sys.executable, "-m", "benchmarks.training.cross_entropy", kind, str(tokens), str(vocabulary)]
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run(
            command, cwd=root, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True, text=True
        )
        peaks[kind] = int(done.stdout.split()[-1])
    return LossPeak(tokens, vocabulary, peaks[CHUNKED], peaks[PLAIN])


def peak(kind: str, tokens: int, vocabulary: int) -> int:
    """The largest growth of this process in a forward and a backward pass, in bytes."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from s1ray.training.model.loss import LossModel

    torch.manual_seed(0)
    network = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=vocabulary,
            hidden_size=HIDDEN,
            intermediate_size=HIDDEN,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=True,
            attn_implementation="sdpa",
        )
    )
    model = LossModel(network, logits_chunk=CHUNK) if kind == CHUNKED else network

    def step(length: int) -> None:
        ids = torch.randint(0, vocabulary, (1, length))
        positions = torch.arange(length).unsqueeze(0)
        labels = ids.roll(-1, dims=1)
        if kind == CHUNKED:
            loss = model(input_ids=ids, position_ids=positions, labels=labels)
        else:
            loss = model(input_ids=ids, position_ids=positions, labels=ids, shift_labels=labels).loss
        loss.backward()

    # Allocate everything that is allocated once, including the gradients, before the measurement.
    step(8)
    return growth(lambda: step(tokens))


if __name__ == "__main__":
    print(peak(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
