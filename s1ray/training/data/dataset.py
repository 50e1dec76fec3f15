"""The training rows on disk and in memory: token ids as int32, the loss mask as bits, four bytes and a bit a token.

    with writing_rows("examples.arrow") as writer:
        writer.add("abc-0", ids, mask)
    dataset = Dataset.read("examples.arrow")
    dataset.tokens[0]

The file is an Arrow IPC file. Reading maps it into memory: a worker touches the pages of the rows that it trains on,
all workers of a node share them in the page cache, and the system drops them when memory is short. Only a few bytes for
each row are kept in a process.
"""

from __future__ import annotations

import contextlib
import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

from s1ray.errors import InputError, MissingError
from s1ray.schemas import Example
from s1ray.storage import AnyPath, StoreError, local_copy, writing

if TYPE_CHECKING:
    import pyarrow as pa

Integers = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

IGNORE = -100
"""Label of a position that is not trained."""
BATCH_TOKENS = 1 << 20
"""Tokens of a record batch: what a writer holds in memory at most, but for one row."""
BATCH_ROWS = 4096
AGAIN = "delete the file and run the same command again, which makes the rows anew"
COLUMNS = ("id", "input_ids", "loss_mask", "trained")

T = TypeVar("T")


class Rows(Sequence[T], Generic[T]):
    """A sequence whose elements are made when they are asked for."""

    def __init__(self, length: int, get: Callable[[int], T]):
        self._length = length
        self._get = get

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._get(i) for i in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(f"row {index} of {self._length}")
        return self._get(index % self._length)


class Dataset(Sequence[Example]):
    """The training rows; as a sequence, `Example`s.

    Attributes:
        ids: the examples' keys.
        tokens: token ids, one int64 array per example.
        labels: int64 arrays of the same lengths: the next token's id where it is trained, else `IGNORE`.
        lengths: tokens of each example.
        trained: trained tokens of each example.
    """

    def __init__(self, ids: Sequence[str], tokens: Sequence[npt.ArrayLike], masks: Sequence[npt.ArrayLike]):
        """Rows in memory."""
        writer = _Batch()
        for key, row, mask in zip(ids, tokens, masks, strict=True):
            writer.add(key, np.asarray(row, dtype=np.int32), np.asarray(mask, dtype=bool))
        self._open([writer.take()] if len(ids) else [], "rows in memory")

    def _open(self, batches: Sequence[pa.RecordBatch], name: str) -> None:
        self._batches = batches
        self._name = name
        self._starts = [0]
        self.lengths = array("i")
        self.trained = array("i")
        for batch in batches:
            self._starts.append(self._starts[-1] + batch.num_rows)
            self.lengths.frombytes(np.diff(_offsets(batch)).astype(np.int32).tobytes())
            self.trained.frombytes(batch.column("trained").to_numpy().tobytes())
        size = self._starts[-1]
        self.ids = Rows(size, lambda index: str(self._value(index, "id").as_py()))
        self.tokens = Rows(size, lambda index: self._row(index)[0].astype(np.int64))
        self.labels = Rows(size, lambda index: _labels(*self._row(index)))

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        return Rows(len(self), self._example)[index]

    @classmethod
    def read(cls, path: AnyPath) -> Dataset:
        """Map a file that `writing_rows` wrote into memory.

        Raises:
            MissingError: it is not there.
            InputError: it is no such file, or a damaged one.
            StoreError: the store does not give it.
        """
        import pyarrow as pa

        try:
            reader = pa.ipc.open_file(pa.memory_map(str(local_copy(path))))
            if reader.schema != _schema():
                raise InputError(f"{path}: has the columns {reader.schema.names}, but training rows are {COLUMNS}")
            batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
            for batch in batches:
                # Without this, offsets that point outside of the file would be followed. Reads no token.
                batch.validate(full=True)
        except FileNotFoundError:
            raise MissingError(f"{path}: no such file; the run's rows are gone") from None
        except StoreError:
            raise
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(
                f"{path}: cannot be read as training rows: {error}; start the run anew (--force)"
            ) from None
        dataset = cls.__new__(cls)
        dataset._open(batches, str(path))
        dataset._check_sizes()
        return dataset

    def select(self, rows: Sequence[int]) -> Iterator[tuple[str, Ids, Mask]]:
        """Key, token ids and mask of some of the rows."""
        return ((self.ids[row], *self._row(row)) for row in rows)

    def _check_sizes(self) -> None:
        lengths, trained = np.asarray(self.lengths), np.asarray(self.trained)
        wrong = (lengths < 2) | (trained < 1) | (trained >= lengths)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"{self._name}: row {row} has {lengths[row]} tokens, {trained[row]} of them trained, which no training "
                f"row has; {AGAIN}"
            )

    def _value(self, index: int, column: str) -> Any:
        batch = bisect_right(self._starts, index) - 1
        return self._batches[batch].column(column)[index - self._starts[batch]]

    def _row(self, index: int) -> tuple[Ids, Mask]:
        ids = self._value(index, "input_ids").values.to_numpy()
        mask = self._value(index, "loss_mask").values.to_numpy(zero_copy_only=False)
        if len(mask) != len(ids) or np.count_nonzero(mask[1:]) != self.trained[index] or ids.min(initial=0) < 0:
            raise InputError(f"{self._name}: row {index} is damaged; {AGAIN}")
        return ids, mask

    def _example(self, index: int) -> Example:
        ids, mask = self._row(index)
        return Example(id=self.ids[index], input_ids=ids.tolist(), loss_mask=mask.tolist())


