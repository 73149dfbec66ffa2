"""A table of bad files for every format of a model: refused in one line with file, layer and what to do."""

from __future__ import annotations

import gzip
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save as save_tensors

from lamella.errors import ModelError
from model_prep.readers import bounds, open_source

W = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
MTX = "%%MatrixMarket matrix coordinate real general\n"


class Trap:
    """Fails the test where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        return pytest.fail, ()


TRAPS = np.array([[Trap()]])


def npy(values: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=True)
    return stream.getvalue()


def npz(**changed: Any) -> bytes:
    """A CSR matrix, 3 x 4, as scipy stores it, but for what is changed."""
    parts = {"format": np.array(b"csr"), "shape": np.array([3, 4]), "data": np.ones(2)}
    parts |= {"indices": np.array([0, 3]), "indptr": np.array([0, 1, 1, 2])}
    stream = io.BytesIO()
    np.savez_compressed(stream, **parts | changed)
    return stream.getvalue()


def mtx(*lines: str, banner: str = MTX) -> bytes:
    return (banner + "\n".join(lines) + "\n").encode()


def tensors(**changed: NDArray[Any]) -> bytes:
    return save_tensors({name.replace("__", "."): each for name, each in changed.items()})


FORMATS = {
    ".npy": npy(W),
    ".npz": npz(),
    ".mtx": mtx("3 4 1", "1 1 1"),
    ".mtx.gz": gzip.compress(mtx("3 4 1", "1 1 1")),
    ".safetensors": tensors(layers__0__weight=W),
}

# Name, content, and what the refusal says.
TABLE: list[tuple[str, bytes, str]] = [
    *((f"empty{suffix}", b"", "again") for suffix in FORMATS),
    *((f"truncated{suffix}", data[: len(data) * 2 // 3], "again") for suffix, data in FORMATS.items()),
    *((f"pickled{suffix}", pickle.dumps(TRAPS), "again") for suffix in FORMATS),
    ("objects.npy", npy(TRAPS), "it holds Python objects, which are never loaded"),
    ("objects.npz", npz(data=TRAPS), "it holds Python objects, which are never loaded"),
    ("format.npz", npz(format=np.array(Trap(), object)), "it holds Python objects, which are never loaded"),
    ("complex.npy", npy(W.astype(complex)), "weights must be real numbers: store them as float32"),
    ("complex.npz", npz(data=np.ones(2, complex)), "weights must be real numbers: store them as float32"),
    (
        "complex.mtx",
        mtx("3 4 1", "1 1 1 2", banner=MTX.replace("real", "complex")),
        "weights must be real numbers: store them as float32",
    ),
    ("text.npy", npy(W.astype(str)), "weights must be real numbers: store them as float32"),
    ("text.npz", npz(data=np.array(["a", "b"])), "weights must be real numbers: store them as float32"),
    ("text.mtx", mtx("3 4 1", "1 1 x"), "Line 3: Invalid floating-point value"),
    ("vector.npy", npy(W[0]), "weights must be a matrix, outputs x inputs"),
    ("cube.npy", npy(W[None]), "weights must be a matrix, outputs x inputs"),
    ("vector.safetensors", tensors(layers__0__weight=W[0]), "weights must be a matrix, outputs x inputs"),
    ("vector.npz", npz(shape=np.array([3])), "shape must have length"),
    ("none.npy", npy(W[:0]), "a layer needs outputs and inputs"),
    ("none.npz", npz(shape=np.array([0, 4]), indptr=np.array([0])), "a layer needs outputs and inputs"),
    ("none.mtx", mtx("0 4 0"), "a layer needs outputs and inputs"),
    ("none.safetensors", tensors(layers__0__weight=W[:0]), "a layer needs outputs and inputs"),
    ("nan.npy", npy(W * np.nan), "output 1, input 1 is nan, not a finite float32: repair the model"),
    ("inf.npy", npy(W * np.inf), "output 1, input 1 is inf, not a finite float32: repair the model"),
    ("large.npy", npy(W.astype(float) * 1e300), "input 1 is 1e+300, not a finite float32: repair the model"),
    ("nan.npz", npz(data=np.array([1, np.nan])), "output 3, input 4 is nan"),
    ("nan.mtx", mtx("3 4 1", "2 3 nan"), "output 2, input 3 is nan"),
    ("nan.safetensors", tensors(layers__0__weight=W * np.nan), "output 1, input 1 is nan"),
    ("outside.npz", npz(indices=np.array([0, 4])), "is not a valid sparse matrix"),
    ("outside.mtx", mtx("3 4 1", "4 1 1"), "Row index out of bounds"),
    ("uneven.npz", npz(indptr=np.array([0, 2])), "index pointer size 2 should be 4"),
    ("twice.mtx", mtx("3 4 2", "1 1 1", "1 1 2"), "output 1, input 1 is given twice: keep one"),
    ("other.npz", npz(format=np.array(b"zzz")), "Unknown format"),
    (
        "bias.safetensors",
        tensors(layers__0__weight=W, layers__0__bias=W[0]),
        "the weights have 3 rows: give one",
    ),
    ("name.safetensors", tensors(weight=W), "rename it, or describe the model in a model.json"),
    ("gap.safetensors", tensors(layers__1__weight=W), "has no layers.0.weight, but layers up to 1"),
]


@pytest.mark.parametrize(("name", "data", "what"), TABLE, ids=[name for name, _, _ in TABLE])
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, name: str, data: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ModelError) as caught:
        list(open_source(str(tmp_path / name)))
    message = str(caught.value)
    assert what in message
    assert str(tmp_path / name) in message
    assert "\n" not in message
    # What a safetensors file as a whole is refused for has no layer.
    assert "layer" in message or name.endswith(".safetensors")


@pytest.mark.parametrize(("name", "data", "what"), TABLE, ids=[name for name, _, _ in TABLE])
def test_so_it_is_where_a_model_json_names_it(tmp_path: Path, name: str, data: bytes, what: str) -> None:
    if name.endswith(".safetensors"):
        pytest.skip("a model.json's tensors are in model.safetensors")
    (tmp_path / "good.npy").write_bytes(npy(W.T))
    (tmp_path / name).write_bytes(data)
    layers = [{"weight": "good.npy"}, {"weight": name}]
    (tmp_path / "model.json").write_text(json.dumps({"layers": layers}))
    with pytest.raises(ModelError) as caught:
        list(open_source(str(tmp_path)))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'model.json'}: layer 1")
    assert name in message
    assert what in message


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "Invalid JSON"),
        ('{"layers": [{"weight": "w.npy"}', "Invalid JSON"),
        ("[]", "Input should be an object"),
        ('{"layers": []}', "layers: List should have at least 1 item"),
        ('{"layers": [{}]}', "layers.0.weight: Field required"),
        ('{"layers": [{"weight": "w.npy", "bias": NaN}]}', "layers.0.bias"),
        ('{"layers": [{"weight": "w.npy", "biass": 1}]}', "layers.0.biass: Extra inputs are not permitted"),
        ('{"layers": [{"weight": "w.npy", "hi": "32"}]}', "layers.0.hi: Input should be a valid number"),
        ('{"layers": [{"weight": "gone.npy"}]}', "gone.npy: restore it, or correct the name"),
        ('{"layers": [{"weight": "../w.npy"}]}', "'../w.npy' leaves its folder: use plain relative names"),
        ('{"layers": [{"weight": "w.npy", "activation": "relo"}]}', "layer 0 (w.npy): activation 'relo'"),
        ('{"layers": [{"weight": "w.npy", "bias": "w.npy"}]}', "layer 0 (w.npy): the bias has shape 3 x 4"),
        (
            '{"layers": [{"weight": "w.npy"}, {"weight": "w.npy"}]}',
            "layer 1 has 4 columns, but layer 0 has 3",
        ),
    ],
)
def test_a_bad_description_is_refused_by_its_field(tmp_path: Path, text: str, what: str) -> None:
    np.save(tmp_path / "w.npy", W)
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(ModelError) as caught:
        list(open_source(str(tmp_path)))
    assert what in str(caught.value)
    assert str(tmp_path) in str(caught.value)


BOMBS = {
    "bomb.npz": npz(data=np.zeros(100_000), indices=np.zeros(100_000, int)),
    "bomb.mtx": mtx("3 4 99999999999", "1 1 1"),
    "full.mtx": mtx("99999 99999", "1", banner=MTX.replace("coordinate", "array")),
    "bomb.mtx.gz": gzip.compress(mtx("3 4 99999999999", "1 1 1")),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_says_that_it_is_larger_than_the_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(bounds, "memory_bytes", lambda: 1_000_000)
    assert len(BOMBS[name]) < 10_000
    (tmp_path / name).write_bytes(BOMBS[name])
    with pytest.raises(ModelError, match=r"\(layer 0\) unpacks to more than this machine's .* GB of memory"):
        list(open_source(str(tmp_path / name)))


def test_a_gzip_of_edges_may_not_grow_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "n4-l1.tsv.gz").write_bytes(gzip.compress(b"1\t1\t1\n" * 200_000))
    monkeypatch.setattr(bounds, "memory_bytes", lambda: 1_000_000)
    with pytest.raises(ModelError, match=r"n4-l1\.tsv\.gz unpacks to more than this machine's"):
        list(open_source(str(tmp_path), bias=0))
