"""However the work is spread, the same numbers come out: real DeepSpeed engines in gloo workers, fp32 on the CPU.

Tolerances: losses agree within 1e-5 and gradient norms within 1e-4 (relative), weights after three steps of AdamW
within 3e-5 (absolute; the steps move them by up to 9e-3). AdamW divides by the gradient's size, so where a gradient is
nearly zero, what fp32 rounds away in it can turn into a visible step.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support import training_cases as cases
from tests.support.random_qwen import make_random_model

pytestmark = pytest.mark.end_to_end

Results = dict[str, cases.Result]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Rows of weights as long as a block of four bits, for QLoRA.
    return make_random_model(tmp_path_factory.mktemp("model"), hidden_size=64)


@pytest.fixture(scope="module")
def one_worker(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    before = (model / "model.safetensors").read_bytes()
    (results,) = cases.in_workers(cases.run_cases, 1, tmp_path_factory.mktemp("store") / "one", str(model))
    assert (model / "model.safetensors").read_bytes() == before, "training wrote into the mapped file of the base model"
    return results


@pytest.fixture(scope="module")
def two_workers(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    first, second = cases.in_workers(cases.run_cases, 2, tmp_path_factory.mktemp("store") / "two", str(model))
    for name, result in first.items():
        assert result.losses == second[name].losses
        assert result.norms == second[name].norms
    return first


def assert_same(found: cases.Result, expected: cases.Result, *, loss: float = 1e-5, weight: float = 3e-5) -> None:
    assert found.losses == pytest.approx(expected.losses, rel=loss)
    assert found.norms == pytest.approx(expected.norms, rel=10 * loss)
    assert found.trained == expected.trained
    assert found.weights.keys() == expected.weights.keys()
    for name, values in found.weights.items():
        np.testing.assert_allclose(values, expected.weights[name], rtol=0, atol=weight, err_msg=name)


@pytest.mark.parametrize("case", [name for name in cases.ONE_WORKER if "lora" not in name])
def test_one_worker_does_what_plain_pytorch_does(case: str, one_worker: Results) -> None:
    assert_same(one_worker[case], one_worker[cases.PLAIN])


@pytest.mark.slow
@pytest.mark.parametrize("case", [name for name in cases.TWO_WORKERS if not name.startswith(("lora", "qlora", "bf16"))])
def test_two_workers_do_what_plain_pytorch_does(case: str, two_workers: Results, one_worker: Results) -> None:
    assert_same(two_workers[case], one_worker[cases.PLAIN])


@pytest.mark.slow
@pytest.mark.parametrize("case", [name for name in cases.TWO_WORKERS if "lora" in name])
def test_lora_gives_the_same_on_two_workers(case: str, two_workers: Results, one_worker: Results) -> None:
    assert_same(two_workers[case], one_worker[case.partition(",")[0]])


@pytest.mark.slow
@pytest.mark.parametrize("case", [name for name in cases.TWO_WORKERS if name.startswith("bf16")])
def test_bf16_gives_nearly_the_same(case: str, two_workers: Results, one_worker: Results) -> None:
    assert_same(two_workers[case], one_worker[cases.PLAIN], loss=5e-3, weight=2e-2)
    # bf16 has 8 bits: from about position 256 on, rotary angles of neighbouring positions could not be told apart.
    assert two_workers[case].rotary == "torch.float32"


def test_lora_trains_its_updates_and_nothing_else(one_worker: Results) -> None:
    full, lora = one_worker["one row"], one_worker["lora"]
    # The updates start as nothing.
    assert lora.losses[0] == pytest.approx(full.losses[0], rel=1e-6)
    assert lora.losses[1] < full.losses[0]
    assert all(".lora_" in name for name in lora.trained)
    assert len(lora.trained) == 2 * 2 * len(cases.LORA_LAYERS)
    down = [weight for name, weight in lora.weights.items() if ".lora_B." in name]
    assert all(np.abs(weight).max() > 0 for weight in down)


def test_lora_leaves_the_base_weights_as_they_were(one_worker: Results, model: Path) -> None:
    from safetensors.numpy import load_file

    base = load_file(model / "model.safetensors")
    kept = {
        name.replace(".base_layer", ""): weight
        for name, weight in one_worker["lora"].weights.items()
        if ".lora_" not in name
    }
    assert kept.keys() == base.keys()
    for name, weight in kept.items():
        np.testing.assert_array_equal(weight, base[name])


@pytest.fixture(scope="module")
def larger_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_model(
        tmp_path_factory.mktemp("larger"),
        dtype="bfloat16",
        max_shard_size="20MB",
        vocab_size=1000,
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=8,
        num_key_value_heads=8,
        tie_word_embeddings=False,
    )


@pytest.fixture
def freed_memory_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers whose allocator returns each freed tensor at once; what it keeps for later would count as theirs."""
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1000000")


@pytest.mark.usefixtures("freed_memory_returns")
@pytest.mark.slow
def test_under_zero_3_a_worker_takes_its_part_and_one_parameter_at_a_time(
    model: Path, larger_model: Path, tmp_path: Path
) -> None:
    # In fp32, so that not even the widened weights ever exist whole.
    arguments = (str(model), str(larger_model), 3, "fp32")
    for found in cases.in_workers(cases.measure_loading, 2, tmp_path / "store", *arguments):
        whole = 4 * found["parameters"]
        assert whole > 200e6
        # Half of the weights, and the parameters that are passing through.
        assert 0.4 * whole < found["kept"] < 0.75 * whole, found
        assert found["peak"] < 0.75 * whole, found


@pytest.mark.usefixtures("freed_memory_returns")
@pytest.mark.slow
def test_weights_in_their_own_precision_are_not_copied_at_all(model: Path, larger_model: Path, tmp_path: Path) -> None:
    arguments = (str(model), str(larger_model), 2, "bf16")
    for found in cases.in_workers(cases.measure_loading, 2, tmp_path / "store", *arguments):
        assert found["peak"] < 0.1 * 2 * found["parameters"], found
