"""Difficulty: what is asked and graded, what pass rates mean, and what a run that was killed asks again."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from s1ray.config import ConfigError, validate_config
from s1ray.curation.config import CurationConfig
from s1ray.curation.difficulty import measuring, step
from s1ray.curation.difficulty.attempts import Asked, Texts, read_asks
from s1ray.curation.difficulty.config import DifficultyBounds, ModelDifficulty
from s1ray.curation.difficulty.measuring import DIFFICULTY, Measured, measure
from s1ray.curation.difficulty.planning import difficulty_inputs, difficulty_plan
from s1ray.curation.difficulty.rates import FITS, TOO_EASY, TOO_HARD, UNKNOWN, PassRates, judged_labels
from s1ray.curation.difficulty.takeover import ANSWERS, kept_answers, take_over
from s1ray.curation.parts import write_part
from s1ray.curation.tasks import StagedRow
from s1ray.errors import S1rayError
from s1ray.generation.base import OnCall, Usage
from s1ray.grading import Grade
from s1ray.runs import OtherRunError, Run
from s1ray.schemas import Question, to_table
from s1ray.storage import Location
from s1ray.teachers.asking import ask_all
from s1ray.teachers.asks import Asks
from s1ray.teachers.base import Ask, Response, RunningTeacher, Teacher
from s1ray.teachers.ledger import Ledger
from tests.support.curation import filtered

ENGINE = {"model": "some/model"}
VLLM = {"kind": "vllm", "engine": ENGINE}
SPEAKER = f"{__name__}:Speaker"
ASKED: Counter[str] = Counter()
"""Ids of the asks of `Speaker`s, and how often."""


class Killed(BaseException):
    """The process is gone."""


class Speaker(Teacher):
    """Says the question's words one after another, a sample each: "Say 12 13" is answered by 12, then by 13."""

    limit: int = 1_000_000
    """After so many asks of the test the process is killed."""
    tokens: int = Field(default=3)
    finish_reason: str = "stop"

    def start(self, seed: int, folder: Location) -> RunningTeacher:
        return _Speaking(self)


class _Speaking:
    def __init__(self, config: Speaker) -> None:
        self._config = config

    def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
        for ask in asks:
            if ASKED.total() == self._config.limit:
                raise Killed
            ASKED[ask.id] += 1
            words = ask.question.question.split()[1:]
            word = words[ask.sample % len(words)]
            error = "no luck" if word == "never" else None
            usage = Usage(1, 0, self._config.tokens)
            yield ask, Response("", word, self._config.finish_reason, error=error, usage=usage)

    def close(self) -> None:
        pass


def longest(gold: str, text: str, *, kind: str | None = None) -> Grade:
    """Right is whatever is longer than the reference."""
    return Grade("correct" if len(text) > len(gold) else "incorrect", text, f"longest {kind}")


def slow(gold: str, text: str, *, kind: str | None = None) -> Grade:
    """Runs out of time where the answer is "tower"; of other answers only the reference is right."""
    if text == "tower":
        return Grade("undecided", text, "out of time")
    return Grade("correct" if text == gold else "incorrect", text, "slow")


