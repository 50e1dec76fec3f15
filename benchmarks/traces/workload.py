"""What every arm generates: the questions, how they are sampled, and the engine."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from s1ray.generation.engine import engine_kwargs
from s1ray.miniature.pool import build_benchmark
from s1ray.models import EngineConfig, resolve_model
from s1ray.teachers.base import Ask
from s1ray.teachers.language_models import VLLMTeacher

SEED = 0


@dataclass(frozen=True)
class Workload:
    """One model and one list of questions."""

    name: str
    model: str
    """Folder, Hugging Face id or alias."""
    questions: int
    max_tokens: int
    """Of one response."""
    max_num_seqs: int = 32
    """Requests that the engine decodes at once."""
    rounds: int = 3
    """Turns of each arm."""

    @classmethod
    def read(cls, path: Path) -> Workload:
        """From a file that `write` wrote."""
        return cls(**json.loads(path.read_text()))

    def write(self, path: Path) -> None:
        """For an arm's process."""
        path.write_text(json.dumps(asdict(self)))

    def asks(self, number: int) -> list[Ask]:
        """What is asked in a round: the same questions in all of them, and in every arm; sampled with other seeds."""
        return [Ask(question, number) for question in build_benchmark(self.questions)]

    def engine(self) -> EngineConfig:
        """The engine's config."""
        return EngineConfig(
            model=self.model,
            device="cpu",
            max_model_len=1024,
            max_num_seqs=self.max_num_seqs,
            engine_kwargs={"enable_prefix_caching": False},
        )

    def teacher(self) -> VLLMTeacher:
        """The teacher's config."""
        return VLLMTeacher(kind="vllm", engine=self.engine(), max_tokens=self.max_tokens)

    def plain_kwargs(self) -> dict[str, Any]:
        """The same engine's arguments for `vllm.LLM`, without budget forcing."""
        kwargs = engine_kwargs(self.engine(), "cpu")
        del kwargs["logits_processors"]
        return kwargs


def endless_miniature(folder: Path) -> str:
    """A copy of the packaged miniature that never ends a response itself: its EOS is a token that it does not write.

    Returns:
        The folder.
    """
    shutil.copytree(resolve_model("miniature-base"), folder)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        settings = json.loads((folder / name).read_text())
        if name == "tokenizer_config.json":
            settings["eos_token"] = settings["pad_token"]
        else:
            settings["eos_token_id"] = settings["pad_token_id"]
        (folder / name).write_text(json.dumps(settings))
    return str(folder)
