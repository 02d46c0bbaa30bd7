"""Our `.bin`/`.idx` and megatron-core's are the same files."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spiritlm.corpus.indexed import Indexed, IndexedWriter
from spiritlm.errors import InputError
from spiritlm.run.files import sha256_file

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:megatron")
SEQUENCES = [[1, 2, 3], [], [65535], [7] * 1000, []]
DTYPES = pytest.mark.parametrize("dtype", [np.int32, np.uint16])


def write(prefix: Path, sequences: list[list[int]], dtype: type = np.int32) -> dict[str, str]:
    with IndexedWriter(prefix, dtype) as writer:
        for sequence in sequences:
            writer.append(np.array(sequence, dtype=np.int64))
        return writer.close()


def read(prefix: Path, dtype: type = np.int32) -> list[list[int]]:
    stream = Indexed(prefix, dtype)
    return [stream[number].tolist() for number in range(len(stream))]


@DTYPES
def test_megatron_reads_what_is_written(tmp_path: Path, dtype: type) -> None:
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    write(tmp_path / "a", SEQUENCES, dtype)
    theirs = IndexedDataset(str(tmp_path / "a"))
    assert theirs.index.dtype == dtype
    assert [theirs[number].tolist() for number in range(len(theirs))] == SEQUENCES
    assert theirs.document_indices.tolist() == list(range(len(SEQUENCES) + 1))


@DTYPES
def test_what_megatron_writes_is_read(tmp_path: Path, dtype: type) -> None:
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    builder = IndexedDatasetBuilder(str(tmp_path / "a.bin"), dtype=dtype)
    for number, sequence in enumerate(SEQUENCES):
        builder.add_item(torch.tensor(sequence, dtype=torch.int64))
        if number % 2:
            builder.end_document()
    builder.finalize(str(tmp_path / "a.idx"))
    assert read(tmp_path / "a", dtype) == SEQUENCES


def test_the_bytes_are_megatrons(tmp_path: Path) -> None:
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    builder = IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=np.int32)
    for sequence in SEQUENCES:
        builder.add_item(torch.tensor(sequence, dtype=torch.int64))
        builder.end_document()
    builder.finalize(str(tmp_path / "theirs.idx"))
    sums = write(tmp_path / "ours", SEQUENCES)
    for suffix in (".bin", ".idx"):
        assert (tmp_path / f"ours{suffix}").read_bytes() == (tmp_path / f"theirs{suffix}").read_bytes()
        assert sums[f"ours{suffix}"] == sha256_file(tmp_path / f"ours{suffix}")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 65535), max_size=6), max_size=8))
def test_any_sequences_come_back(sequences: list[list[int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for dtype in (np.int32, np.uint16):
            write(Path(folder) / "a", sequences, dtype)
            assert read(Path(folder) / "a", dtype) == sequences


def test_files_are_joined(tmp_path: Path) -> None:
    write(tmp_path / "a", SEQUENCES)
    write(tmp_path / "b", [[5], [6, 7]])
    whole = write(tmp_path / "whole", [*SEQUENCES, [5], [6, 7]])
    with IndexedWriter(tmp_path / "joined", np.int32) as writer:
        for name in ("a", "b"):
            writer.extend(Indexed(tmp_path / name, np.int32))
        joined = writer.close()
    assert list(whole.values()) == list(joined.values())


def test_sequences_are_read_only_and_survive_being_forgotten(tmp_path: Path) -> None:
    write(tmp_path / "a", SEQUENCES)
    stream = Indexed(tmp_path / "a", np.int32)
    sequence = stream[3]
    with pytest.raises(ValueError, match="read-only"):
        sequence[0] = 1
    stream.forget()
    assert sequence.tolist() == SEQUENCES[3]


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "whole", SEQUENCES)
    index, values = ((tmp_path / f"whole{suffix}").read_bytes() for suffix in (".idx", ".bin"))
    header = b"MMIDIDX\x00\x00" + (2).to_bytes(8, "little") + index[17:]
    for idx, bin, said in (
        (index[:-8], values, r"a\.idx: cut short"),
        (index[:20], values, r"a\.idx: cut short: 20 bytes"),
        (b"", values, r"a\.idx: cut short: 0 bytes"),
        (index + b"\x00", values, r"a\.idx"),
        (b"NOTMEGATR" + index[9:], values, r"a\.idx: not a Megatron index"),
        (header, values, r"a\.idx: not a Megatron index of version 1"),
        (index[:17] + b"\x63" + index[18:], values, r"a\.idx: holds values of type code 99, expected int32"),
        (index, values[:-4], r"a\.bin: 4012 bytes, its index promises 4016"),
        (index, b"", r"a\.bin: 0 bytes, its index promises 4016"),
        (index, values + b"\x00", r"a\.bin: 4017 bytes"),
    ):
        (tmp_path / "a.idx").write_bytes(idx)
        (tmp_path / "a.bin").write_bytes(bin)
        with pytest.raises(InputError, match=said):
            Indexed(tmp_path / "a", np.int32)


def test_absent_files_and_another_type_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a", SEQUENCES)
    with pytest.raises(InputError, match=r"a\.idx: holds values of type code 4, expected uint16"):
        Indexed(tmp_path / "a", np.uint16)
    shutil.copy(tmp_path / "a.idx", tmp_path / "b.idx")
    with pytest.raises(InputError, match=r"b\.bin: No such file"):
        Indexed(tmp_path / "b", np.int32)
    with pytest.raises(InputError, match=r"c\.idx: No such file"):
        Indexed(tmp_path / "c", np.int32)


@pytest.mark.parametrize(("dtype", "value"), [(np.uint16, 65536), (np.uint16, -1), (np.int32, 1 << 31)])
def test_a_value_that_does_not_fit_is_refused(tmp_path: Path, dtype: type, value: int) -> None:
    with IndexedWriter(tmp_path / "semantic", dtype) as writer:
        with pytest.raises(InputError, match=f"semantic: a value is outside {np.dtype(dtype)}"):
            writer.append(np.array([1, value]))
        writer.close()
    assert len(Indexed(tmp_path / "semantic", dtype)) == 0


def test_without_its_index_a_file_is_nothing(tmp_path: Path) -> None:
    with IndexedWriter(tmp_path / "a", np.int32) as writer:
        writer.append(np.arange(5))
    with pytest.raises(InputError, match=r"a\.idx: No such file"):
        Indexed(tmp_path / "a", np.int32)
