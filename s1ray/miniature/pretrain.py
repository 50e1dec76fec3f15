"""Train the base model of the miniature from scratch, on CPU.

    python -m s1ray.miniature.pretrain --output base_model --minutes 60

Interrupted training resumes from `<output>/checkpoint.pt` when started again with the same arguments. The learning rate
follows a cosine over the given time (or number of steps). `--finish` writes the model from the checkpoint as it is. The
weights are bfloat16 safetensors; a TRAINING.json records how they were made.

Documents are never packed. A batch holds documents of about the same length, so attention sees one document only and
positions begin at zero, as at inference.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.distributed
import torch.multiprocessing
from torch.nn.functional import cross_entropy

from s1ray.errors import InputError
from s1ray.miniature.corpus import EARLY, LATE, QUESTION_SHARE, Document, documents
from s1ray.miniature.pool import benchmark_keys
from s1ray.miniature.tokenizer import END_OF_TEXT, PAD, TURN_END, save_tokenizer, train_tokenizer
from s1ray.storage import write_json, write_text, writing
from s1ray.training.model.spellings import with_both_spellings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

CONTEXT = 2048
SPARE_ROWS = 24
"""Embedding rows beyond the tokenizer's, as in Qwen's checkpoints: an engine must never sample those ids."""

CHUNK = 3000
"""Documents that are made, sorted by length and batched together."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result, except the machine."""

    seed: int = 0
    minutes: float | None = 60.0
    steps: int | None = None
    hidden: int = 128
    layers: int = 6
    heads: int = 4
    key_value_heads: int = 2
    intermediate: int = 512
    tokens_per_batch: int = 5120
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup: float = 0.02
    """Share of the training in which the learning rate rises."""
    easy: float = 0.1
    """Share of the training that reads easy questions only."""
    early: float = 0.5
    """Share of the training that reads the early mixture of documents."""
    workers: int = 2
    """Processes of one thread each that share every batch. On a busy machine they are much faster than one process of
    two threads: threads synchronise in every operation, workers once per step."""


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """A Qwen2 model of the recipe's size with random weights from its seed."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(recipe.seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer) + SPARE_ROWS,
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.key_value_heads,
        intermediate_size=recipe.intermediate,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        use_sliding_window=False,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(TURN_END),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        attn_implementation="sdpa",
    )
    return Qwen2ForCausalLM(config)


def batches(
    tokenizer: PreTrainedTokenizerFast, made: Sequence[Document], tokens: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of about `tokens` tokens: ids and whether the loss counts them, both (rows, length), right-padded.

    The loss counts every token of a body and `QUESTION_SHARE` of a question's, drawn by `seed`.
    """
    rng = np.random.default_rng(seed)
    questions = tokenizer([document.question for document in made], add_special_tokens=False)["input_ids"]
    bodies = tokenizer([document.body for document in made], add_special_tokens=False)["input_ids"]
    order = sorted(range(len(made)), key=lambda i: len(questions[i]) + len(bodies[i]))
    groups: list[list[int]] = [[]]
    for i in order:
        length = len(questions[i]) + len(bodies[i])
        if groups[-1] and (len(groups[-1]) + 1) * length > tokens:
            groups.append([])
        groups[-1].append(i)
    pad = tokenizer.convert_tokens_to_ids(PAD)
    for index in rng.permutation(len(groups)):
        group = groups[index]
        length = max(len(questions[i]) + len(bodies[i]) for i in group)
        ids = np.full((len(group), length), pad)
        counted = np.zeros((len(group), length), dtype=bool)
        for row, i in enumerate(group):
            first, last = len(questions[i]), len(questions[i]) + len(bodies[i])
            ids[row, :last] = questions[i] + bodies[i]
            counted[row, :first] = rng.random(first) < QUESTION_SHARE
            counted[row, first:last] = True
        yield torch.from_numpy(ids), torch.from_numpy(counted)


