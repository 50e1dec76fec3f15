"""Training rows on disk: small, the same bytes for the same rows, and refused where they are damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.errors import InputError, MissingError
from s1ray.training.data import dataset as module
from s1ray.training.data.dataset import IGNORE, Dataset, writing_rows


def write(path: Path, lengths: list[int], *, largest: int = 152_000) -> list[tuple[str, list[int], list[bool]]]:
    draw = np.random.default_rng(0)
    rows = []
    with writing_rows(path) as writer:
        for number, length in enumerate(lengths):
            ids = draw.integers(0, largest, size=length).astype(np.int32)
            mask = np.arange(length) >= max(1, length // 4)
            writer.add(f"q{number}-0", ids, mask)
            rows.append((f"q{number}-0", ids.tolist(), mask.tolist()))
    return rows


@given(lengths=st.lists(st.integers(2, 40), max_size=30))
def test_rows_come_back_as_they_were_written_over_any_number_of_batches(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "examples.arrow"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BATCH_TOKENS", 64)
        patch.setattr(module, "BATCH_ROWS", 5)
        rows = write(path, lengths)
    dataset = Dataset.read(path)
    assert [(example.id, example.input_ids, example.loss_mask) for example in dataset] == rows
    assert list(dataset.lengths) == lengths
    assert list(dataset.trained) == [sum(mask) for _, _, mask in rows]
    for (_, ids, mask), tokens, labels in zip(rows, dataset.tokens, dataset.labels, strict=True):
        assert tokens.dtype == labels.dtype == np.int64
        assert tokens.tolist() == ids
        assert labels.tolist() == [ids[i + 1] if i + 1 < len(ids) and mask[i + 1] else IGNORE for i in range(len(ids))]


def test_a_token_takes_little_more_than_four_bytes_on_disk(tmp_path: Path) -> None:
    lengths = [500, 3000, 8000] * 100
    write(tmp_path / "rows.arrow", lengths)
    assert 4.1 < (tmp_path / "rows.arrow").stat().st_size / sum(lengths) < 4.2


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write(tmp_path / name, [3, 70, 9, 12] * 20)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_sizes_are_plain_numbers_for_json_and_sums(tmp_path: Path) -> None:
    write(tmp_path / "rows.arrow", [5, 6])
    dataset = Dataset.read(tmp_path / "rows.arrow")
    assert type(dataset.lengths[0]) is int
    assert type(dataset.trained[0]) is int


def test_a_writer_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(AssertionError), writing_rows(tmp_path / "rows.arrow") as writer:
        writer.add("a", np.zeros(2, dtype=np.int32), np.array([True]))
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_of_rows_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such file"):
        Dataset.read(tmp_path / "none.arrow")
    (tmp_path / "text.arrow").write_text("token ids\n")
    with pytest.raises(InputError, match="cannot be read as training rows"):
        Dataset.read(tmp_path / "text.arrow")
    write(tmp_path / "cut.arrow", [100] * 50)
    whole = (tmp_path / "cut.arrow").read_bytes()
    (tmp_path / "cut.arrow").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read as training rows"):
        Dataset.read(tmp_path / "cut.arrow")
    table = pa.table({"id": ["a"], "input_ids": [[1, 2]]})
    with pa.ipc.new_file(str(tmp_path / "other.arrow"), table.schema) as sink:
        sink.write_table(table)
    with pytest.raises(InputError, match="has the columns"):
        Dataset.read(tmp_path / "other.arrow")


def crafted(path: Path, **changes: pa.Array) -> Path:
    columns = {
        "id": pa.array(["a", "b"]),
        "input_ids": pa.array([[1, 2, 3], [4, 5]], pa.list_(pa.int32())),
        "loss_mask": pa.array([[False, True, True], [False, True]]),
        "trained": pa.array([2, 1], pa.int32()),
    } | changes
    batch = pa.RecordBatch.from_arrays(list(columns.values()), schema=module._schema())
    with pa.ipc.new_file(str(path), batch.schema) as sink:
        sink.write_batch(batch)
    return path


@pytest.mark.parametrize("sizes", [[3, 1], [0, 1], [2, -1]])
def test_sizes_that_no_row_has_are_refused_when_the_file_is_opened(tmp_path: Path, sizes: list[int]) -> None:
    path = crafted(tmp_path / "rows.arrow", trained=pa.array(sizes, pa.int32()))
    with pytest.raises(InputError, match="which no training row has"):
        Dataset.read(path)


def test_offsets_beyond_the_file_are_refused_and_not_followed(tmp_path: Path) -> None:
    path = crafted(tmp_path / "rows.arrow")
    whole, offsets = path.read_bytes(), np.array([0, 3, 5], dtype=np.int32).tobytes()
    assert offsets in whole
    path.write_bytes(whole.replace(offsets, np.array([0, 3, 1 << 30], dtype=np.int32).tobytes()))
    with pytest.raises(InputError, match="cannot be read as training rows"):
        Dataset.read(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"input_ids": pa.array([[1, 2, -3], [4, 5]], pa.list_(pa.int32()))},
        {"loss_mask": pa.array([[False, True], [False, True]])},
        {"loss_mask": pa.array([[False, True, False], [False, True]])},
    ],
    ids=["negative id", "short mask", "another mask"],
)
def test_a_damaged_row_is_refused_when_it_is_read(tmp_path: Path, changes: dict[str, pa.Array]) -> None:
    dataset = Dataset.read(crafted(tmp_path / "rows.arrow", **changes))
    assert dataset.tokens[1].tolist() == [4, 5]
    with pytest.raises(InputError, match=r"rows\.arrow: row 0 is damaged; delete the file"):
        dataset.tokens[0]
