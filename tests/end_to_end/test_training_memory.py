"""The memory estimate against the peak of real workers: DeepSpeed, gloo, a model of some thirty million weights."""

from __future__ import annotations

import sys

import pytest

from benchmarks.training.memory import CONFIGURATIONS, estimated
from benchmarks.training.peak import Measured, measure

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc"),
]

TOLERANCE = 0.15


@pytest.mark.parametrize("measured", CONFIGURATIONS[:5], ids=lambda measured: measured.name)
def test_the_estimate_is_within_15_percent_of_the_measured_peak(measured: Measured) -> None:
    peak = measure(measured)
    assert estimated(measured).total == pytest.approx(peak, rel=TOLERANCE)
