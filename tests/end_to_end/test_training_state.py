"""A training engine goes on from what it saved: exactly on as many workers, within rounding on another number.

After the number of workers has changed, fp32 weights agree within 1e-5 (absolute), where the steps since moved them by
over 1e-2. In bf16 gradients round differently when they are summed in another order, and AdamW makes a step of each
that is nearly nothing but rounding: there all weights together agree within a tenth of how far they have moved. What
could go wrong unseen would be larger: moments that are not loaded, a step counted twice, the weight decay (0.5 here) of
other parameters. A step that is left out leaves no trace.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support import state_cases as cases
from tests.support.random_model import make_random_model
from tests.support.training_cases import in_workers

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What each worker of each round had in the end."""
    model = str(make_random_model(tmp_path_factory.mktemp("model")))
    folder = tmp_path_factory.mktemp("rounds")

    def run(name: str, world_size: int) -> list[dict[str, Any]]:
        return in_workers(cases.run_round, world_size, folder / f"store_{name}", name, model, str(folder))

    two = run("two", 2)
    cases.convert_all(folder, "saved_by_two")
    one = run("one", 1)
    cases.convert_all(folder, "saved_by_one")
    return {"two": two, "one": one, "two again": run("two again", 2)}


@pytest.mark.parametrize("case", cases.CASES)
def test_the_same_workers_go_on_to_exactly_the_same_weights(case: str, rounds: dict[str, Any]) -> None:
    first, second = (worker[case] for worker in rounds["two"])
    for name, expected in first["undisturbed"].items():
        for done in (first["resumed"], first["rewound"], second["undisturbed"], second["resumed"]):
            np.testing.assert_array_equal(done[name], expected, err_msg=name)


@pytest.mark.parametrize("case", cases.CASES)
def test_fewer_and_more_workers_go_on_to_the_same_weights(case: str, rounds: dict[str, Any]) -> None:
    undisturbed, saved = (rounds["two"][0][case][done] for done in ("undisturbed", "saved"))
    by_one = rounds["one"][0][case]["by one"]
    by_two, by_the_other = (worker[case]["by two"] for worker in rounds["two again"])
    for name, weight in by_two.items():
        np.testing.assert_array_equal(weight, by_the_other[name], err_msg=name)
    for found in (by_one, by_two):
        assert found.keys() == undisturbed.keys()
        if case.startswith("fp32"):
            for name, weight in found.items():
                np.testing.assert_allclose(weight, undisturbed[name], rtol=0, atol=1e-5, err_msg=name)
        else:
            assert distance(found, undisturbed) < 0.1 * distance(saved, undisturbed)


def distance(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    """Between two models, all weights together."""
    return float(np.sqrt(sum(np.square(weight - second[name]).sum() for name, weight in first.items())))