def forward_loss(model: Qwen2ForCausalLM, ids: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Mean next-token loss over the counted tokens; the model runs in bfloat16, the loss in float32.

    Logits are computed for the counted positions only, fewer than half of all.
    """
    chosen = counted[:, 1:]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        logits = model.lm_head(hidden[chosen])
    return cross_entropy(logits.float(), ids[:, 1:][chosen])


def optimizers(model: torch.nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings, biases and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    rate, decay = recipe.learning_rate, recipe.weight_decay
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.95), fused=True, weight_decay=decay),
    ]


def learning_rate_factor(progress: float, warmup: float) -> float:
    """Linear warm-up, then a cosine to a hundredth; `progress` runs from 0 to 1."""
    if progress < warmup:
        return max(0.01, progress / warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


class Training:
    """A training that can be saved and resumed between chunks of the corpus.

    Every worker has one; worker 0 keeps the time, writes the checkpoints and prints progress.
    """

    def __init__(self, recipe: Recipe, output: Path, held_out: Collection[str], rank: int = 0):
        torch.set_num_threads(1)
        self.recipe = recipe
        self.rank = rank
        self.output = output
        self.held_out = held_out
        self.tokenizer = train_tokenizer(recipe.seed, max_length=CONTEXT)
        self.model = build_model(recipe, self.tokenizer)
        self.optimizers = optimizers(self.model, recipe)
        self.chunk = self.step = self.tokens = 0
        self.seconds = 0.0
        self.losses: list[tuple[int, float]] = []
        self.output.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        """File in which a training is saved."""
        return self.output / "checkpoint.pt"

    @property
    def progress(self) -> float:
        """From 0 (nothing is done) to 1 (all steps or minutes are spent)."""
        if self.recipe.steps is not None:
            return self.step / self.recipe.steps
        return self.seconds / 60 / (self.recipe.minutes or 60.0)

    def run(self) -> None:
        """Train to the end, saving a checkpoint after every chunk."""
        self.model.train()
        while self.progress < 1:
            self._run_chunk()
            self.chunk += 1
            if self.rank == 0:
                self.save()

    def _run_chunk(self) -> None:
        made = documents(
            self.recipe.seed,
            self.chunk + 1,
            CHUNK,
            held_out=self.held_out,
            easy=self.progress < self.recipe.easy,
            mixture=EARLY if self.progress < self.recipe.early else LATE,
        )
        total, count = 0.0, 0
        began = time.monotonic()
        for ids, counted in self._share(made):
            if self.progress >= 1:
                break
            factor = learning_rate_factor(self.progress, self.recipe.warmup)
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = self.recipe.learning_rate * factor
            loss = forward_loss(self.model, ids, counted)
            loss.backward()
            elapsed = self._average_gradients(time.monotonic() - began)
            began = time.monotonic()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            for optimizer in self.optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            total, count = total + loss.item(), count + 1
            self.step += 1
            self.tokens += ids.numel() * self.recipe.workers
            self.seconds += elapsed
        if count:
            self.losses.append((self.step, round(total / count, 4)))
            if self.rank == 0:
                rate = self.tokens / max(self.seconds, 1e-9)
                print(
                    f"{self.progress:6.1%} step {self.step} loss {total / count:.4f} {self.tokens / 1e6:.2f}M tokens "
                    f"{rate:.0f} tokens/s {self.seconds / 60:.1f} min",
                    flush=True,
                )

    def _share(self, made: Sequence[Document]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The batches of this worker; all workers get the same number."""
        workers = self.recipe.workers
        everything = batches(self.tokenizer, made, self.recipe.tokens_per_batch // workers, self.chunk)
        for group in zip(*[everything] * workers, strict=False):
            yield group[self.rank]

    def _average_gradients(self, elapsed: float) -> float:
        """Replace the gradients by their mean over the workers, and give worker 0's elapsed seconds to all."""
        if self.recipe.workers == 1:
            return elapsed
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        clock = torch.tensor([elapsed if self.rank == 0 else 0.0])
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), clock])
        torch.distributed.all_reduce(flat)
        offset = 0
        for gradient in gradients:
            gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient) / self.recipe.workers)
            offset += gradient.numel()
        return float(flat[-1])

    def save(self) -> None:
        """Write the checkpoint; a kill in the middle leaves the one before."""
        state = {
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "counters": (self.chunk, self.step, self.tokens, self.seconds),
            "losses": self.losses,
        }
        with writing(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def resume(self) -> None:
        """Resume from a checkpoint of the same recipe, if there is one.

        Raises:
            InputError: the checkpoint was made with another recipe.
        """
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, weights_only=True)
        if state["recipe"] != asdict(self.recipe):
            raise InputError(
                f"{self.checkpoint} was made with {state['recipe']}, not {asdict(self.recipe)}: use the same "
                "arguments, or another --output"
            )
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.chunk, self.step, self.tokens, self.seconds = state["counters"]
        self.losses = state["losses"]

    def export(self, folder: Path) -> None:
        """Write model, tokenizer and TRAINING.json as a Hugging Face folder of bfloat16 safetensors."""
        import transformers

        model = build_model(self.recipe, self.tokenizer)
        model.load_state_dict(self.model.state_dict())
        model = model.to(torch.bfloat16)
        model.generation_config = transformers.GenerationConfig(
            eos_token_id=[self.tokenizer.convert_tokens_to_ids(token) for token in (TURN_END, END_OF_TEXT)],
            pad_token_id=self.tokenizer.convert_tokens_to_ids(PAD),
        )
        model.save_pretrained(str(folder))
        settings = json.loads((folder / "config.json").read_text())
        write_json(folder / "config.json", with_both_spellings(settings))
        (folder / "model.safetensors").chmod(0o644)
        save_tokenizer(self.tokenizer, folder)
        record = {
            "recipe": asdict(self.recipe),
            "data": "s1ray.miniature.corpus.documents, chunks of "
            f"{CHUNK} from number 1; the loss counts {QUESTION_SHARE} of the questions' tokens; "
            "benchmark questions held out",
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "steps": self.step,
            "tokens": self.tokens,
            "minutes": round(self.seconds / 60, 1),
            "loss": self.losses[-1][1] if self.losses else None,
            "loss_of_steps": self.losses[:: max(1, len(self.losses) // 20)],
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
        }
        write_text(folder / "TRAINING.json", json.dumps(record, indent=1) + "\n")


def train(rank: int, recipe: Recipe, output: Path, address: str, finish: bool) -> None:
    """One worker's part of a training, from the checkpoint if there is one; worker 0 writes the model."""
    if recipe.workers > 1:
        torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=recipe.workers)
    training = Training(recipe, output, benchmark_keys(), rank)
    training.resume()
    if not finish:
        training.run()
    if rank == 0:
        training.export(output)
        print(f"wrote {output}")
    if recipe.workers > 1:
        torch.distributed.destroy_process_group()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the model and of the checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=60.0, help="wall time of the training itself")
    length.add_argument("--steps", type=int, help="optimizer steps, instead of minutes")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--finish", action="store_true", help="write the model from the checkpoint, train no more")
    options = parser.parse_args(arguments)
    recipe = Recipe(
        seed=options.seed,
        minutes=None if options.steps else options.minutes,
        steps=options.steps,
        workers=options.workers,
    )
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as meeting:
        arguments_of_all = (recipe, options.output, f"file://{meeting}/workers", options.finish)
        if recipe.workers == 1:
            train(0, *arguments_of_all)
        else:
            torch.multiprocessing.spawn(train, arguments_of_all, nprocs=recipe.workers)


if __name__ == "__main__":
    main()
