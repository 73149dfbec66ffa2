"""Parquet inputs: every type and codec, what is refused, and that no file takes its reader down."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import arro3.io
import numpy as np
import pytest
from arro3.core import Array, DataType, Table
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.errors import BatchError
from lamella.inputs import parquet, parquet_decoder, read_batch
from lamella.inputs.batch import MAX_BYTES

VALUES = np.array([[0, 1.5, 0, 2], [0, 0, 0, 0], [3, 0, -4, 0]])
CODECS = ("uncompressed", "snappy", "gzip(6)", "zstd(1)", "lz4_raw", "brotli(3)")
NAMES = ("one", "two", "three", "four")


def parquet_of(columns: dict[str, Any], **options: Any) -> bytes:
    arrays = {
        name: Array.from_numpy(np.ascontiguousarray(column)) if isinstance(column, np.ndarray) else column
        for name, column in columns.items()
    }
    stream = io.BytesIO()
    arro3.io.write_parquet(Table.from_pydict(arrays), stream, **options)
    return stream.getvalue()


def named(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {name: values[:, k] for k, name in enumerate(NAMES[: values.shape[1]])}


def texts(*values: str | None) -> Array:
    return Array(values, DataType.large_string() if None in values else DataType.string())


def floats(*values: float | None) -> Array:
    return Array(values, DataType.float64())


def table(**columns: Any) -> bytes:
    return parquet_of(columns)


def in_this_process(data: bytes, features: int, id_column: str | None = None) -> list[Any]:
    return list(parquet_decoder.decoded(data, "a.parquet", features, id_column, MAX_BYTES))


@pytest.mark.parametrize("compression", CODECS)
def test_every_codec_gives_the_same_batch(compression: str) -> None:
    data = parquet_of(named(VALUES), compression=compression)
    batch = read_batch(data, "A.PARQUET", 4, 3)
    assert batch.matrix.toarray().tolist() == VALUES.T.tolist()
    assert (batch.first, batch.ids) == (0, None)


@pytest.mark.parametrize("dtype", ["f2", "f4", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"])
def test_every_type_of_number_becomes_float32(dtype: str) -> None:
    values = np.abs(VALUES[:, 2:]).astype(dtype)
    [(found, _)] = in_this_process(parquet_of(named(values)), 2)
    assert found.dtype == np.float32
    assert found.tolist() == values.astype(np.float32).tolist()


def test_whole_numbers_are_rounded_once() -> None:
    # By way of float64 this would be rounded down to even, twice.
    number = 2**60 + 2**36 + 1
    [(found, _)] = in_this_process(table(a=np.array([number])), 1)
    assert found.tolist() == [[float(np.float32(np.int64(number)))]]


def test_row_groups_and_blocks_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((5000, 2), np.float32)
    data = parquet_of(named(values), max_row_group_size=700)
    assert read_batch(data, "a.parquet", 2).matrix.toarray().tolist() == values.T.tolist()
    monkeypatch.setattr(parquet_decoder, "BLOCK_VALUES", 1500)
    blocks = [block for block, _ in in_this_process(data, 2)]
    assert len(blocks) > 2
    assert np.concatenate(blocks).tolist() == values.tolist()


@pytest.mark.parametrize("ids", [texts("a", "b, c", "d"), np.array([7, 5, 6])], ids=["text", "whole numbers"])
def test_a_column_of_ids_is_no_feature(ids: Any) -> None:
    data = parquet_of({"one": VALUES[:, 1], "key": ids, "two": VALUES[:, 3]})
    batch = read_batch(data, "a.parquet", 2, id_column="key")
    assert batch.matrix.toarray().tolist() == VALUES[:, [1, 3]].T.tolist()
    assert batch.ids in {("a", "b, c", "d"), ("7", "5", "6")}


ONE = np.ones(2)


@pytest.mark.parametrize(
    ("data", "features", "id_column", "message"),
    [
        (b"PAR1", 1, None, "is no whole .parquet file"),
        (b"a,b\n1,2\n" * 3, 1, None, "is no whole .parquet file"),
        (table(a=ONE)[:-1], 1, None, "is no whole .parquet file"),
        (table(a=ONE), 3, None, "has 1 columns of numbers, the model takes 3 features: give one column"),
        (table(a=ONE, b=ONE), 1, None, "2 columns of numbers, the model takes 1 .*name the one of ids"),
        (table(a=ONE, b=texts("x", "y")), 1, None, "column 'b' is of type Utf8: store it as float32"),
        (table(a=floats(1, None)), 1, None, "column 'a', row 1 is null: every sample needs a number"),
        (table(a=floats(1, float("nan"))), 1, None, "column 'a', row 1: nan is not a finite number"),
        (table(a=floats(1, 1e300)), 1, None, "column 'a', row 1: 1e\\+300 is too large for float32"),
        (table(a=np.zeros(0)), 1, None, "holds no samples"),
        (table(a=ONE), 1, "key", "has no column 'key' for ids: name one of its header's, 'a'"),
        (
            table(a=ONE, key=texts("x", None)),
            1,
            "key",
            "'key', row 1 is null: give every sample an id",
        ),
        (table(a=ONE, key=texts("x", "")), 1, "key", "column 'key', row 1: the id is empty"),
        (table(a=ONE, key=texts("x", "\n")), 1, "key", "the id '.*' has a character that does not print"),
        (table(a=ONE, key=texts("x" * 1025, "y")), 1, "key", "the id has 1,025 characters"),
        (table(a=ONE, key=ONE), 1, "key", "column 'key' is of type Float64: ids are text or whole numbers"),
    ],
)
def test_refused_with_one_line(data: bytes, features: int, id_column: str | None, message: str) -> None:
    with pytest.raises(BatchError, match=message) as caught:
        read_batch(data, "a.parquet", features, None, id_column)
    assert str(caught.value).startswith("a.parquet")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("place", "what"), [(59, "a page's header"), (118, "the footer")])
def test_what_ends_the_decoder_s_process_is_one_line_here(place: int, what: str) -> None:
    data = bytearray(parquet_of({"a": np.repeat([0, 1.5, 3], 50)}, compression="snappy"))
    data[place] ^= 1
    alone = subprocess.run(
        [sys.executable, "-c", "import arro3.io, sys; list(arro3.io.read_parquet(sys.stdin.buffer.read()))"],
        input=bytes(data),
        capture_output=True,
        check=False,
    )
    assert b"panicked" in alone.stderr, what
    with pytest.raises(
        BatchError, match=r"a\.parquet can't be decoded as \.parquet: it is damaged: write it"
    ):
        read_batch(bytes(data), "a.parquet", 1)


def test_a_file_that_grows_without_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ones = np.ones(2_000_000)
    data = parquet_of({"a": ones, "b": ones}, compression="zstd(9)", dictionary_enabled=False)
    assert len(data) < ones.nbytes / 100
    monkeypatch.setattr(parquet, "MAX_BYTES", ones.nbytes // 2)
    with pytest.raises(BatchError, match="unpacks to more than 2 GiB: split it into several runs"):
        read_batch(data, "a.parquet", 2)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit need not hold")
def test_a_page_that_asks_for_more_memory_than_the_limit_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ones = np.ones(2**22)
    options = {
        "compression": "zstd(3)",
        "dictionary_enabled": False,
        "data_page_size_limit": 2**30,
        "data_page_row_count_limit": 2**30,
        "write_batch_size": 2**22,
    }
    # A page of 32 MiB for each of 32 columns: as many as there are at a time.
    data = parquet_of({f"c{k}": ones for k in range(32)}, **options)
    assert len(data) < 2**20
    monkeypatch.setattr(parquet, "DECODER_BYTES", 2**30)
    with pytest.raises(BatchError, match="unpacks to more than 2 GiB: split it into several runs"):
        read_batch(data, "a.parquet", 32)


@settings(deadline=None, max_examples=5)
@given(st.data())
def test_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    damaged = bytearray(parquet_of(named(VALUES), compression="snappy"))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(4, len(damaged) - 5))] = data.draw(st.integers(0, 255))
    try:
        batch = read_batch(bytes(damaged), "a.parquet", 4, None)
    except BatchError:
        return
    assert np.isfinite(batch.matrix.values).all()
    assert batch.features == 4


def test_no_function_loads_what_reads_parquet_before_there_is_one() -> None:
    code = "import sys, lamella.states.worker, lamella.states.plan; sys.exit('arro3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
