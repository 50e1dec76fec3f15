"""What training rows cost in memory and on disk, up to 1e9 tokens.

    python -m benchmarks.training.rows                 # writes benchmarks/training/rows.json
    python -m benchmarks.training.rows --prepared 1e7 1e8  # quicker: tokenising 1e9 takes some twelve minutes

- preparing: what the driver does, from traces in Parquet to the run folder's `examples.arrow`, with a tokenizer in
  which a byte is a token, as the text is made up;
- reading: what a worker does, every row once in a random order, from a file that was written without tokenising.

Each is a process of its own. Memory is what the process holds for itself (RssAnon) beyond what it held with everything
imported; the mapped file is in the page cache, which the system takes back when memory is short, and counts apart
(RssFile). Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.training.resident import resident

RESULTS = Path(__file__).with_suffix(".json")
LENGTHS = (600, 5300, 8200)
"""Shortest, most frequent and longest row in tokens: s1K's."""
PROMPT = 40
"""Bytes of a question."""
READ_TOKENS = (1e8, 1e9)
PREPARED_TOKENS = (1e7, 1e8, 1e9)


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--read", type=float, nargs="+", default=READ_TOKENS, help="tokens of a worker's rows")
    parser.add_argument("--prepared", type=float, nargs="+", default=PREPARED_TOKENS, help="tokens to tokenise")
    parser.add_argument("--arm", choices=("prepare", "read"), help="measure one here (started by this program)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="s1ray-bench-") as folder:
        if arguments.arm is not None:
            arm, sizes = (prepare, arguments.prepared) if arguments.arm == "prepare" else (read, arguments.read)
            print(json.dumps(arm(int(sizes[0]), Path(folder))))
            return
    results = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "preparing": [measured("prepare", "--prepared", tokens) for tokens in arguments.prepared],
        "reading": [measured("read", "--read", tokens) for tokens in arguments.read],
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(RESULTS.read_text())


def measured(arm: str, option: str, tokens: float) -> dict[str, Any]:
    """The results of an arm in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training.rows", "--arm", arm, option, str(tokens)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return found


def read(tokens: int, folder: Path) -> dict[str, Any]:
    """Write rows without tokenising, then read each as a worker does."""
    from s1ray.training.data.dataset import Dataset, writing_rows

    path, draw = folder / "examples.arrow", np.random.default_rng(0)
    # Real ids would not make the file smaller or larger: it is not compressed.
    ids = draw.integers(0, 150_000, size=max(LENGTHS)).astype(np.int32)
    mask = np.arange(max(LENGTHS)) >= PROMPT
    written = 0
    with measuring() as writing, writing_rows(path) as writer:
        for row, length in enumerate(row_lengths(tokens, draw)):
            writer.add(f"{row:016x}-0", ids[:length], mask[:length])
            written += length
    with measuring() as reading:
        dataset = Dataset.read(path)
        trained = sum(int((dataset.labels[row] >= 0).sum()) for row in draw.permutation(len(dataset)).tolist())
    assert trained == sum(dataset.trained)
    return {
        "tokens": written,
        "rows": len(dataset),
        "bytes_a_token_on_disk": round(path.stat().st_size / written, 3),
        "writer_mib": writing["anonymous_mib"],
        "worker_mib": reading["anonymous_mib"],
        "worker_page_cache_mib": reading["file_mib"],
        "seconds": reading["seconds"],
    }


def prepare(tokens: int, folder: Path) -> dict[str, Any]:
    """Prepare a run's rows from traces, as the process that starts a run does."""
    from s1ray.training.config import TrainingConfig
    from s1ray.training.data import preparation

    write_tokenizer(folder / "model")
    write_traces(tokens, folder / "traces.parquet")
    config = TrainingConfig.model_validate(
        {"output": str(folder / "run"), "model": str(folder / "model"), "traces": str(folder / "traces.parquet")}
    )
    preparation.load_renderer(config).render("Q", "thinking", "answer")
    (folder / "run").mkdir()
    with measuring() as driver:
        kept = preparation.keep(preparation.prepare(config), folder / "run")
    counted = sum(kept.examples.lengths)
    return {
        "tokens": counted,
        "rows": len(kept.examples),
        "bytes_a_token_on_disk": round((folder / "run" / preparation.EXAMPLES_FILE).stat().st_size / counted, 3),
        "driver_mib": driver["anonymous_mib"],
        "seconds": driver["seconds"],
        "tokens_a_second": round(counted / driver["seconds"]),
    }


def row_lengths(tokens: int, draw: np.random.Generator) -> Iterator[int]:
    """Lengths of rows that have so many tokens together."""
    while tokens > 0:
        length = round(draw.triangular(*LENGTHS))
        yield length
        tokens -= length


def write_traces(tokens: int, path: Path) -> None:
    """Made-up traces, of which a byte becomes a token."""
    import pyarrow.parquet as pq

    from s1ray.schemas import Trace, arrow_schema, question_id, to_table

    draw = np.random.default_rng(0)
    words = (
        "count",
        "on",
        "the",
        "number",
        "so",
        "then",
        "we",
        "have",
        "it",
        "3",
        "14",
        "15",
        "wait",
        "check",
        "=",
        "+",
        "\n",
    )
    text = " ".join(words[index] for index in draw.integers(0, len(words), size=2 * max(LENGTHS)))
    with pq.ParquetWriter(path, arrow_schema(Trace)) as writer:
        batch: list[Trace] = []
        for row, length in enumerate(row_lengths(tokens, draw)):
            question = f"What is number {row}?".ljust(PROMPT, "?")
            start = int(draw.integers(0, max(LENGTHS)))
            batch.append(
                Trace(
                    id=f"{question_id(question)}-0",
                    question_id=question_id(question),
                    sample=0,
                    question=question,
                    thinking=text[start : start + length],
                    attempt=str(row),
                    teacher="made up",
                    thinking_tokens=length,
                    attempt_tokens=len(str(row)),
                    finish_reason="stop",
                )
            )
            if len(batch) == 1000:
                writer.write_table(to_table(batch, Trace))
                batch = []
        writer.write_table(to_table(batch, Trace))


def write_tokenizer(folder: Path) -> None:
    """A tokenizer in which a byte is a token, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_end|>", "<|im_start|>"])
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_end|>", "<|im_start|>"],
        chat_template=template,
    ).save_pretrained(folder)


@contextlib.contextmanager
def measuring() -> Iterator[dict[str, float]]:
    """The peak of this process's memory beyond what it has now, and the seconds, once the block ends."""
    found: dict[str, float] = {}
    before, peaks = resident(), {"RssAnon": 0, "RssFile": 0}
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.02):
            now = resident()
            for name in peaks:
                peaks[name] = max(peaks[name], now[name])

    sampler = threading.Thread(target=sample, daemon=True)
    started = time.perf_counter()
    sampler.start()
    try:
        yield found
    finally:
        found["seconds"] = round(time.perf_counter() - started, 1)
        done.set()
        sampler.join()
        found["anonymous_mib"] = round((peaks["RssAnon"] - before["RssAnon"]) / 2**20, 1)
        found["file_mib"] = round((peaks["RssFile"] - before["RssFile"]) / 2**20, 1)


if __name__ == "__main__":
    main()
