"""Trains the miniature's process reward model: which lines of a working are right?

    python -m s1ray.miniature.reward --output runs/miniature/reward      # a minute on two cores

The packaged base model gets a head for token classification, which reads each line's end. Its lessons are workings in
which some lines have slips, so it is known by construction which are right: a line is, if it is what a pass without
slips would say there, and so is a line that names an answer, if that is the question's. Lines that begin a re-check
say nothing, and are not learned from. Questions of the held-out benchmark are left out, and a tenth of the questions is
kept apart to measure on.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from s1ray.miniature import BASE_MODEL_DIR
from s1ray.miniature.domains import DOMAINS, LEVELS
from s1ray.miniature.pool import build_benchmark
from s1ray.miniature.questions import Problem, draw, problem_of
from s1ray.miniature.seeding import generator
from s1ray.miniature.working import RECHECK_LINES, one_pass, slipping_pass

SEPARATOR = "\n"
SLIP, NOTICE, SECOND_PASS = 0.15, 0.3, 0.4
"""Of a line; of a slip; of a working. More of each than in the teacher's traces: the head should see many of both."""
BATCH, STEPS = 64, 150
LEARNING_RATE = 2e-3
MEASURED = 400
"""Held-out workings."""


@dataclass(frozen=True)
class Lesson:
    """A question, lines of working, and which of them are right."""

    question: str
    lines: list[str]
    right: list[bool | None]
    """None: the line makes no claim."""


def lesson(problem: Problem, rng: random.Random) -> Lesson:
    """A working of a problem, in one or two passes with slips."""
    lines, right = list[str](), list[bool | None]()
    for number in range(1 + (rng.random() < SECOND_PASS)):
        if number:
            lines.append(rng.choice(RECHECK_LINES))
            right.append(None)
        stride = problem.rules.stride if rng.random() < 0.5 else 1
        written, answer = slipping_pass(problem.rules, problem.spec, rng, stride=stride, slip=SLIP, notice=NOTICE)
        correct, _ = one_pass(problem.rules, problem.spec, stride=stride)
        lines += [*written, f"So {answer}"]
        right += [*_judged(written, correct), answer == problem.answer]
    return Lesson(problem.text, lines, right)


def _judged(lines: Sequence[str], correct: Sequence[str]) -> Iterator[bool]:
    """For each line of a pass whether it is right, beside the lines of a pass without slips."""
    place = -1
    for line in lines:
        corrects = line.startswith("Wait, ")
        place += not corrects
        said = line.removeprefix("Wait, ")
        yield place < len(correct) and said == correct[place]


def lessons(seed: int, *, held_out: bool) -> Iterator[Lesson]:
    """Without end; held-out ones are of questions that the others never ask."""
    benchmark = {problem_of(question).key for question in build_benchmark()}
    rng = generator("reward", seed, held_out)
    while True:
        problem = draw(rng, rng.choice(list(DOMAINS)), rng.choice(list(LEVELS)))
        apart = generator("reward question", problem.key).random() < 0.1
        if apart == held_out and problem.key not in benchmark:
            yield lesson(problem, rng)


def encoded(each: Lesson, tokenizer: Any, separator: int) -> tuple[list[int], list[int]]:
    """Token ids as the reward server writes them, and the label at each: 1, 0, or -100 where there is none."""
    chat = [{"role": "user", "content": each.question}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    labels = [-100] * len(ids)
    for line, right in zip(each.lines, each.right, strict=True):
        ids += [*tokenizer.encode(line, add_special_tokens=False), separator]
        labels += [-100] * (len(ids) - len(labels) - 1) + [-100 if right is None else int(right)]
    return ids, labels


def train(output: Path, *, seed: int = 0, steps: int = STEPS) -> dict[str, float]:
    """Train the head and the model under it, measure it on held-out workings, and write both.

    Returns:
        Shares of held-out lines: judged rightly, of the right ones, of the wrong ones; and how many lines these are.
    """
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(BASE_MODEL_DIR)
    model = AutoModelForTokenClassification.from_pretrained(BASE_MODEL_DIR, num_labels=2, dtype=torch.float32)
    (separator,) = tokenizer.encode(SEPARATOR, add_special_tokens=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    source = lessons(seed, held_out=False)
    model.train()
    for step in range(steps):
        batch = [encoded(next(source), tokenizer, separator) for _ in range(BATCH)]
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 20) * (1 - step / steps)
        ids_BT, mask_BT, labels_BT = _padded(batch)
        logits_BTC = model(input_ids=ids_BT, attention_mask=mask_BT).logits
        loss = torch.nn.functional.cross_entropy(logits_BTC.flatten(0, 1), labels_BT.flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    figures = measured(model, tokenizer, separator, seed)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    (output / "TRAINING.json").write_text(json.dumps({"seed": seed, "steps": steps, **figures}, indent=1) + "\n")
    return figures


def measured(model: Any, tokenizer: Any, separator: int, seed: int) -> dict[str, float]:
    """How well it judges held-out lines, at a threshold of one half."""
    model.eval()
    source = lessons(seed, held_out=True)
    right, wrong = list[bool](), list[bool]()
    for _ in range(MEASURED // BATCH):
        ids_BT, mask_BT, labels_BT = _padded([encoded(next(source), tokenizer, separator) for _ in range(BATCH)])
        with torch.inference_mode():
            said_BT = model(input_ids=ids_BT, attention_mask=mask_BT).logits.argmax(-1)
        right += (said_BT[labels_BT == 1] == 1).tolist()
        wrong += (said_BT[labels_BT == 0] == 0).tolist()
    judged = right + wrong
    return {
        "accuracy": sum(judged) / len(judged),
        "right_lines_accepted": sum(right) / len(right),
        "wrong_lines_found": sum(wrong) / len(wrong),
        "lines": float(len(judged)),
    }


def _padded(batch: Sequence[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    longest = max(len(ids) for ids, _ in batch)
    missing = [longest - len(ids) for ids, _ in batch]
    ids_BT = torch.tensor([ids + [0] * less for (ids, _), less in zip(batch, missing, strict=True)])
    mask_BT = torch.tensor([[1] * (longest - less) + [0] * less for less in missing])
    labels_BT = torch.tensor([labels + [-100] * less for (_, labels), less in zip(batch, missing, strict=True)])
    return ids_BT, mask_BT, labels_BT


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS, help="of the optimizer")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    for name, value in train(options.output, seed=options.seed, steps=options.steps).items():
        print(f"{name}: {value:.4g}")


if __name__ == "__main__":
    main()
