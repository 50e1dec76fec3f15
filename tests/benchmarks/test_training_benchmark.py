"""The parts of the training benchmark that are not measurement."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.training import report
from benchmarks.training.arms import FSDP, OURS_PACKED, OURS_PADDED, PLAIN_LOSS, PLAIN_PACKED, PLAIN_PADDED
from benchmarks.training.cross_entropy import LossPeak
from benchmarks.training.libraries import TRAINER_ROWS, TRL_PACKED, TRL_PADDED, trainer_arm
from benchmarks.training.report import Speed
from benchmarks.training.workload import GLOBAL_BATCH, PROMPT, SCALE, draw_lengths, make_rows
from s1ray.training.data.batching import lay_out, padding


def test_rows_have_the_published_shape_of_s1k() -> None:
    traces = (np.array(draw_lengths(20_000)) - PROMPT) * SCALE
    assert traces.mean() == pytest.approx(4700, rel=0.01)
    assert traces.min() >= 600 - SCALE
    assert 8000 < traces.max() <= 8200 + SCALE
    counts, edges = np.histogram(traces, bins=20)
    assert edges[counts.argmax()] == pytest.approx(5300, abs=500)


def test_a_padded_step_of_these_rows_is_a_third_padding_and_a_packed_one_has_none() -> None:
    lengths = draw_lengths(320)
    waste = {}
    for packing in (True, False):
        layouts = [
            lay_out(
                lengths,
                range(start, start + GLOBAL_BATCH),
                num_workers=1,
                micro_batch_tokens=GLOBAL_BATCH * max(lengths),
                packing=packing,
            )
            for start in range(0, 320, GLOBAL_BATCH)
        ]
        waste[packing] = np.mean([padding(layout, lengths, packing) for layout in layouts])
    assert waste[True] == 0
    assert 0.3 < waste[False] < 0.45


def test_masks_leave_out_the_prompt() -> None:
    (tokens,), (mask,) = make_rows([PROMPT + 3], vocabulary=10)
    assert len(tokens) == PROMPT + 3
    assert mask.sum() == 3


@pytest.fixture
def speed() -> Speed:
    seconds = {OURS_PACKED: [2.0, 2.2, 1.0], OURS_PADDED: [3.0, 3.0, 3.0]}
    seconds |= {PLAIN_PACKED: [1.9, 2.2, 1.1], PLAIN_PADDED: [2.4, 2.4, 2.4]}
    others = (FSDP, PLAIN_LOSS, TRL_PACKED, TRL_PADDED, *map(trainer_arm, TRAINER_ROWS))
    seconds |= {arm: [4.0, 4.4, 2.0] for arm in others}
    return Speed(tokens=1000, seconds=seconds)


def test_goals_are_judged_by_ratios_within_rounds(speed: Speed, tmp_path: Path) -> None:
    peaks = [LossPeak(512, 100, 10, 20), LossPeak(1024, 100, 12, 40)]
    found = report.results(speed, peaks, {"rounds": 3})
    goals = found["goals"]
    assert goals[f"{OURS_PACKED} / {PLAIN_PACKED}"] == {"goal": 0.9, "found": 1.0, "reached": True}
    assert goals[f"{OURS_PADDED} / {PLAIN_PADDED}"] == {"goal": 0.9, "found": 0.8, "reached": False}
    assert goals[f"{OURS_PACKED} / {TRL_PACKED}"] == {"goal": 1.0, "found": 2.0, "reached": True}
    assert all(arm["attention"] for arm in found["speed"]["arms"].values())
    assert found["cross_entropy_peaks"][1]["plain_to_chunked"] == 3.33
    assert json.loads(json.dumps(found))["speed"]["tokens"] == 1000
    report.write_plot(tmp_path / "results.png", speed, peaks)
    assert (tmp_path / "results.png").stat().st_size > 10_000
