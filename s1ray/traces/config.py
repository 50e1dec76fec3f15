"""What a trace run is told: the questions, the teacher, and what becomes of wrong, cut and failed traces."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from s1ray.config import Config, StageConfig
from s1ray.models import EngineConfig, FormatRef, ModelPath
from s1ray.thinking.budget import ThinkingBudget


class ProceduralTeacherConfig(Config):
    """The miniature's teacher: works its questions out by rule, with slips and re-checks."""

    kind: Literal["procedural"]


class SampledTeacherConfig(Config):
    """What teachers that are language models have in common."""

    prompt: str = "{question}"
    """The user's message. s1 asks the question and nothing else."""
    thinking: ThinkingBudget | None = None
    """How long to think. None: the teacher decides."""
    temperature: float = Field(default=0.6, ge=0)
    top_p: float = Field(default=0.95, gt=0, le=1)
    max_tokens: int | None = Field(default=32768, ge=1)
    """Tokens of a response, thinking included. None: what the context allows."""

    @field_validator("prompt")
    @classmethod
    def _has_the_question(cls, prompt: str) -> str:
        if "{question}" not in prompt:
            raise ValueError('must contain "{question}", the place of the question')
        return prompt


class VLLMTeacherConfig(SampledTeacherConfig):
    """A reasoning model on engines of our own."""

    kind: Literal["vllm"]
    engine: EngineConfig
    actors: int = Field(default=1, ge=1)
    """Engines side by side."""


class OpenAITeacherConfig(SampledTeacherConfig):
    """A reasoning model behind an OpenAI-compatible API that gives its reasoning apart (`reasoning_content`)."""

    kind: Literal["openai"]
    base_url: str
    """The address with its `/v1`."""
    model: str
    api_key_variable: str | None = None
    """Environment variable that holds the key. None: no key is sent."""
    thinking_format: FormatRef | None = None
    """Splits the reasoning from the answer where both come within the text: a preset ("deepseek_r1": `<think>`), or a
    mapping with strings of your own."""
    concurrency: int = Field(default=32, ge=1)
    """Requests in flight at once."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Requests that are begun in a minute. None: as many as are answered; after a 429 a request waits as long as the
    provider says, or longer each time."""
    timeout: float = Field(default=3600, gt=0)
    """Seconds of one attempt."""
    attempts: int = Field(default=6, ge=1)
    """Tries of one request."""
    extra_body: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    """Further fields of every request."""


TeacherConfig = Annotated[
    ProceduralTeacherConfig | VLLMTeacherConfig | OpenAITeacherConfig, Field(discriminator="kind")
]


class TracesConfig(StageConfig):
    """The trace stage: questions -> teacher -> grading -> traces."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        {
            "output",
            "questions",
            "max_failed_share",
            "teacher.actors",
            "teacher.concurrency",
            "teacher.requests_per_minute",
            "teacher.timeout",
            "teacher.attempts",
            "teacher.engine.max_num_seqs",
            "teacher.engine.kv_cache_gib",
            "teacher.engine.device",
        }
    )

    questions: str
    """Parquet file or folder of Question rows."""
    teacher: TeacherConfig
    tokenizer: ModelPath
    """The student's tokenizer (a folder or Hub id with a `tokenizer.json`): lengths are counted in its tokens."""
    samples: int = Field(default=1, ge=1)
    """Traces per question."""
    limit: int | None = Field(default=None, ge=1)
    """Only this many questions, the first by id."""
    wrong: Literal["keep", "drop"] = "keep"
    """Traces whose answer is wrong. s1 keeps them: nearly half of its thousand are wrong, and they still teach."""
    truncated: Literal["keep", "drop"] = "drop"
    """Traces that the teacher's token limit cut: they teach to stop in mid-sentence."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Longer traces (thinking and attempt, in the student's tokens) are dropped."""
    shard_rows: int = Field(default=256, ge=1)
    """Traces that are asked for and written at once: what a killed job can lose."""
    max_failed_share: float = Field(default=0.02, ge=0, le=1)
    """Share of failed requests above which the run fails; run it again to ask for them again. Below, they are drops."""
