"""Before anything is asked: configs that are refused, what the plan says, and answers taken over from another run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s1ray.config import ConfigError, validate_config
from s1ray.curation.config import CurationConfig
from s1ray.curation.difficulty.config import ModelDifficulty
from s1ray.curation.difficulty.planning import difficulty_inputs, difficulty_plan
from s1ray.curation.difficulty.takeover import ANSWERS, kept_answers, take_over
from s1ray.errors import S1rayError
from s1ray.runs import OtherRunError, Run
from s1ray.schemas import Question
from s1ray.teachers.asking import ask_all
from s1ray.teachers.base import Ask
from s1ray.teachers.ledger import Ledger
from tests.support.difficulty import ENGINE, VLLM, Speaker, difficulty


def test_bounds_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"min_pass_rate: 0.1 is more than max_pass_rate \(0\)"):
        difficulty(min_pass_rate=0.1)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"models": {"small": {"model": "a/b", "device": "cpu"}}, "thinking": {"max_tokens": 0}},
            r"models\.small: .*small: \{kind: vllm, engine: \{model: a/b, device: cpu\}, temperature: 0\.05, "
            r"top_p: null, thinking: \{max_tokens: 0\}\}",
        ),
        ({"temperature": 0.1, "actors": 2}, "temperature, actors: each model has its own; write it there"),
        ({"shard_rows": 10}, "shard_rows: every answer is kept as it comes; leave it out"),
        ({"models": {"small": {"engine": ENGINE}}}, r"models\.small: needs `kind`: one of .*vllm"),
        ({"models": {"../small": VLLM}}, r"models\.\.\./small"),
        ({"models": {"a": VLLM, "A": VLLM}}, "'a' and 'A' are one name but for case"),
        ({"models": {"\u00e9": VLLM, "e\u0301": VLLM}}, "are one name but for case and spelling"),
    ],
)
def test_a_config_that_cannot_be_says_what_to_write(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        difficulty(**changes)


def test_the_old_form_written_as_it_says_is_the_new_one() -> None:
    import yaml

    old = {"models": {"small": {"model": "a/b", "device": "cpu"}}, "max_tokens": 48, "thinking": {"max_tokens": 0}}
    with pytest.raises(ConfigError) as error:
        difficulty(**old)
    written = str(error.value).partition("write it as ")[2].splitlines()[0]
    (model,) = difficulty(models=yaml.safe_load(f"{{{written}}}")).models.values()
    request = model.model_dump(mode="json")
    assert (request["temperature"], request["max_tokens"], request["engine"]["device"]) == (0.05, 48, "cpu")
    assert request["thinking"]["max_tokens"] == 0


def curation(tmp_path: Path, output: str = "run", **changes: object) -> CurationConfig:
    data = {
        "output": str(tmp_path / output),
        "sources": [{"kind": "miniature", "size": 50}],
        "difficulty": {"kind": "model", "models": {"qwen2.5": VLLM}} | changes,
    }
    return validate_config(CurationConfig, data, "test")


def test_what_cannot_change_the_answers_leaves_the_run_as_it_is(tmp_path: Path) -> None:
    def digest(**model: object) -> str:
        return Run("curate", curation(tmp_path, models={"qwen2.5": VLLM | model})).digest

    assert digest(engine=ENGINE | {"max_num_seqs": 3, "device": "cpu"}, actors=2) == digest()
    assert digest(temperature=0.1) != digest()
    assert digest(engine=ENGINE | {"dtype": "float32"}) != digest()


def test_the_plan_says_what_each_model_is_asked_and_costs(tmp_path: Path) -> None:
    priced = {
        "kind": "openai",
        "base_url": "http://127.0.0.1:1/v1",
        "model": "big",
        "max_tokens": 100,
        "prices": {"prompt": 1, "completion": 10},
        "max_spend": 0.1,
    }
    models = {"small": VLLM | {"max_tokens": 10}, "big": priced}
    config = curation(tmp_path, models=models, samples=4, max_pass_rate=0.7, min_pass_rate=0.1)
    assert difficulty_plan(config.model_copy(update={"cap_per_domain": 7})) == [
        "difficulty: a question that a model gets right in more than 0.7 of its attempts is too easy, and too hard "
        "where none gets it right in 0.1 of them",
        "difficulty: big (big) answers at most 7 rows of each domain, and 50 in all, 4 sample(s) each: at most 20,000 "
        "tokens generated; at most 0.20 USD, and more for prompts and repeated calls; max_spend ends the run at 0.10 "
        "USD",
        "difficulty: small (some/model) answers at most 7 rows of each domain, and 50 in all, 4 sample(s) each: at "
        "most 2,000 tokens generated",
    ]


def test_a_model_that_is_not_there_is_named_by_its_field(tmp_path: Path) -> None:
    config = curation(tmp_path, models={"small": {"kind": "vllm", "engine": {"model": str(tmp_path / "nowhere")}}})
    with pytest.raises(ConfigError, match=r"difficulty\.models\.small\.engine\.model: .*no such folder"):
        difficulty_plan(config)


def test_local_weights_and_tokenizers_are_inputs(tmp_path: Path) -> None:
    config = difficulty(models={"small": {"kind": "vllm", "engine": ENGINE | {"tokenizer": str(tmp_path)}}})
    assert dict(difficulty_inputs(config)) == {"difficulty.small teacher.tokenizer": str(tmp_path)}


def earlier_run(folder: Path) -> Path:
    """A run in whose ledger are answers of two models."""
    config = curation(folder, "earlier", models={"small": VLLM, "big": VLLM | {"temperature": 1.0}})
    run = Path(config.output)
    speaker = Speaker(kind="x")
    for label, answers in (("small", 2), ("big", 3)):
        ask_all(speaker.start(0, run), speaker, some_asks(answers), run / ANSWERS / label)
    manifest = {"stage": "curate", "config": config.model_dump(mode="json"), "digest": "0"}
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


def some_asks(count: int) -> list[Ask]:
    return [Ask(Question(id=f"q{number}", question="Say 12"), 0) for number in range(count)]


def test_answers_of_the_same_models_are_taken_over_whatever_they_are_called(tmp_path: Path) -> None:
    run = earlier_run(tmp_path)
    models = {"seven": VLLM, "hot": VLLM | {"temperature": 0.9}}
    config = curation(tmp_path, models=models, answers_from=str(run))
    assert isinstance(config.difficulty, ModelDifficulty)
    assert difficulty_plan(config)[-2:] == [
        f"difficulty: hot: {run} has another difficulty.models.small.temperature (0.6, here 0.9); everything is asked "
        "for",
        f"difficulty: seven: 2 answers are taken over from {run}, and not asked for; they stay in its bill",
    ]
    for _ in range(2):
        take_over(config.difficulty, Path(config.output), config.seed)
        ledger = Ledger(Path(config.output) / ANSWERS / "seven")
        ledger.read()
        assert sorted(ledger.answers) == ["q0-0", "q1-0"]
        assert ledger.tally(closed=True).sent == 0
    assert not (Path(config.output) / ANSWERS / "hot").exists()
    runs = (curation(tmp_path, "new", models=models, answers_from=there) for there in (None, str(run)))
    assert len({Run("curate", each).digest for each in runs}) == 1


@pytest.mark.parametrize(
    ("output", "changes", "problem"),
    [
        (
            "run",
            {"models": {"small": VLLM | {"top_k": 3}}},
            r"has another difficulty\.models\.small\.top_k \(None, here 3\)",
        ),
        ("earlier", {}, "is this run's own output"),
        ("run", {"answers_from": "nowhere"}, "nowhere is no run folder of the curate stage that asked"),
    ],
)
def test_answers_of_other_models_are_refused(
    tmp_path: Path, output: str, changes: dict[str, object], problem: str
) -> None:
    run = earlier_run(tmp_path)
    with pytest.raises(S1rayError, match=problem):
        difficulty_plan(curation(tmp_path, output, **({"answers_from": str(run)} | changes)))
    other_seed = curation(tmp_path, answers_from=str(run)).model_copy(update={"seed": 3})
    with pytest.raises(ConfigError, match=r"has another seed \(0, here 3\)"):
        difficulty_plan(other_seed)


def test_answers_that_were_asked_for_are_never_deleted(tmp_path: Path) -> None:
    run = earlier_run(tmp_path)
    kept = kept_answers(run)
    assert kept is not None
    assert (kept.what, kept.field) == ("5 answers", "difficulty.answers_from")
    with pytest.raises(OtherRunError, match=r"difficulty\.answers_from=.*earlier to take over its 5 answers"):
        Run("curate", curation(tmp_path, "earlier", samples=2), kept=kept_answers)
    Run("curate", curation(tmp_path, "earlier", samples=2), kept=kept_answers, force=True)
    aside = tmp_path / "earlier.answers-1"
    assert len(list((aside / ANSWERS / "big").glob("*.jsonl"))) == 1
    assert difficulty_plan(curation(tmp_path, models={"small": VLLM}, answers_from=str(aside)))
    assert kept_answers(tmp_path / "nowhere") is None
