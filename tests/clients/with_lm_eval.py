"""The language model evaluation harness, as a command: a task of four questions against both of its local endpoints.

s1's names for the budget go through `--gen_kwargs`, as s1's own fork of the harness has them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.clients.check import BUDGET, URL, Shown, check

START, END = "<|im_start|>think", "<|im_start|>answer"
TASKS = Path(__file__).parent / "lm_eval_task"
GENERATION = f"max_gen_toks=60,temperature=0,max_tokens_thinking={BUDGET},thinking_n_ignore=1"


def evaluate(model: str, path: str, *options: str) -> Shown:
    arguments = f"model=s1,base_url={URL}{path},tokenizer_backend=None,tokenized_requests=False,num_concurrent=2"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lm_eval", "run", "--model", model, "--model_args", arguments]
        command += ["--tasks", "s1ray_sums", "--include_path", str(TASKS), "--gen_kwargs", GENERATION]
        command += ["--log_samples", "--output_path", folder, *options]
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": f"{folder}/cache", "HF_HOME": folder}
        done = subprocess.run(
            command, env=os.environ | offline, cwd=TASKS, check=False, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr[-600:]
        (results,) = Path(folder).rglob("results_*.json")
        scores = json.loads(results.read_text(encoding="utf-8"))["results"]["s1ray_sums"]
        assert any(name.startswith("exact_match") for name in scores)
        (samples,) = Path(folder).rglob("samples_*.jsonl")
        rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    answers = [row["resps"][0][0] for row in rows]
    assert len(answers) == 4
    note = "keeps the answers only; no usage either"
    if path == "/v1/completions":
        # A completion's text is what the model wrote, delimiters included.
        assert all(answer.startswith(START) and END in answer for answer in answers)
        parts = [answer.removeprefix(START).split(END) for answer in answers]
        assert all(len(part) == 2 for part in parts)
        thinking, answers = [part[0] for part in parts], [part[1] for part in parts]
        note = "keeps texts only, with thinking and delimiters in them"
        return Shown("\n".join(answers), "\n".join(thinking), note=note)
    assert all(answer.strip() for answer in answers)
    assert not any("\n\n" in answer for answer in answers), "a stop string in an answer"
    return Shown("\n".join(answers), None, note=note)


check(
    "lm_eval",
    "local-chat-completions",
    partial(evaluate, "local-chat-completions", "/v1/chat/completions", "--apply_chat_template"),
)
check("lm_eval", "local-completions", partial(evaluate, "local-completions", "/v1/completions"))