class RowWriter:
    """Writes training rows, a record batch at a time.

    Attributes:
        largest_id: the largest token id so far; -1 before any.
    """

    def __init__(self, sink: pa.ipc.RecordBatchFileWriter):
        self._sink = sink
        self._batch = _Batch()
        self.largest_id = -1

    def add(self, key: str, ids: Ids, mask: Mask) -> None:
        """Add a row: its token ids, and which of them are trained."""
        self._batch.add(key, ids, mask)
        self.largest_id = max(self.largest_id, int(ids.max()))
        if self._batch.tokens >= BATCH_TOKENS or len(self._batch.ids) >= BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what is still in memory."""
        if self._batch.ids:
            self._sink.write_batch(self._batch.take())


@contextlib.contextmanager
def writing_rows(path: str | os.PathLike[str]) -> Iterator[RowWriter]:
    """A file of training rows, there whole when the block ends without an error, or not at all."""
    import pyarrow as pa

    with writing(path) as temporary, pa.ipc.new_file(str(temporary), _schema()) as sink:
        writer = RowWriter(sink)
        yield writer
        writer.flush()


class _Batch:
    """Rows that become a record batch."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.ids: list[str] = []
        self.tokens = 0
        self._tokens: list[Ids] = []
        self._masks: list[Mask] = []

    def add(self, key: str, ids: Ids, mask: Mask) -> None:
        assert len(ids) == len(mask), f"{key}: {len(ids)} ids, {len(mask)} of mask"
        self.ids.append(key)
        self._tokens.append(ids)
        self._masks.append(mask)
        self.tokens += len(ids)

    def take(self) -> pa.RecordBatch:
        """The rows, which are no longer held here."""
        import pyarrow as pa

        offsets = pa.array(np.cumsum([0, *map(len, self._tokens)], dtype=np.int32))
        columns = [
            pa.array(self.ids, pa.string()),
            pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(self._tokens), pa.int32())),
            pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(self._masks), pa.bool_())),
            # A first token is never a target.
            pa.array([int(np.count_nonzero(mask[1:])) for mask in self._masks], pa.int32()),
        ]
        self._clear()
        return pa.RecordBatch.from_arrays(columns, schema=_schema())


def _schema() -> pa.Schema:
    import pyarrow as pa

    types = (pa.string(), pa.list_(pa.int32()), pa.list_(pa.bool_()), pa.int32())
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in zip(COLUMNS, types, strict=True)])


def _offsets(batch: pa.RecordBatch) -> npt.NDArray[np.int32]:
    offsets: npt.NDArray[np.int32] = batch.column("input_ids").offsets.to_numpy()
    return offsets


def _labels(tokens: Ids, mask: Mask) -> Integers:
    # Shifted within the example, so that in a packed row no token is ever trained to begin the next example.
    labels = np.full(len(tokens), IGNORE, dtype=np.int64)
    labels[:-1] = np.where(mask[1:], tokens[1:], IGNORE)
    return labels
