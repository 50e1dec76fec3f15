from __future__ import annotations

from s1ray.training.config import TrainingConfig
from s1ray.training.planning.busy import busy_lines
from tests.support.training_runs import training_config


def lines(shares: dict[int, float], divides: int = 8, **changes: object) -> list[str]:
    def share(config: TrainingConfig) -> float:
        return shares[config.sequence_parallel]

    return busy_lines(training_config(**changes), share, lambda size: divides % size == 0)


def test_one_worker_waits_for_nobody() -> None:
    assert lines({1: 1.0}) == []


def test_workers_that_wait_are_told_the_smallest_degree_that_is_enough() -> None:
    (line,) = lines({1: 0.65, 2: 0.93, 4: 0.97, 8: 0.99}, num_workers=16)
    assert line == (
        "workers busy 65 % of the time, else waiting for the longest rows; sequence_parallel: 2 would make it 93 %"
    )


def test_where_none_is_enough_the_best_is_named_if_it_is_better_at_all() -> None:
    line, _ = lines({1: 0.2, 2: 0.4, 4: 0.75}, divides=4, num_workers=32)
    assert line.endswith("sequence_parallel: 4 would make it 75 %")
    line, _ = lines({1: 0.2, 2: 0.21}, divides=2, num_workers=32)
    assert line.endswith("the longest rows")


def test_what_the_heads_or_the_workers_do_not_allow_is_not_proposed() -> None:
    (line,) = lines({1: 0.5}, divides=1, num_workers=16)
    assert "sequence_parallel" not in line
    (line,) = lines({1: 0.5}, num_workers=3)
    assert "sequence_parallel" not in line


def test_workers_that_never_get_a_row_are_told() -> None:
    _, warning = lines({1: 0.95}, num_workers=32)
    assert "32 workers for global_batch 16: 16 of them never get a row" in warning
    _, warning = lines({2: 0.95}, num_workers=40, sequence_parallel=2)
    assert "20 groups of 2 workers for global_batch 16: 4 of them" in warning
    assert len(lines({2: 0.95}, num_workers=32, sequence_parallel=2)) == 1