def difficulty(**changes: object) -> ModelDifficulty:
    data = {"kind": "model", "models": {"small": {"kind": SPEAKER}}, "grader": f"{__name__}:slow"}
    return validate_config(ModelDifficulty, data | changes, "test")


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking and grading without Ray."""

    def collect(
        asks: Asks, teacher: Teacher, ledger: Ledger, *, seed: int, max_failed: int, what: str = "traces"
    ) -> None:
        ledger.read()
        ids = asks.ids()
        wanted = [place for place, ask in enumerate(ids) if ask not in ledger.answers]
        if wanted:
            ask_all(teacher.start(seed, ledger.folder), teacher, asks.read(asks.part(wanted)), ledger.folder)
            ledger.read()

    def map_parts(
        what: str, function: Callable[..., Any], parts: Sequence[Path], folder: Path, **common: object
    ) -> list[Path]:
        import pyarrow.parquet as pq

        for part in parts:
            if not (folder / part.name).exists():
                write_part(function(pq.read_table(part), part.name, **common), folder / part.name)
        return [folder / part.name for part in parts]

    monkeypatch.setattr(measuring, "collect", collect)
    monkeypatch.setattr(measuring, "map_parts", map_parts)
    ASKED.clear()


Row = tuple[str, str, str | None]
"""Id, question and answer."""


def asked(folder: Path, rows: Sequence[Row], part_rows: int = 16) -> Asked:
    """Rows in parts of some rows each; every second row of the pool is not asked."""
    whole = [row for each in rows for row in (each, (f"{each[0]}x", "Say nothing", "1"))]
    parts = []
    for begin in range(0, len(whole), part_rows):
        chosen = enumerate(whole[begin : begin + part_rows], begin)
        made = [
            StagedRow(
                id=key,
                question=text,
                answer=answer,
                metadata=json.dumps({"answer_kind": "proof"}) if answer == "long" else "{}",
                order=order,
                source_index=0,
            )
            for order, (key, text, answer) in chosen
        ]
        parts.append(folder / "rows" / f"{begin:05d}.parquet")
        write_part(to_table(made, StagedRow), parts[-1])
    starts = np.array([*range(0, len(whole), part_rows), len(whole)], np.int64)
    return Asked(Texts(parts, starts), np.arange(0, len(whole), 2), [row[0] for row in rows])


def measured(folder: Path, config: ModelDifficulty, *rows: Row) -> tuple[Measured, list[dict[str, Any]]]:
    import pyarrow.parquet as pq

    found = measure(asked(folder, rows), config, folder, folder / "work", seed=0)
    return found, pq.read_table(folder / DIFFICULTY).to_pylist()


def test_attempts_are_graded_where_there_is_something_to_grade(tmp_path: Path) -> None:
    found, attempts = measured(
        tmp_path,
        difficulty(grader="rules", max_failed_share=1.0),
        ("right", "Say 12", "12"),
        ("wrong", "Say 13", "12"),
        ("open", "Say 13", None),
        ("empty", "Say 13", "."),
        ("failed", "Say never", "12"),
    )
    correct = {row["id"]: row["correct"] for row in attempts}
    assert correct == {"right": True, "wrong": False, "open": None, "empty": None, "failed": None}
    assert [row["id"] for row in attempts] == ["right", "wrong", "open", "empty", "failed"], "in the rows' order"
    assert (attempts[0]["answer"], attempts[0]["tokens"], attempts[0]["graded_by"]) == ("12", 3, "exact")
    assert (attempts[0]["verdict"], attempts[0]["finish_reason"]) == ("correct", "stop")
    assert (attempts[4]["error"], attempts[4]["finish_reason"]) == ("no luck", "error")
    figures = found.figures["small"]
    assert figures["bill"]["calls"] == {"sent": 4, "answered": 4, "retried": 0, "failed": 0, "lost": 0}
    del figures["bill"]
    assert figures == {"answered": 4, "right": 1, "wrong": 1, "undecided": 0, "cut": 0, "failed": 1}
    assert found.rates.texts(0, 5) == ['{"small": 1.0}', '{"small": 0.0}', None, None, None]
    assert found.rates.solved_by(0, 5) == [["small"], [], None, None, None]


def test_a_grader_is_chosen_by_name_and_gets_the_kind_of_the_answer(tmp_path: Path) -> None:
    _, (row,) = measured(tmp_path, difficulty(grader=f"{__name__}:longest"), ("q", "Say 10000", "long"))
    assert (row["correct"], row["graded_by"]) == (True, "longest proof")
    with pytest.raises(ConfigError, match=r"grader: no grader is called 'judge'\. There are rules"):
        difficulty(grader="judge")


def test_a_question_is_not_hard_because_grading_ran_out_of_time(tmp_path: Path) -> None:
    config = difficulty(samples=2)
    rows = ("open", "Say 13 tower", "12"), ("solved", "Say tower 12", "12"), ("hard", "Say 13 14", "12")
    found, _ = measured(tmp_path, config, *rows)
    assert found.rates.judged(config).tolist() == [UNKNOWN, TOO_EASY, FITS]
    assert found.rates.solved_by(0, 3) == [None, ["small"], []]
    assert found.rates.texts(0, 3) == ['{"small": 0.0}', '{"small": 1.0}', '{"small": 0.0}']
    assert found.figures["small"]["undecided"] == 2


def test_a_failed_request_is_no_attempt(tmp_path: Path) -> None:
    config = difficulty(samples=2, max_pass_rate=0.5, max_failed_share=1.0)
    found, _ = measured(tmp_path, config, ("q", "Say never 12", "12"), ("none", "Say never", "12"))
    assert found.rates.texts(0, 2) == ['{"small": 1.0}', None]
    assert found.rates.judged(config).tolist() == [TOO_EASY, UNKNOWN]


def test_attempts_that_a_limit_cut_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cut = difficulty(models={"small": {"kind": SPEAKER, "finish_reason": "length"}})
    found, (row,) = measured(tmp_path, cut, ("q", "Say 13", "12"))
    assert (row["finish_reason"], found.figures["small"]["cut"]) == ("length", 1)
    assert "1 of 1 attempts are cut, and count as wrong" in caplog.text


def test_one_text_with_two_answers_is_asked_once_and_graded_twice(tmp_path: Path) -> None:
    rows = ("same", "Say 12 13", "12"), ("other", "Say 1", "2"), ("same", "Say 12 13", "14")
    found, attempts = measured(tmp_path, difficulty(samples=2), *rows)
    assert set(ASKED.values()) == {1}
    assert [row["id"] for row in attempts] == ["same", "same", "other", "other", "same", "same"]
    assert found.rates.texts(0, 3) == ['{"small": 0.5}', '{"small": 0.0}', '{"small": 0.0}']


def test_every_sample_of_every_model_is_asked_once(tmp_path: Path) -> None:
    rows = [(f"{number:02d}", f"Say {number} 12", "12") for number in range(30)]
    config = difficulty(samples=3, models={"b": {"kind": SPEAKER}, "a": {"kind": SPEAKER, "tokens": 5}})
    found, attempts = measured(tmp_path, config, *rows)
    keys = [(row["model"], row["id"], row["sample"]) for row in attempts]
    assert keys == [(model, key, sample) for model in ("a", "b") for key, _, _ in rows for sample in range(3)]
    assert set(ASKED.values()) == {2}
    assert {row["tokens"] for row in attempts if row["model"] == "a"} == {5}
    assert found.rates.texts(0, 1) == ['{"a": 0.333333, "b": 0.333333}']
    assert found.rates.texts(12, 13) == ['{"a": 1.0, "b": 1.0}']


@pytest.mark.parametrize("limit", [0, 17, 60, 119])
def test_a_killed_run_asks_for_what_is_missing_and_ends_with_the_same_bytes(tmp_path: Path, limit: int) -> None:
    rows = [(f"{number:02d}", f"Say {number} 12", "12") for number in range(30)]
    models = {"b": {"kind": SPEAKER}, "a": {"kind": SPEAKER}}
    measured(tmp_path / "undisturbed", difficulty(samples=2, models=models), *rows)
    ASKED.clear()
    dying = {label: model | {"limit": limit} for label, model in models.items()}
    with pytest.raises(Killed):
        measured(tmp_path / "killed", difficulty(samples=2, models=dying), *rows)
    assert ASKED.total() == limit
    assert not (tmp_path / "killed" / DIFFICULTY).exists()
    measured(tmp_path / "killed", difficulty(samples=2, models=models), *rows)
    assert set(ASKED.values()) == {2}, "once by each model"
    first, second = ((tmp_path / name / DIFFICULTY).read_bytes() for name in ("undisturbed", "killed"))
    assert first == second
    measured(tmp_path / "killed", difficulty(samples=2, models=models), *rows)
    assert ASKED.total() == 120
    assert sorted(path.name for path in (tmp_path / "killed" / ANSWERS).iterdir()) == ["a", "b"]


def test_an_answer_that_comes_late_is_graded(tmp_path: Path) -> None:
    config = difficulty(max_failed_share=1.0)
    before, _ = measured(tmp_path, config, ("q", "Say never", "12"), ("r", "Say 12", "12"))
    assert before.rates.texts(0, 2) == [None, '{"small": 1.0}']
    after, attempts = measured(tmp_path, config, ("q", "Say 12", "12"), ("r", "Say 12", "12"))
    assert after.rates.texts(0, 2) == ['{"small": 1.0}', '{"small": 1.0}']
    assert [row["error"] for row in attempts] == [None, None]


@given(order=st.permutations(range(7)), part_rows=st.integers(1, 5))
def test_an_actor_reads_the_texts_of_its_asks(
    order: list[int], part_rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [(f"{order[place]}", f"Say {place}", "12") for place in range(7)]
    questions = asked(tmp_path_factory.mktemp("asked"), rows, part_rows)
    asks = questions.asks(2)
    assert asks.ids() == [f"{number}-{sample}" for number in range(7) for sample in range(2)]
    wanted = [1, 4, 5, 10, 13]
    found = read_asks(asks.part(wanted), texts=questions.texts)
    assert [ask.id for ask in found] == [asks.ids()[place] for place in wanted]
    texts = {key: text for key, text, _ in rows}
    assert all(ask.question.question == texts[ask.question.id] for ask in found)


COUNTS = st.integers(0, 3)


@given(
    models=st.lists(st.tuples(COUNTS, COUNTS, COUNTS), min_size=1, max_size=2),
    ends=st.lists(st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 0.7, 1.0]), min_size=2, max_size=2).map(sorted),
)
def test_a_question_is_judged_where_undecided_attempts_cannot_change_it(
    models: list[tuple[int, int, int]], ends: list[float]
) -> None:
    bounds = DifficultyBounds(min_pass_rate=ends[0], max_pass_rate=ends[1])

    def possible(right: int, wrong: int, undecided: int) -> list[float]:
        total = right + wrong + undecided
        return [(right + lucky) / total for lucky in range(undecided + 1)] if total else [0.0, 1.0]

    largest = [max(each) for each in itertools.product(*(possible(*model) for model in models))]
    codes = {
        TOO_EASY if rate > bounds.max_pass_rate else TOO_HARD if rate < bounds.min_pass_rate else FITS
        for rate in largest
    }
    counts = (np.array([each]) for each in zip(*models, strict=True))
    (code,) = PassRates([f"m{place}" for place in range(len(models))], *counts).judged(bounds).tolist()
    assert code == (codes.pop() if len(codes) == 1 else UNKNOWN)


def test_labels_of_sources_are_judged_like_attempts() -> None:
    solved_by = [None, [], ["a"], ["a"], None, ["a"]]
    rates = [None, None, None, '{"a": 0.5, "b": 0.1}', '{"a": 0.9}', '{"a": 0.2}']
    assert judged_labels(solved_by, rates, DifficultyBounds()).tolist() == [UNKNOWN, FITS, *[TOO_EASY] * 4]
    bounds = DifficultyBounds(min_pass_rate=0.3, max_pass_rate=0.7)
    expected = [UNKNOWN, TOO_HARD, TOO_EASY, FITS, TOO_EASY, TOO_HARD]
    assert judged_labels(solved_by, rates, bounds).tolist() == expected


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
    for label, answers in (("small", 2), ("big", 3)):
        ask_all(_Speaking(Speaker(kind="x")), Speaker(kind="x"), some_asks(answers), run / ANSWERS / label)
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


@pytest.mark.parametrize(
    ("bounds", "left"), [({}, ["1"]), ({"max_pass_rate": 1}, ["1", "2", None, " "])], ids=["s1", "all"]
)
def test_a_question_without_an_answer_is_not_asked(
    bounds: dict[str, object], left: list[str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["1", "2", None, " "]
    pool = filtered(pool_config(tmp_path, answers, **bounds), tmp_path)

    def measured(asked: Asked, *_: object, **__: object) -> Measured:
        assert asked.rows.tolist() == [0, 1]
        right = np.array([[0], [1]])
        return Measured(asked.rows, PassRates(["m"], right, 1 - right, 0 * right), {})

    monkeypatch.setattr(step, "measure", measured)
    config = pool_config(tmp_path, answers, **bounds)
    step.find_difficulty(config, Run("curate", config), tmp_path, pool.parts, pool.features, pool.funnel)
    assert [answers[row] for row in pool.funnel.left.tolist()] == left
    reasons = [(each.reasons if each.stage == "difficulty" else {}) for each in pool.funnel.counts][-1]
    assert reasons == ({} if bounds else {"too easy": 1, "difficulty not measured": 2})


def test_questions_without_any_answer_are_refused_before_one_is_asked(tmp_path: Path) -> None:
    config = pool_config(tmp_path, [None, ""])
    pool = filtered(config, tmp_path)
    with pytest.raises(ConfigError, match=r"none of the 2 questions that are left has a reference answer.*columns\."):
        step.find_difficulty(config, Run("curate", config), tmp_path, pool.parts, pool.features, pool.funnel)


def pool_config(folder: Path, answers: Sequence[str | None], **bounds: object) -> CurationConfig:
    """Of a pool of a question for each answer."""
    names = ("Ann", "Ben", "Cleo", "Dan")
    rows = [
        {"question": f"Who is {name}?", "answer": a, "domain": "d"} for name, a in zip(names, answers, strict=False)
    ]
    (folder / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"kind": "files", "path": str(folder / "pool.jsonl"), "columns": {"answer": "answer", "domain": "domain"}}
    data = {
        "output": str(folder / "run"),
        "sources": [source],
        "quality": {"missing_solution": False},
        "difficulty": {"kind": "model", "models": {"m": VLLM}, **bounds},
    }
    return validate_config(CurationConfig, data, "test")
