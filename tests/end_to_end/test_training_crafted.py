"""A run folder runs no code: a crafted file in the place of any of DeepSpeed's is refused, and named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import crafted
from tests.support.random_qwen import make_random_model
from tests.support.training_cases import in_workers

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

WAYS = ("loaded", "converted", "loaded as converted")


@pytest.mark.parametrize(
    "stages",
    [["fp32, zero 0"], ["bf16, zero 1", "fp32, zero 2", "bf16, zero 3"]],
    ids=["without zero", "zero"],
)
def test_a_crafted_file_in_a_checkpoint_is_refused_in_every_zero_stage(stages: list[str], tmp_path: Path) -> None:
    model = str(make_random_model(tmp_path / "model"))
    (found,) = in_workers(crafted.refusals, 1, tmp_path / "store", model, str(tmp_path), stages)
    assert list(found) == [
        f"{stage}, {way}" for stage in stages for way in (WAYS[:1] if stage.endswith("zero 0") else WAYS)
    ]
    for what, lines in found.items():
        for line in lines:
            name = line.split(":")[0]
            assert f"/{name}: refused, as it holds more than tensors" in line, what
            assert line.endswith("to start again"), what
    assert not [file for file in tmp_path.rglob("mark*") if file.is_file()]
