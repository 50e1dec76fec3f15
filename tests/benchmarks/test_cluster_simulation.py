"""benchmarks.cluster: the batch on many engines against arithmetic, the stages against the paper, and its command."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.cluster.__main__ import HERE, app, as_json
from benchmarks.cluster.costs import Assumed, measured
from benchmarks.cluster.generation import EACH_S, Model, generate
from benchmarks.cluster.stages import serve, simulate, train

ASSUMED = Assumed()
MODEL = Model("toy", 1e9, gpus=2, slots=4)
STEP = MODEL.step_s(ASSUMED)


def test_equal_requests_that_fill_all_slots_take_their_length_times_the_step_of_a_full_batch() -> None:
    batch = generate(np.full(8, 100), MODEL, 4, ASSUMED)
    assert batch.replicas == 2
    assert batch.wall_s == pytest.approx(100 * (STEP + 4 * EACH_S))
    assert batch.busy == pytest.approx(1.0)
    assert batch.half_idle_s == pytest.approx(0.0)
    assert batch.tokens == 800


def test_a_second_wave_waits_for_the_first() -> None:
    once = generate(np.full(8, 100), MODEL, 4, ASSUMED)
    assert generate(np.full(16, 100), MODEL, 4, ASSUMED).wall_s == pytest.approx(2 * once.wall_s)


def test_the_longest_request_bounds_the_batch_whatever_the_number_of_gpus() -> None:
    tokens = np.array([10] * 100 + [5000])
    alone = 5000 * (STEP + EACH_S)
    walls = [generate(tokens, MODEL, gpus, ASSUMED).wall_s for gpus in (2, 20, 2000)]
    assert all(wall >= alone for wall in walls)
    assert walls[-1] == pytest.approx(alone)
    assert generate(tokens, MODEL, 20, ASSUMED).half_idle_s > 0.9 * alone


def test_requests_of_one_batch_slow_each_other_down_while_they_last() -> None:
    two = generate(np.array([100, 200]), MODEL, 2, ASSUMED)
    assert two.wall_s == pytest.approx(100 * (STEP + 2 * EACH_S) + 100 * (STEP + EACH_S))


def test_a_model_without_room_for_one_replica_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="needs 2 GPUs a replica, 1 are there"):
        generate(np.array([1]), MODEL, 1, ASSUMED)


def test_unit_costs_are_those_of_the_results_files() -> None:
    costs = measured()
    assert 1e-4 < costs.curate_worker_s < 1e-3
    assert costs.curate_driver_s < costs.curate_worker_s
    assert costs.http_s == pytest.approx((0.176 + 0.240) / 1000, rel=1.0)
    assert sorted(costs.busy) == [1, 2, 4, 8, 16]
    assert list(costs.busy.values()) == sorted(costs.busy.values(), reverse=True)


def test_training_on_the_papers_gpus_in_the_papers_way_takes_about_the_papers_26_minutes() -> None:
    alone = replace(measured(), busy={16: measured().busy[16]})
    steps = train(16, alone, ASSUMED).parts["optimizer steps"]
    assert steps / 60 == pytest.approx(26, abs=4)


def test_more_gpus_than_a_batch_has_use_for_stay_idle_and_it_says_so() -> None:
    small, large = train(16, measured(), ASSUMED), train(1000, measured(), ASSUMED)
    assert large.gpus == 128
    assert "has no use for the others" in large.note
    assert large.parts["optimizer steps"] < small.parts["optimizer steps"]
    assert large.gpus * large.wall_s > small.gpus * small.wall_s, "faster, and dearer"


def test_a_server_pays_for_its_gpus_whatever_they_cost() -> None:
    cheap = serve(1000, measured(), replace(ASSUMED, gpu_hour=1.0))
    dear = serve(1000, measured(), replace(ASSUMED, gpu_hour=2.0))
    assert dear["USD for a million tokens"] == pytest.approx(2 * cheap["USD for a million tokens"])
    assert cheap["replicas"] == 500


def test_results_json_is_what_the_simulation_says_today() -> None:
    stored = json.loads((HERE / "results.json").read_text(encoding="utf-8"))
    assert stored["gpus"]["16"] == json.loads(json.dumps(as_json(16, measured(), ASSUMED)))


def test_stages_of_a_seed_are_the_same_again() -> None:
    first, again = (simulate(64, measured(), ASSUMED, seed=3) for _ in range(2))
    assert [stage.wall_s for stage in first] == [stage.wall_s for stage in again]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--gpus", "1"], "the 32B models need 2"),
        (["--gpus", "8"], "needs 16 of 80 GB"),
        (["--assume", "gpu_hours=3"], "no such assumption; there are gpu, gpu_hour"),
        (["--assume", "gpu_hour=cheap"], "'cheap' is no float"),
        (["--assume", "gpu_hour=-1"], "must be above zero"),
        (["--assume", "gpu=T4"], "--gpu T4: its speed is not known here; one of"),
    ],
)
def test_a_wrong_option_is_refused_in_one_sentence(arguments: list[str], says: str) -> None:
    ended = CliRunner().invoke(app, ["simulate", *(["--gpus", "16"] if "--gpus" not in arguments else []), *arguments])
    assert ended.exit_code == 2
    assert says in ended.output
    assert ended.output.count("\n") == 1


def test_the_command_prints_stages_and_assumptions() -> None:
    ended = CliRunner().invoke(app, ["simulate", "--gpus", "16", "--assume", "gpu_hour=2.5"])
    assert ended.exit_code == 0, ended.output
    assert "train: s1-32B" in ended.output
    assert "gpu_hour=2.5" in ended.output
    assert "USD for a million tokens" in ended.output
