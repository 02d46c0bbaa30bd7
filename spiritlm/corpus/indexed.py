"""Sequences of integers on disk in Megatron's format: `NAME.bin` (the values) and `NAME.idx` (where each sequence is).

`megatron.core.datasets.indexed_dataset.IndexedDataset` reads what is written here, and the other way round. This
reader hands out the memory-mapped arrays themselves, needs no torch, and refuses files that do not fit together.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from array import array
from pathlib import Path
from types import TracebackType

import numpy as np

from spiritlm.errors import InputError
from spiritlm.run.files import atomic_path

_HEADER, _VERSION = b"MMIDIDX\x00\x00", 1
_CODES: dict[int, type[np.generic]] = {1: np.uint8, 4: np.int32, 5: np.int64, 8: np.uint16}
_PREAMBLE = struct.Struct("<9sQBQQ")  # header, version, dtype code, sequences, document boundaries


class IndexedWriter:
    """Appends sequences to `PREFIX.bin`; `close` writes `PREFIX.idx`, without which there is nothing to read."""

    def __init__(self, prefix: Path, dtype: type[np.generic]) -> None:
        self.prefix, self.dtype = prefix, np.dtype(dtype)
        self._code = next(code for code, known in _CODES.items() if known is dtype)
        self._file = prefix.with_suffix(".bin").open("wb")
        self._digest = hashlib.sha256()
        self._lengths = array("i")

    def __enter__(self) -> IndexedWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, values: np.ndarray) -> None:
        """One sequence `[n]`. Raises `InputError` for a value that the file's dtype cannot hold."""
        values = np.asarray(values)
        if values.dtype != self.dtype and values.size:
            limits = np.iinfo(self.dtype)
            if values.min() < limits.min or values.max() > limits.max:
                raise InputError(f"{self.prefix.name}: a value is outside {self.dtype} ({limits.min} to {limits.max})")
        self._write(np.ascontiguousarray(values, dtype=self.dtype).data)
        self._lengths.append(len(values))

    def extend(self, stream: Indexed) -> None:
        """All sequences of another file of the same dtype, copied in pieces."""
        for start in range(0, len(stream.values), 1 << 22):
            self._write(np.ascontiguousarray(stream.values[start : start + (1 << 22)]).data)
        stream.forget()
        self._lengths.frombytes(stream.lengths.tobytes())

    def _write(self, data: memoryview) -> None:
        self._file.write(data)
        self._digest.update(data)

    def close(self) -> dict[str, str]:
        """Flush, write the index last, and return the sha256 of both files by name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        lengths = np.frombuffer(self._lengths, dtype=np.int32) if self._lengths else np.zeros(0, np.int32)
        ends = np.cumsum(lengths, dtype=np.int64) * self.dtype.itemsize
        pointers = np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(lengths)]
        index = self.prefix.with_suffix(".idx")
        content = hashlib.sha256()
        with atomic_path(index) as temporary, temporary.open("wb") as file:
            for part in (
                _PREAMBLE.pack(_HEADER, _VERSION, self._code, len(lengths), len(lengths) + 1),
                lengths.tobytes(),
                pointers.tobytes(),
                np.arange(len(lengths) + 1, dtype=np.int64).tobytes(),
            ):
                file.write(part)
                content.update(part)
        return {self.prefix.name + ".bin": self._digest.hexdigest(), index.name: content.hexdigest()}


class Indexed:
    """One such pair of files, memory-mapped: `stream[i]` is sequence `i`."""

    def __init__(self, prefix: Path, dtype: type[np.generic]) -> None:
        """Raises `InputError` where a file is absent, cut short, of another dtype, or not of this format."""
        index, self.dtype = prefix.with_suffix(".idx"), np.dtype(dtype)
        mapped = self._index = _map(index)
        if len(mapped) < _PREAMBLE.size:
            raise InputError(f"{index}: cut short: {len(mapped)} bytes")
        header, version, code, count, boundaries = _PREAMBLE.unpack_from(mapped)
        if header != _HEADER or version != _VERSION:
            raise InputError(f"{index}: not a Megatron index of version {_VERSION}")
        if np.dtype(_CODES.get(code, np.void)) != self.dtype:
            raise InputError(f"{index}: holds values of type code {code}, expected {self.dtype}")
        expected = _PREAMBLE.size + 12 * count + 8 * boundaries
        if len(mapped) != expected:
            raise InputError(f"{index}: cut short: {len(mapped)} bytes, its header promises {expected}")
        self.lengths = np.frombuffer(mapped, np.int32, count, _PREAMBLE.size)
        """int32 `[sequences]`."""
        self.pointers = np.frombuffer(mapped, np.int64, count, _PREAMBLE.size + 4 * count)
        """int64 `[sequences]`: first byte of each."""
        self._map_values(prefix.with_suffix(".bin"))

    def _map_values(self, path: Path) -> None:
        data = _map(path)
        promised = int(self.pointers[-1]) + int(self.lengths[-1]) * self.dtype.itemsize if len(self.lengths) else 0
        if len(data) != promised:
            raise InputError(f"{path}: {len(data)} bytes, its index promises {promised}")
        self._data = data
        self.values = np.frombuffer(data, self.dtype)
        """All sequences back to back, read-only."""

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> np.ndarray:
        first = self.pointers[number] // self.dtype.itemsize
        return self.values[first : first + self.lengths[number]]

    def forget(self) -> None:
        """Give back the memory of pages that were read; they are read again from disk where they are needed."""
        for mapped in (self._index, self._data):
            if isinstance(mapped, mmap.mmap):
                mapped.madvise(mmap.MADV_DONTNEED)


def _map(path: Path) -> mmap.mmap | bytes:
    try:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return b""
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
