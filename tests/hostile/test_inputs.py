"""Samples made to harm: false headers, bombs, wrong shapes; each one typed error in bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import arro3.io
import numpy as np
import pytest
from arro3.core import Array, Table
from safetensors.numpy import save

from lamella.errors import BatchError, LamellaError, ModelError, RunError
from lamella.inputs import read_batch
from lamella.memory_bound import MEMORY_MB, bounded_memory, spare_bytes
from model_prep.readers import open_source
from tests.hostile import readers
from tests.hostile.outcome import outcome_of

MIB = 1 << 20


def safetensors(header: object, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def tensor(dtype: str, shape: list[int], start: int, stop: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


SOUND = {"samples": tensor("F32", [3, 4], 0, 48)}
FALSE_HEADERS = {
    "no header": b"",
    "less than a length": b"\1\0\0",
    "a length beyond the file": safetensors(SOUND, bytes(48), length=1 << 20),
    "a length beyond the format": safetensors(SOUND, bytes(48), length=1 << 40),
    "a length beyond int64": safetensors(SOUND, bytes(48), length=(1 << 64) - 1),
    "no JSON": safetensors(b"{]", bytes(48)),
    "JSON without end": safetensors(b"[" * 100_000),
    "no object": safetensors([1], bytes(48)),
    "no text": safetensors(b"\xff\xfe{}", bytes(48)),
    "bytes beyond the file": safetensors({"samples": tensor("F32", [3, 4], 0, 48)}, bytes(40)),
    "bytes before the file": safetensors({"samples": tensor("F32", [3, 4], -48, 0)}, bytes(48)),
    "bytes backwards": safetensors({"samples": tensor("F32", [3, 4], 48, 0)}, bytes(48)),
    "bytes that overlap": safetensors(SOUND | {"b": tensor("F32", [3, 4], 24, 72)}, bytes(72)),
    "bytes with a gap": safetensors(SOUND | {"b": tensor("F32", [3, 4], 56, 104)}, bytes(104)),
    "bytes of nobody": safetensors(SOUND, bytes(1000)),
    "another shape than bytes": safetensors({"samples": tensor("F32", [300, 4], 0, 48)}, bytes(48)),
    "a shape that wraps": safetensors({"samples": tensor("F32", [1 << 62, 4], 0, 0)}),
    "a shape beyond int64": safetensors({"samples": tensor("F32", [1 << 63, 0], 0, 0)}),
    "a billion samples of nothing": safetensors({"samples": tensor("F32", [1 << 30, 0], 0, 0)}),
    "a negative shape": safetensors({"samples": tensor("F32", [-3, -4], 0, 48)}, bytes(48)),
    "dimensions without end": safetensors({"samples": tensor("F32", [1] * 1000, 0, 4)}, bytes(4)),
    "no type": safetensors({"samples": tensor("EVIL", [3, 4], 0, 48)}, bytes(48)),
    "a type that numpy has not": safetensors({"samples": tensor("F8_E4M3", [12, 4], 0, 48)}, bytes(48)),
    "another that numpy has not": safetensors({"samples": tensor("BF16", [6, 4], 0, 48)}, bytes(48)),
    "no offsets": safetensors({"samples": {"dtype": "F32", "shape": [3, 4]}}, bytes(48)),
    "metadata that is none": safetensors(SOUND | {"__metadata__": {"a": [1]}}, bytes(48)),
}
READERS: dict[str, tuple[Callable[[bytes], object], type[LamellaError]]] = {
    "samples": (lambda data: read_batch(data, "a.safetensors", 4), BatchError),
    "a task": (readers.read_assignment, RunError),
    "a dealing": (readers.read_dealing, RunError),
    "a share": (readers.read_share, RunError),
}


@pytest.mark.parametrize("what", FALSE_HEADERS)
@pytest.mark.parametrize("reader", READERS)
def test_a_false_header_is_one_typed_error(reader: str, what: str) -> None:
    read, kind = READERS[reader]
    with pytest.raises(kind) as caught:
        read(FALSE_HEADERS[what])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("what", FALSE_HEADERS)
def test_so_it_is_in_a_model_to_prepare(tmp_path: Path, what: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(FALSE_HEADERS[what].replace(b"samples", b"layers.0.weight"))
    with pytest.raises(ModelError) as caught:
        list(open_source(str(path)))
    assert str(caught.value).isprintable()


def test_a_header_of_nothing_but_tensors_takes_bounded_memory() -> None:
    """Stated: the file again, and 4 KiB for each tensor."""
    count = 40_000
    data = safetensors({f"t{k}": tensor("U8", [0], 0, 0) for k in range(count)})
    outcome = outcome_of(readers.read_samples, data, "a.safetensors")
    assert "BatchError" in outcome.kinds, outcome.message
    assert outcome.grown_bytes < 2 * len(data) + count * 4096


# ---- numpy ----


def npy(header: str, body: bytes = bytes(48), version: bytes = b"\x01\x00") -> bytes:
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2 if version[0] == 1 else 4, "little") + text + body


def described(shape: str, descr: str = "'<f4'", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


@pytest.mark.parametrize(
    "data",
    [
        npy(described("(3, 999999999999)")),
        npy(described("(999999999999, 4)")),
        npy(described("(-3, 4)")),
        npy(described("(" + "1, " * 100 + ")")),
        npy(described(f"(0, {2**70})")),
        npy(described("(0, 4)", "'<U0'")),
        npy(described("(3, 4)", "'|S0'")),
        npy(described("(3, 4)", "'|O'")),
        npy(described("(3, 4)", "('<f4', (9999999,))")),
        npy(described("(3, 4)", "[('a', '<f4')]")),
        npy(described("(3, 4)", "'<M8[s]'")),
        npy(described("(3, 4)", "'<c8'")),
        npy(described("3")),
        npy(described("(3, 4)", "__import__('os')")),
        npy("(" * 5000),
        npy("{" * 5000),
        npy("-" * 9000 + "1"),
        npy("'" + "a" * 60_000 + "'"),
        npy(described("(3, 4)"), version=b"\x09\x00"),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        b"\x93NUMPY",
    ],
)
def test_a_false_npy_is_one_typed_error(data: bytes) -> None:
    with pytest.raises(BatchError) as caught:
        read_batch(data, "a.npy", 4)
    assert str(caught.value).isprintable()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("data.npy", data)
    with pytest.raises(BatchError):
        read_batch(stream.getvalue(), "a.npz", 4)


# ---- bombs ----


def lying_zip(says: int, holds: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.npy", bytes(holds))
    return stream.getvalue().replace(holds.to_bytes(4, "little"), says.to_bytes(4, "little"))


def big_table() -> bytes:
    """A page of 64 MiB for each of eight columns."""
    options = {"data_page_size_limit": 2**30, "data_page_row_count_limit": 2**30, "write_batch_size": 2**23}
    options |= {"compression": "zstd(1)", "dictionary_enabled": False, "max_row_group_size": 2**23}
    stream = io.BytesIO()
    columns = {f"c{k}": Array.from_numpy(np.ones(2**23)) for k in range(8)}
    arro3.io.write_parquet(Table.from_pydict(columns), stream, **options)
    return stream.getvalue()


BOMBS: dict[str, Callable[[], tuple[bytes, int]]] = {
    # Bytes, and how many features: each unpacks, or grows as it is read, to hundreds of MB.
    "a.tsv.gz": lambda: (gzip.compress(b"\n" * (96 * MIB), 1), 4),
    "a line.tsv.gz": lambda: (gzip.compress(b"7" * (96 * MIB), 1), 4),
    "lying.npz": lambda: (lying_zip(1000, 96 * MIB), 4),
    "wide.tsv": lambda: (b"1\t1\t1\n", 2**24),
    "a.csv": lambda: (b"1,1,1,1\n" * (2 * MIB), 4),
    "a.npy": lambda: (npy(described(f"({12 * MIB}, 4)", "'|u1'"), b"\1" * (48 * MIB)), 4),
    "a.parquet": lambda: (big_table(), 8),
    "a.safetensors": lambda: (save({"samples": np.ones((12 * MIB, 4), np.uint8)}), 4),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_no_more_than_the_function_has(name: str) -> None:
    """Stated: an input takes no more than the function has left; what would is one error."""
    data, features = BOMBS[name]()
    outcome = outcome_of(readers.read_samples_in_a_function, data, name, features)
    # Of those that do fit, nothing is wrong with one.
    assert {"BatchError", "MemoryError"} & set(outcome.kinds) or "nothing is wrong" in outcome.message, (
        outcome
    )
    assert outcome.grown_bytes < (readers.SPARE_MB + 96) * MIB
    if name in {"a.tsv.gz", "a line.tsv.gz", "lying.npz"}:
        assert "BatchError" in outcome.kinds
        assert outcome.grown_bytes < 128 * MIB


def test_the_bound_on_memory_comes_and_goes() -> None:
    assert spare_bytes({}) is None
    spare = spare_bytes({MEMORY_MB: "3008"})
    assert spare is not None
    assert spare < 3008 * MIB
    with pytest.raises(MemoryError), bounded_memory(64 * MIB):
        np.ones(256 * MIB, np.uint8)
    with bounded_memory(None):
        assert np.ones(256 * MIB, np.uint8).nbytes == 256 * MIB


def test_what_says_that_it_unpacks_to_more_than_2_gib_is_refused() -> None:
    outcome = outcome_of(readers.read_samples, lying_zip(2**31 + 1, 1 * MIB), "a.npz")
    assert "unpacks to more than 2 GiB" in outcome.message
    assert outcome.grown_bytes < 16 * MIB


# ---- wrong shapes ----


def parquet(**columns: Any) -> bytes:
    stream = io.BytesIO()
    arro3.io.write_parquet(Table.from_pydict({k: Array.from_numpy(v) for k, v in columns.items()}), stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", b"1,2,3\n4,5,6\n"),
        ("a.csv", b"1,2,3,4\n1,2,3\n"),
        ("a.csv", b"1,2,3,4\n" + b"1," * 200_000 + b"1\n"),
        ("a.csv", b"1," * 500_000),
        ("a.csv", b"a,b,c,d\n"),
        ("a.csv", b"\0" * 1000),
        ("a.csv", b"\xef\xbb\xbf"),
        ("a.csv", b"=cmd|' /C calc'!A0,2,3,4\n"),
        ("a.csv", b"1,2,3," + b"9" * 400 + b"\n"),
        ("a.parquet", parquet(a=np.ones(3), b=np.ones(3))),
        ("a.parquet", parquet(**{f"c{k}": np.ones(1) for k in range(500)})),
        ("a.parquet", b"PAR1" + b"\xff" * 100 + b"PAR1"),
        ("a.parquet", b"PAR1" + b"\xff\xff\xff\x7f" + b"PAR1"),
        ("a.parquet", b"PAR1PAR1PAR1"),
    ],
)
def test_a_table_of_the_wrong_shape_is_one_typed_error(name: str, data: bytes) -> None:
    with pytest.raises(BatchError) as caught:
        read_batch(data, name, 4)
    assert str(caught.value).startswith(name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_a_column_s_name_is_not_passed_on_without_end() -> None:
    with pytest.raises(BatchError, match="a column of 200,000 characters can't be in a"):
        read_batch(parquet(a=np.ones(3)), "a.parquet", 4, id_column="x" * 200_000)
