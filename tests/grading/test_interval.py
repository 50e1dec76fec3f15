from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from s1ray.grading.interval import wilson_interval


@settings(deadline=None)
@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share_and_stays_a_probability(case: tuple[int, int]) -> None:
    successes, n = case
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert low < high


def test_wilson_interval_of_a_known_case() -> None:
    # 81 of 263 (Newcombe 1998, table I, method 3).
    low, high = wilson_interval(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
