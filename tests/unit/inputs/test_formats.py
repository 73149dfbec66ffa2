"""Arrays and tables of samples, and what all formats share."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save as save_tensors
from scipy.sparse import coo_array, csc_array, csr_array, dia_array, save_npz

from lamella.errors import BatchError
from lamella.inputs import arrays, known_suffix, read_batch
from lamella.inputs import batch as batch_module

DENSE = np.array([[0, 1.5, 0, 2], [0, 0, 0, 0], [3, 0, -4, 0]])


def npy(values: NDArray[np.generic]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=True)
    return stream.getvalue()


def npz(matrix: Any) -> bytes:
    stream = io.BytesIO()
    save_npz(stream, matrix)
    return stream.getvalue()


def members(**parts: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **parts)
    return stream.getvalue()


def table(values: NDArray[np.generic]) -> bytes:
    return "\n".join(",".join(str(x) for x in row) for row in values.tolist()).encode()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.npy", npy(DENSE)),
        ("a.npy", npy(DENSE.astype(">f4"))),
        ("a.npy", npy(np.asfortranarray(DENSE))),
        ("a.npy", npy(DENSE.astype(np.float16))),
        ("A.NPY", npy(DENSE.astype(np.float32))),
        ("a.npz", npz(csr_array(DENSE))),
        ("a.npz", npz(csc_array(DENSE.astype(np.float32)))),
        ("a.npz", npz(coo_array(DENSE))),
        ("a.safetensors", save_tensors({"whatever": DENSE})),
        ("a.safetensors", save_tensors({"inputs": DENSE, "labels": np.zeros(3)})),
        ("a.csv", table(DENSE)),
        ("a.csv", b"a,b,c,d\r\n" + table(DENSE) + b"\r\n"),
        ("a.csv", b'\xef\xbb\xbf\n"pixel, 1","b","c","d"\n\n' + table(DENSE) + b"\n\n"),
        ("a.csv", b'"0",1.5, 0,2\n0,0,0,0\n3,0,-4e0,0\n'),
    ],
)
def test_every_format_gives_the_same_batch(name: str, data: bytes) -> None:
    batch = read_batch(data, name, 4, None)
    assert batch.first == 0
    assert batch.matrix.toarray().tolist() == DENSE.T.tolist()
    assert batch.matrix.values.dtype == np.float32
    assert batch.matrix.nnz == 4
    assert batch.matrix.columns.tolist() == np.nonzero(DENSE.T)[1].tolist()
    assert read_batch(data, name, 4, 3).samples == 3


def test_values_are_rounded_to_float32() -> None:
    batch = read_batch(npy(np.array([[0.1, 2**24 + 1]])), "a.npy", 2, None)
    assert batch.matrix.toarray().ravel().tolist() == [float(np.float32(0.1)), 2**24]


def test_blocks_of_a_large_array_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "_BLOCK_VALUES", 8)
    values = np.random.default_rng(0).integers(0, 3, (11, 4))
    assert read_batch(npy(values), "a.npy", 4, None).matrix.toarray().tolist() == values.T.tolist()
    broken = values.astype(float)
    broken[9, 2] = np.nan
    with pytest.raises(BatchError, match="sample 9, feature 2"):
        read_batch(npy(broken), "a.npy", 4, None)


SQUARE = csr_array(np.eye(3))
PARTS: dict[str, NDArray[np.generic]] = {
    "format": np.array(b"csr"),
    "shape": np.array([3, 4]),
    "data": np.ones(2),
    "indices": np.array([0, 3]),
    "indptr": np.array([0, 1, 1, 2]),
}

COO: dict[str, NDArray[np.generic]] = {
    "format": np.array(b"coo"),
    "shape": np.array([3, 4]),
    "data": np.ones(2),
    "row": np.array([0, 2]),
    "col": np.array([0, 3]),
}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.npy", npy(DENSE[:, :3]), "has 3 features a sample, the model takes 4"),
        ("a.npy", npy(np.zeros((4, 3))), "has 3 features a sample, the model takes 4: transpose it"),
        ("a.npy", npy(DENSE[0]), "has 1 dimensions"),
        ("a.npy", npy(np.zeros((0, 4))), "holds no samples"),
        (
            "a.npy",
            npy(np.array([[0, 1, 2, 3], [0, np.nan, 0, 0]])),
            "sample 1, feature 1: nan is not a finite",
        ),
        (
            "a.npy",
            npy(np.array([[0, 1, 2, -1e300]])),
            r"sample 0, feature 3: -1e\+300 is too large for float32",
        ),
        ("a.npy", npy(np.zeros((1, 4), complex)), "type complex128: save it as float32"),
        ("a.npy", npy(np.array([[None] * 4])), "type object: save it as float32"),
        ("a.npy", npy(DENSE)[:-1], "ends before its last value"),
        ("a.npy", npy(DENSE).replace(b"(3, 4), ", b"(-3,-4),"), "ends before its last value"),
        ("a.npy", pickle.dumps(DENSE), "can't be read as .npy"),
        ("a.npy", b"\x93NUMPY\x03\x00", "can't be read as .npy"),
        ("a.npy", b"", "is empty"),
        ("a.npz", members(x=DENSE), "holds no sparse array"),
        ("a.npz", npz(SQUARE), "has 3 features a sample"),
        ("a.npz", npz(dia_array(np.eye(4))), "holds no sparse array"),
        ("a.npz", members(**PARTS | {"indices": np.array([0, 4])}), "contradicts itself"),
        ("a.npz", members(**PARTS | {"indices": np.array([0, -1])}), "contradicts itself"),
        ("a.npz", members(**PARTS | {"indptr": np.array([0, 2, 1, 2])}), "contradicts itself"),
        ("a.npz", members(**PARTS | {"indptr": np.array([0, 1, 1])}), "contradicts itself"),
        ("a.npz", members(**PARTS | {"data": np.ones(1)}), "contradicts itself"),
        ("a.npz", members(**COO | {"row": np.array([0, 3])}), "contradicts itself"),
        ("a.npz", members(**COO | {"row": np.array([0, -1])}), "contradicts itself"),
        ("a.npz", members(**COO | {"col": np.array([0, 4])}), "contradicts itself"),
        ("a.npz", members(**COO | {"col": np.array([0])}), "contradicts itself"),
        (
            "a.npz",
            members(**COO | {"row": np.array([1, 1]), "col": np.array([2, 2])}),
            "sample 1, feature 2 more",
        ),
        ("a.npz", members(**PARTS | {"indices": np.array([0.0, 1.0])}), "contradicts itself"),
        ("a.npz", members(**PARTS | {"data": np.array(["a", "b"])}), "type <U1"),
        ("a.npz", members(**PARTS | {"format": np.array(b"bsr")}), "format 'bsr'"),
        (
            "a.npz",
            members(**PARTS | {"indptr": np.array([0, 2, 2, 2]), "indices": np.array([3, 3])}),
            "names sample 0, feature 3 more than once",
        ),
        ("a.npz", npz(csr_array([[0, np.inf, 0, 0]])), "sample 0, feature 1: inf is not a finite number"),
        ("a.npz", npz(csr_array(DENSE))[:-30], "is not a sound .npz file"),
        ("a.npz", b"PK\x03\x04", "is not a sound .npz file"),
        ("a.safetensors", save_tensors({"a": DENSE, "b": DENSE}), r"holds 2 tensors \(a, b\): name the one"),
        ("a.safetensors", save_tensors({"samples": DENSE, "inputs": DENSE}), "holds 2 tensors"),
        ("a.safetensors", save_tensors({}), r"holds 0 tensors \(none\)"),
        ("a.safetensors", save_tensors({"a": DENSE})[:-1], "can't be read as safetensors"),
        ("a.safetensors", b"{}", "can't be read as safetensors"),
        (
            "a.csv",
            b"1,2,3,4\n1,2,x,4\n",
            "line 2, column 3: 'x' is not a number: give numbers alone, or name a column of ids",
        ),
        ("a.csv", b"a,b,c,d\n\n1,2,3,4\n1,,3,4\n", "line 4, column 2: '' is not a number"),
        ("a.csv", b"1,2,3,4\n\n1,2,3\n", "line 3 has 3 columns, those before it 4"),
        ("a.csv", b"1,2,3,4\n1,nan,3,4\n", "sample 1, feature 1: nan is not a finite"),
        ("a.csv", b"1,2,3\n", "has 3 features a sample, the model takes 4"),
        ("a.csv", b"a,b,c,d\n", "has a header and no samples"),
        ("a.csv", b"\xff\xfe1", "is not text in UTF-8"),
        ("a.csv", b" \n", "is empty"),
        ("a.csv", b"1," + b"2" * 200_000 + b"x,3,4\n", "line 1"),
        (
            "a.txt",
            b"1",
            "no input format Lamella knows: use .tsv, .tsv.gz, .npy, .npz, .safetensors, .csv, .parquet",
        ),
        ("a", b"1", "no input format Lamella knows"),
    ],
)
def test_refused_with_one_line(name: str, data: bytes, message: str) -> None:
    with pytest.raises(BatchError, match=message) as caught:
        read_batch(data, name, 4, None)
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("samples", [0, 2**24 + 1])
def test_a_number_of_samples_that_cannot_be(samples: int) -> None:
    with pytest.raises(BatchError, match="samples can't be: give 1 to 16,777,216"):
        read_batch(npy(DENSE), "a.npy", 4, samples)


def test_more_samples_than_a_run_takes() -> None:
    with pytest.raises(BatchError, match="holds 16,777,217 samples: split it, a run takes 16,777,216"):
        read_batch(npy(np.zeros((2**24 + 1, 1), np.int8)), "a.npy", 1, None)


def test_another_number_of_samples_than_asked_for() -> None:
    with pytest.raises(BatchError, match="holds 3 samples, the run was told 5"):
        read_batch(npy(DENSE), "a.npy", 4, 5)


def test_nothing_is_unpickled() -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
            return pytest.fail, ()

    trap = np.array([[Trap()]])
    for name, data in (("a.npy", npy(trap)), ("a.npz", members(**PARTS | {"data": trap}))):
        with pytest.raises(BatchError, match="type object"):
            read_batch(data, name, 4, None)


def test_an_archive_may_not_grow_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MAX_BYTES", 1000)
    with pytest.raises(BatchError, match="unpacks to more than 2 GiB"):
        read_batch(npz(csr_array(np.ones((50, 4)))), "a.npz", 4, None)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("data.npy", b"")
    with pytest.raises(BatchError, match="was not written by numpy or scipy"):
        read_batch(stream.getvalue(), "a.npz", 4, None)


def test_a_header_that_promises_too_much_reserves_no_memory() -> None:
    data = npy(np.zeros((1, 4))).replace(b"(1, 4), }            ", b"(999999999999, 4), } ")
    with pytest.raises(BatchError, match="ends before its last value"):
        read_batch(data, "a.npy", 4, None)


FILES = {
    ".npy": npy(DENSE),
    ".npz": npz(csr_array(DENSE)),
    ".safetensors": save_tensors({"samples": DENSE}),
    ".csv": table(DENSE),
}


@settings(deadline=None)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_damage_is_refused_or_harmless(suffix: str, data: st.DataObject) -> None:
    damaged = bytearray(FILES[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(0, len(damaged)))] if data.draw(st.booleans()) else damaged
    try:
        batch = read_batch(bytes(damaged), "a" + suffix, 4, None)
    except BatchError:
        return
    assert np.isfinite(batch.matrix.values).all()
    assert batch.features == 4


def test_suffix_is_of_the_whole_name() -> None:
    assert known_suffix("x/Y.TSV.GZ") == ".tsv.gz"
    assert known_suffix("a.tsv") == ".tsv"
    with pytest.raises(BatchError):
        known_suffix("npy")


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 12), st.data())
def test_block_is_the_dense_part_without_dead_samples(
    seed: int, features: int, samples: int, data: st.DataObject
) -> None:
    random = np.random.default_rng(seed)
    dense = np.where(random.random((samples, features)) < 0.2, random.random((samples, features)), 0)
    batch = read_batch(npy(dense), "a.npy", features, None)
    rows = data.draw(st.none() | st.lists(st.integers(0, features - 1), unique=True, min_size=1))
    start, stop = sorted(data.draw(st.tuples(st.integers(0, samples), st.integers(0, samples))))
    block = batch.block(None if rows is None else np.array(rows), (start, stop))
    part = dense.T.astype(np.float32)[slice(None) if rows is None else rows]
    alive = [s for s in range(start, stop) if part[:, s].any()]
    assert block.live.tolist() == alive
    assert block.values.tolist() == part[:, alive].tolist()
    assert block.values.flags.c_contiguous
    assert block.values.dtype == np.float32
    assert block.live.dtype == np.int64
