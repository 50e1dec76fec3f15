"""What all tests share: one thread for each process, because the models are tiny and several processes run at once; and
the order of the files.
"""

import os

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Without it each first look for a name that is nowhere waits for the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Machines are shared: how long an example takes says nothing.
settings.register_profile("s1ray", deadline=None)
settings.load_profile("s1ray")

SERVE_FIXTURES = {"served", "narrow"}
"""Applications that stay up for a file or the session."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Unit tests first; Serve last, whose idle processes take a third of a core from what runs beside them."""
    serving = {item.path for item in items if SERVE_FIXTURES & set(getattr(item, "fixturenames", ()))}
    items.sort(key=lambda item: (item.get_closest_marker("end_to_end") is not None, item.path in serving))
