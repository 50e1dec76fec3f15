"""`s1ray curate` gives the same bytes on one worker and on two, killed or not.

S1RAY_SEED=7 runs it with another pool and other moments.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest

from s1ray.curation.export import export
from s1ray.manifests import read_manifest
from tests.support.curation_runs import CurateRun, results, write_pool

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.timeout(900)]

SEED = int(os.environ.get("S1RAY_SEED", "0"))
ROWS = 4000
PASSES = 4
"""Files that a run writes for each part, at least, while it works: the part, features, decisions, dropped rows."""


class Undisturbed(NamedTuple):
    """A run on two workers that nothing happened to."""

    config: dict[str, Any]
    folder: Path
    digests: dict[str, str]
    parts: int


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("curated")
    config = write_pool(folder / "pool", ROWS, SEED)
    run = CurateRun(config, folder / "run", cpus=2)
    run.wait()
    digests = results(run.output)
    return Undisturbed(config, run.output, digests, sum(name.startswith("dropped/") for name in digests))


def test_the_pool_needs_every_filter(undisturbed: Undisturbed) -> None:
    assert undisturbed.parts > 20
    assert {"questions.parquet", "conflicts.parquet", "quarantine.jsonl"} <= undisturbed.digests.keys()
    assert pq.read_metadata(undisturbed.folder / "questions.parquet").num_rows == 100
    manifest = read_manifest(undisturbed.folder)
    assert manifest is not None
    stages = Counter(reason.partition(":")[0] for reason in manifest["drops"])
    assert stages["deduplication"] >= 4
    assert stages["decontamination"] >= 1


def test_one_worker_that_is_killed_gives_the_same_bytes(undisturbed: Undisturbed, tmp_path: Path) -> None:
    _killed(undisturbed, tmp_path, cpus=1, kills=["worker", "driver"], rng=random.Random(SEED))


@pytest.mark.parametrize("cpus", [1, 2])
def test_killed_five_times_gives_the_same_bytes(undisturbed: Undisturbed, tmp_path: Path, cpus: int) -> None:
    rng = random.Random(f"{SEED} {cpus}")
    kills = ["driver", "driver", "driver", "worker", "worker"]
    rng.shuffle(kills)
    _killed(undisturbed, tmp_path, cpus=cpus, kills=kills, rng=rng)


def test_one_worker_gives_the_same_bytes(undisturbed: Undisturbed, tmp_path: Path) -> None:
    run = CurateRun(undisturbed.config, tmp_path / "run", cpus=1)
    run.wait()
    assert results(run.output) == undisturbed.digests


def _killed(undisturbed: Undisturbed, folder: Path, *, cpus: int, kills: list[str], rng: random.Random) -> None:
    """Run with kills at as many stages of the work as there are kills, and compare."""
    moments = sorted(rng.randrange(1, PASSES * undisturbed.parts) for _ in kills)
    run, done = CurateRun(undisturbed.config, folder / "run", cpus=cpus), list[str]()
    for what, files in zip(kills, moments, strict=True):
        assert run.reaches(files), f"the run ended before it had {files} files; killed before: {done}"
        if what == "worker":
            assert run.kill_worker(rng.choice), f"the run ended before a worker was at work; killed before: {done}"
        else:
            # Its workers may go on for a moment, beside those of the next start.
            run.process.kill()
            run.process.wait()
            run = CurateRun(undisturbed.config, run.output, cpus=cpus)
        done.append(f"{what} at {files} files")
    run.wait()
    assert results(run.output) == undisturbed.digests, done
    exports = {name: folder / f"{name} exported" for name in ("this", "undisturbed")}
    for name, path in (("this", run.output), ("undisturbed", undisturbed.folder)):
        export(path, "datasets", exports[name])
    assert results(exports["this"]) == results(exports["undisturbed"])
