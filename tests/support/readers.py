"""What one reader makes of an exported folder: token ids of prompts, greedy continuations, and their log probabilities.

    python -m tests.support.readers transformers FOLDER PROMPTS.json OUT.json    # whichever version is on PYTHONPATH
    python -m tests.support.readers vllm FOLDER PROMPTS.json OUT.json

Needs nothing of s1ray, so that it runs beside another version of transformers. In fp32, where greedy choices of two
implementations differ only between almost equal logits; the file has how far the first two were apart.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NEW_TOKENS = 16
TIE = 1e-3
"""Log probabilities closer than this are almost equal."""
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Reading:
    """Of each prompt in turn."""

    version: str
    prompt_ids: list[list[int]]
    output_ids: list[list[int]]
    log_probabilities: list[list[float]]
    """Of the output's tokens."""
    leads: list[list[float]]
    """How much more likely than the second the first token was; empty where the reader does not say."""
    stops: list[int]
    """Ids that end an answer; empty where the reader does not say."""


def read(reader: str, folder: Path, prompts: list[str], work: Path, packages: Path | None = None) -> Reading:
    """Read a folder in a process of its own.

    Args:
        reader: "transformers" or "vllm".
        work: a folder for the files in between.
        packages: a folder of packages that come before the installed ones.
    """
    work.mkdir(parents=True, exist_ok=True)
    (work / "prompts.json").write_text(json.dumps(prompts), encoding="utf-8")
    path = os.pathsep.join(str(part) for part in (packages, ROOT) if part is not None)
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    arguments = [
        sys.executable,
        "-m",
        "tests.support.readers",
        reader,
        folder,
        work / "prompts.json",
        work / "out.json",
    ]
    done = subprocess.run(
        list(map(str, arguments)), cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=500
    )
    if done.returncode:
        raise AssertionError(f"{reader} cannot read {folder}:\n{done.stderr[-3000:]}")
    return Reading(**json.loads((work / "out.json").read_text(encoding="utf-8")))


def differences(ours: Reading, theirs: Reading) -> list[str]:
    """What is not the same, ties apart."""
    found = []
    if ours.prompt_ids != theirs.prompt_ids:
        found.append("prompts have other token ids")
    if ours.stops and theirs.stops and sorted(ours.stops) != sorted(theirs.stops):
        found.append(f"stop tokens {ours.stops} and {theirs.stops}")
    for number, (a, b) in enumerate(zip(ours.output_ids, theirs.output_ids, strict=True)):
        fork = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
        if fork is None and len(a) != len(b):
            found.append(f"prompt {number}: {len(a)} and {len(b)} tokens")
        if fork is not None and ours.leads[number][fork] > TIE:
            found.append(f"prompt {number}, token {fork}: {a[fork]} and {b[fork]}")
        same = zip(ours.log_probabilities[number][:fork], theirs.log_probabilities[number][:fork], strict=fork is None)
        if (gap := max((abs(x - y) for x, y in same), default=0.0)) > TIE:
            found.append(f"prompt {number}: log probabilities differ by {gap:.4f}")
    return found


def _with_transformers(folder: str, prompts: list[str]) -> Reading:
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    # The argument's older name, which all versions know.
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32)
    stops = model.generation_config.eos_token_id
    stops = [stops] if isinstance(stops, int) else list(stops)
    ids = _ids(tokenizer, prompts)
    outputs, chosen, leads = [], [], []
    for prompt in ids:
        with torch.no_grad():
            found = model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
        best = torch.stack([logits[0].float().log_softmax(-1) for logits in found.logits]).topk(2, dim=-1)
        outputs.append(found.sequences[0, len(prompt) :].tolist())
        chosen.append(best.values[:, 0].tolist())
        leads.append((best.values[:, 0] - best.values[:, 1]).tolist())
    return Reading(transformers.__version__, ids, outputs, chosen, leads, stops)


def _with_vllm(folder: str, prompts: list[str]) -> Reading:
    import vllm

    engine = vllm.LLM(folder, dtype="float32", max_model_len=512, enforce_eager=True, max_num_seqs=16)
    ids = _ids(engine.get_tokenizer(), prompts)
    settings = vllm.SamplingParams(temperature=0.0, max_tokens=NEW_TOKENS, logprobs=0)
    found = engine.generate([{"prompt_token_ids": prompt} for prompt in ids], settings, use_tqdm=False)
    outputs = [list(one.outputs[0].token_ids) for one in found]
    chosen = [
        [step[token].logprob for step, token in zip(one.outputs[0].logprobs, output, strict=True)]
        for one, output in zip(found, outputs, strict=True)
    ]
    return Reading(vllm.__version__, ids, outputs, chosen, leads=[], stops=[])


def _ids(tokenizer: PreTrainedTokenizerBase, prompts: list[str]) -> list[list[int]]:
    texts = [
        tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True)
        for text in prompts
    ]
    return [list(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def main() -> None:
    """The command line."""
    reader, folder, prompts, out = sys.argv[1:]
    texts = json.loads(Path(prompts).read_text(encoding="utf-8"))
    reading = {"transformers": _with_transformers, "vllm": _with_vllm}[reader](folder, texts)
    Path(out).write_text(json.dumps(asdict(reading)), encoding="utf-8")


if __name__ == "__main__":
    main()
