from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.training.data.batching import BY_TOKENS, RowCost, busy_share, global_batch, lay_out, padding
from s1ray.training.data.schedule import steps_per_epoch

LENGTHS = st.lists(st.integers(2, 100), min_size=1, max_size=60)


def padded_cost(batch: tuple[int, ...], lengths: list[int], packing: bool) -> int:
    return sum(lengths[i] for i in batch) if packing else len(batch) * max((lengths[i] for i in batch), default=0)


@given(lengths=LENGTHS, num_workers=st.integers(1, 8), limit=st.integers(100, 400), packing=st.booleans())
def test_every_example_is_laid_out_once_within_the_limit_and_workers_keep_step(
    lengths: list[int], num_workers: int, limit: int, packing: bool
) -> None:
    indices = list(range(len(lengths)))
    layout = lay_out(lengths, indices, num_workers=num_workers, micro_batch_tokens=limit, packing=packing)
    assert len(layout) == num_workers
    assert len({len(worker) for worker in layout}) == 1
    batches = [batch for worker in layout for batch in worker]
    assert sorted(index for batch in batches for index in batch) == indices
    assert all(padded_cost(batch, lengths, packing) <= limit for batch in batches)
    assert 0 <= padding(layout, lengths, packing) < 1


@given(lengths=LENGTHS, num_workers=st.integers(1, 4), order=st.randoms(use_true_random=False))
def test_the_layout_depends_on_the_examples_not_on_their_order(
    lengths: list[int], num_workers: int, order: random.Random
) -> None:
    indices = list(range(len(lengths)))
    shuffled = list(indices)
    order.shuffle(shuffled)
    for packing in (True, False):
        layouts = [
            lay_out(lengths, rows, num_workers=num_workers, micro_batch_tokens=200, packing=packing)
            for rows in (indices, shuffled)
        ]
        assert layouts[0] == layouts[1]


@given(lengths=LENGTHS, packing=st.booleans())
def test_no_fewer_micro_batches_would_do_for_one_worker_and_one_row(lengths: list[int], packing: bool) -> None:
    total = sum(lengths) if packing else len(lengths) * max(lengths)
    layout = lay_out(lengths, range(len(lengths)), num_workers=1, micro_batch_tokens=max(total, 100), packing=packing)
    assert len(layout[0]) == 1


def test_packing_balances_the_workers() -> None:
    lengths = [400, 300, 200, 200, 100, 100, 60, 40]
    layout = lay_out(lengths, range(8), num_workers=2, micro_batch_tokens=1000, packing=True)
    assert [sum(lengths[i] for i in worker[0]) for worker in layout] == [700, 700]


def test_attention_counts_in_the_balance() -> None:
    lengths = [100, 50, 50, 50, 50]
    by_tokens = lay_out(lengths, range(5), num_workers=2, micro_batch_tokens=1000, packing=True)
    assert [sum(lengths[i] for i in worker[0]) for worker in by_tokens] == [150, 150]
    squares = RowCost(per_token=0, attention=1)
    by_squares = lay_out(lengths, range(5), num_workers=2, micro_batch_tokens=1000, packing=True, cost=squares)
    assert [sum(lengths[i] ** 2 for i in worker[0]) for worker in by_squares] == [10000, 10000]
    assert busy_share([by_squares], lengths, True, squares) == 1
    assert busy_share([by_tokens], lengths, True, squares) == 20000 / (2 * 12500)


@given(lengths=LENGTHS, num_workers=st.integers(1, 8), packing=st.booleans(), attention=st.integers(0, 10))
def test_the_busy_share_is_that_of_workers_that_wait_after_each_micro_batch(
    lengths: list[int], num_workers: int, packing: bool, attention: int
) -> None:
    cost = RowCost(7, attention)
    layout = lay_out(
        lengths, range(len(lengths)), num_workers=num_workers, micro_batch_tokens=150, packing=packing, cost=cost
    )
    clock = busy = 0
    for number in range(len(layout[0])):
        works = [
            sum(cost(lengths[i]) for i in worker[number])
            if packing
            else len(worker[number]) * max((cost(lengths[i]) for i in worker[number]), default=0)
            for worker in layout
        ]
        clock += max(works)
        busy += sum(works)
    assert busy_share([layout], lengths, packing, cost) == busy / (clock * num_workers)


def test_no_worker_has_the_largest_micro_batch_of_every_round() -> None:
    lengths = [100, 90, 80, 70]
    layout = lay_out(lengths, range(4), num_workers=2, micro_batch_tokens=100, packing=True, cost=BY_TOKENS)
    assert layout == [[(0,), (3,)], [(1,), (2,)]]


def test_padding_puts_rows_of_like_length_together() -> None:
    lengths = [10, 100, 10, 100]
    layout = lay_out(lengths, range(4), num_workers=2, micro_batch_tokens=200, packing=False)
    assert layout == [[(1, 3)], [(0, 2)]]
    assert padding(layout, lengths, packing=False) == 0


def test_padding_fraction_counts_what_was_computed_in_vain() -> None:
    layout = lay_out([30, 10], [0, 1], num_workers=1, micro_batch_tokens=60, packing=False)
    assert padding(layout, [30, 10], packing=False) == pytest.approx(20 / 60)


def test_workers_without_an_example_get_an_empty_micro_batch() -> None:
    layout = lay_out([5, 5], [0, 1], num_workers=4, micro_batch_tokens=10, packing=True)
    assert sorted(worker[0] for worker in layout) == [(), (), (0,), (1,)]


def test_an_example_longer_than_a_micro_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="example 1 has 11 tokens"):
        lay_out([5, 11], [0, 1], num_workers=1, micro_batch_tokens=10, packing=True)


@given(num_examples=st.integers(1, 200), batch_size=st.integers(1, 32), seed=st.integers(0, 5))
def test_each_epoch_sees_every_example_once_in_another_order(num_examples: int, batch_size: int, seed: int) -> None:
    per_epoch = steps_per_epoch(num_examples, batch_size)
    epochs = [
        [i for step in range(per_epoch) for i in global_batch(e * per_epoch + step, num_examples, batch_size, seed)]
        for e in range(2)
    ]
    assert all(sorted(epoch) == list(range(num_examples)) for epoch in epochs)
    if num_examples > 20:
        assert epochs[0] != epochs[1]


def test_a_step_has_the_same_examples_whatever_the_number_of_workers() -> None:
    lengths = [7 + i % 50 for i in range(100)]
    for step in range(7):
        batch = global_batch(step, 100, 16, seed=3)
        for num_workers in (1, 2, 4):
            layout = lay_out(lengths, batch, num_workers=num_workers, micro_batch_tokens=128, packing=True)
            assert sorted(i for worker in layout for micro in worker for i in micro) == sorted(batch)


def test_the_order_is_pinned_so_that_a_resumed_run_sees_what_the_first_would_have() -> None:
    assert global_batch(0, 10, 4, seed=0) == [4, 6, 2, 7]
