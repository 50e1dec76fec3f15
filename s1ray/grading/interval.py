"""How far a share of right answers may be from the true one."""

from __future__ import annotations

import math
from statistics import NormalDist

LEVEL = 0.95
"""Of every interval."""
Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
"""Half the width of that interval, in standard deviations."""


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Wilson's score interval of a proportion; unlike the normal one it stays inside [0, 1] and is sound at 0 and n.

    Raises:
        ValueError: n is not positive, or successes is outside 0..n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}: need 0 <= successes <= n and n >= 1")
    share, spread = successes / n, Z * Z / n
    centre = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
