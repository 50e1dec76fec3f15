"""An export that a full disk, a read-only folder or a kill ended: the next start only exports."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from s1ray.manifests import RunError, read_manifest
from s1ray.runs import Run
from s1ray.training import loop, trainer
from s1ray.training.config import TrainingConfig
from s1ray.training.monitoring.metrics import read_metrics
from tests.support.mounts import available, small_disk
from tests.support.training_runs import STEPS, config_of, make_base_model, make_traces, weights

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

needs_root = pytest.mark.skipif(not available(), reason="needs root, to mount a file system")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The base model and the traces."""
    return make_base_model(tmp_path_factory.mktemp("base")), make_traces(
        tmp_path_factory.mktemp("in") / "traces.parquet"
    )


@pytest.fixture(scope="module")
def undisturbed(ray_session: None, inputs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trainer.train(config_of(*inputs, tmp_path_factory.mktemp("runs") / "undisturbed", zero_stage=3))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 8 MiB."""
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk", mebibytes=8):
        yield tmp_path / "disk"


def train(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch, *, in_export: Callable[[Path], None] | None = None
) -> Run:
    """Run the stage; `in_export` is called by the first worker in the middle of the export, with the run folder."""

    def disturbed(settings: Mapping[str, object]) -> loop.Outcome:
        from s1ray.training.model.export import ShardWriter

        close = ShardWriter.close

        def disturbed_close(self: ShardWriter) -> None:
            assert in_export is not None
            in_export(Path(str(settings["output"])))
            close(self)

        setattr(ShardWriter, "close", disturbed_close)  # noqa: B010
        return loop.train_worker(settings)

    def repeats_nothing(settings: Mapping[str, object]) -> loop.Outcome:
        def after_step(finished: int) -> None:
            raise AssertionError(f"step {finished} was repeated")

        return loop.train_worker(settings, after_step=after_step)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train_worker", repeats_nothing if in_export is None else disturbed)
        return trainer.train(config)


def check(run: Run, undisturbed: Run) -> None:
    """The run is complete, has each step once, and the same model."""
    import torch

    manifest = read_manifest(run.path)
    assert manifest is not None
    assert manifest["status"] == "complete"
    lines = read_metrics(run.path / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert run.figures["loss"] == lines[-1]["loss"] == undisturbed.figures["loss"]
    expected = weights(undisturbed)
    found = weights(run)
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    assert not [path for path in run.path.iterdir() if path.name.endswith(".tmp")]


@needs_root
def test_a_disk_that_is_full_at_the_export_costs_no_step(
    undisturbed: Run, inputs: tuple[Path, Path], disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(*inputs, disk / "run", zero_stage=3)

    def fill(output: Path) -> None:
        with (output.parent / "filler").open("wb", buffering=0) as file:
            try:
                while file.write(bytes(1024)):
                    pass
            except OSError:
                pass

    with pytest.raises(
        RunError,
        match=r"run/model: the model cannot be written: .*No space left.*\nall 12 steps are done.*only exports",
    ):
        train(config, monkeypatch, in_export=fill)
    assert not (disk / "run" / "model").exists()
    (disk / "filler").unlink()
    check(train(config, monkeypatch), undisturbed)


@needs_root
def test_a_folder_that_turned_read_only_at_the_export_costs_no_step(
    undisturbed: Run, inputs: tuple[Path, Path], disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(*inputs, disk / "run", zero_stage=3)

    def protect(output: Path) -> None:
        # On top of itself, as what is open for writing (the lock) keeps its own mount from becoming read-only.
        subprocess.run(["mount", "--bind", str(output), str(output)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(output)], check=True)

    with pytest.raises(RunError, match=r"run/model: the model cannot be written: .*Read-only.*\nall 12 steps are done"):
        train(config, monkeypatch, in_export=protect)
    subprocess.run(["umount", "--lazy", config.output], check=True)
    check(train(config, monkeypatch), undisturbed)


def test_a_kill_in_the_middle_of_the_export_costs_no_step(
    undisturbed: Run, inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(*inputs, tmp_path / "run", zero_stage=3)

    def kill(output: Path) -> None:
        import os
        import signal

        assert (output / ".model.tmp").is_dir()
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RunError, match="training failed: worker 0"):
        train(config, monkeypatch, in_export=kill)
    assert (tmp_path / "run" / ".model.tmp").exists()
    check(train(config, monkeypatch), undisturbed)


@needs_root
def test_a_disk_too_small_for_the_run_is_refused_before_training(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    with (
        small_disk(tmp_path / "disk", mebibytes=1),
        pytest.raises(RunError, match=r"output: the run needs \d+ MiB of 1 MiB free in .* for 2 checkpoint"),
    ):
        trainer.train(config_of(*inputs, tmp_path / "disk" / "run"))
