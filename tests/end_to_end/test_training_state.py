"""A training engine resumes from its checkpoint: exactly on as many workers, within rounding on another number.

After the number of workers has changed, fp32 weights agree within 1e-5 (absolute), where the steps since moved them by
over 1e-2. In bf16 gradients round differently when they are summed in another order, and AdamW turns even a gradient
that is almost only rounding into a step: there all weights together agree within a tenth of how far they have moved.
The mistakes that this must detect are larger: moments that are not loaded, a step counted twice, the weight decay (0.5
here) of other parameters. A skipped step leaves no trace.

The quick cases cover what is written in another way: whole and partitioned weights, fp32 and bf16, LoRA's frozen ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from s1ray.training.planning.architecture import read_architecture
from s1ray.training.planning.disk import checkpoint_bytes
from tests.support import state_cases as cases
from tests.support.random_qwen import make_random_model
from tests.support.training_cases import Weights, config_of, in_workers

QUICK = ("fp32, zero 3", "bf16, zero 2, LoRA")
SLOW = tuple(case for case in cases.CASES if case not in QUICK)

Round = list[dict[str, dict[str, Weights]]]
"""What each worker had in the end, by case."""


@dataclass(frozen=True)
class Rounds:
    """Groups of workers, one after the other, on the same saved states."""

    names: tuple[str, ...]
    model: str
    folder: Path

    def run(self, name: str, world_size: int) -> Round:
        store = self.folder / f"store_{name}"
        return in_workers(cases.run_round, world_size, store, name, self.names, self.model, str(self.folder))


pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module", params=[QUICK, pytest.param(SLOW, marks=pytest.mark.slow)], ids=["quick", "slow"])
def rounds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rounds:
    model = str(make_random_model(tmp_path_factory.mktemp("model"), hidden_size=64))
    return Rounds(request.param, model, tmp_path_factory.mktemp("rounds"))


@pytest.fixture(scope="module")
def two(rounds: Rounds) -> Round:
    """Two workers, which save their states."""
    return rounds.run("two", 2)


def test_the_same_workers_resume_to_exactly_the_same_weights(two: Round) -> None:
    for case, first in two[0].items():
        second = two[1][case]
        for name, expected in first["undisturbed"].items():
            for done in (first["resumed"], first["rewound"], second["undisturbed"], second["resumed"]):
                np.testing.assert_array_equal(done[name], expected, err_msg=f"{case}: {name}")


def test_the_files_are_as_large_as_the_plan_says(rounds: Rounds, two: Round) -> None:
    for case in two[0]:
        config = config_of(rounds.model, num_workers=2, export_dtype="bfloat16", **cases.CASES[case])
        architecture = read_architecture(config)
        assert architecture is not None
        files = (rounds.folder / case / "saved_by_two").rglob("*.pt")
        # Besides tensors there are names and records; two bytes a weight would be 134,000.
        assert 0 <= sum(file.stat().st_size for file in files) - checkpoint_bytes(architecture, config) < 60_000, case


@pytest.mark.slow
def test_fewer_and_more_workers_resume_to_the_same_weights(rounds: Rounds, two: Round) -> None:
    cases.convert_all(rounds.folder, rounds.names, "saved_by_two")
    one = rounds.run("one", 1)
    cases.convert_all(rounds.folder, rounds.names, "saved_by_one")
    two_again = rounds.run("two again", 2)
    for case, before in two[0].items():
        undisturbed, saved = before["undisturbed"], before["saved"]
        by_one = one[0][case]["by one"]
        by_two, by_the_other = (worker[case]["by two"] for worker in two_again)
        for name, weight in by_two.items():
            np.testing.assert_array_equal(weight, by_the_other[name], err_msg=f"{case}: {name}")
        for found in (by_one, by_two):
            assert found.keys() == undisturbed.keys()
            if case.startswith("fp32"):
                for name, weight in found.items():
                    np.testing.assert_allclose(weight, undisturbed[name], rtol=0, atol=1e-5, err_msg=f"{case}: {name}")
            else:
                assert distance(found, undisturbed) < 0.1 * distance(saved, undisturbed), case


def distance(first: Weights, second: Weights) -> float:
    """Between two models, all weights together."""
    return float(np.sqrt(sum(np.square(weight - second[name]).sum() for name, weight in first.items())))
