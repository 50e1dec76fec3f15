"""Every test of an example sees all of them installed, and the repository's root as the working folder."""

import pytest

from tests.support import examples
from tests.support.markdown import ROOT


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    examples.install(monkeypatch)
    monkeypatch.chdir(ROOT)
