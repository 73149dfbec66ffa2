from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import scipy.io
from safetensors.numpy import save_file
from scipy import sparse

from model_prep.radixnet import RadixNet
from model_prep.readers import open_source
from model_prep.source import SourceLayer
from tests.unit.prep.sources import dense, write_edges

FIRST = np.array([[1.5, 0, -2], [0, 0, 0.1], [0, 0, 0], [3, 4, 5]], np.float32)
SECOND = np.array([[0, 1, 2, 0.5], [7, 0, 0, -1]], np.float32)


def behaviour(layer: SourceLayer) -> tuple[Any, ...]:
    bias: Any = layer.bias.tolist() if isinstance(layer.bias, np.ndarray) else layer.bias
    return bias, layer.bias_on, layer.activation, layer.lo, layer.hi


def assert_is_the_model(text: str | Path) -> None:
    source = open_source(str(text))
    assert (source.features, source.layers) == (3, 2)
    for layer, expected in zip(source, (FIRST, SECOND), strict=True):
        np.testing.assert_array_equal(dense(layer), expected)
        assert dense(layer).dtype == np.float32
        assert behaviour(layer) == (0.0, "all", "relu", None, None)


class TestGraphChallengeFolders:
    def test_the_official_files_are_the_generated_network(self, tmp_path: Path) -> None:
        net = RadixNet(1024, 7)
        net.write_tsv(tmp_path)
        source = open_source(str(tmp_path))
        assert (source.features, source.layers) == (1024, 7)
        for read, made in zip(source, net.source(), strict=True):
            np.testing.assert_array_equal(read.sparse_weight.indices, made.sparse_weight.indices)
            np.testing.assert_array_equal(read.sparse_weight.indptr, made.sparse_weight.indptr)
            np.testing.assert_array_equal(read.sparse_weight.data, made.sparse_weight.data)
            assert (
                behaviour(read) == behaviour(made) == (float(np.float32(-0.3)), "nonzero", "relu", None, 32.0)
            )

    def test_rows_of_a_file_are_from_neurons(self, tmp_path: Path) -> None:
        weight = np.zeros((3, 3), np.float32)
        weight[2, 0] = 0.1  # from neuron 1 to neuron 3
        (tmp_path / "n3-l1.tsv").write_text("1\t3\t0.1\n")
        np.testing.assert_array_equal(dense(open_source(str(tmp_path), bias=-1).layer(0)), weight)

    def test_ten_comes_after_nine(self, tmp_path: Path) -> None:
        for k in range(1, 12):
            write_edges(tmp_path / f"n2-l{k}.tsv", np.array([[k, 0], [0, k]], np.float32))
        source = open_source(str(tmp_path), bias=0)
        assert [dense(layer)[0, 0] for layer in source] == list(range(1, 12))

    def test_compressed_files_windows_lines_and_spaces_are_read(self, tmp_path: Path) -> None:
        with gzip.open(tmp_path / "n2-l1.tsv.gz", "wb") as file:
            file.write(b"1\t2\t0.5\r\n2\t1\t-1e-3\r\n\r\n")
        (tmp_path / "n2-l2.tsv").write_bytes(b"1 1 4\n2 2 5")
        first, second = open_source(str(tmp_path), bias=0)
        np.testing.assert_array_equal(dense(first), np.array([[0, -1e-3], [0.5, 0]], np.float32))
        np.testing.assert_array_equal(dense(second), [[4, 0], [0, 5]])

    def test_the_folder_above_may_be_given(self, tmp_path: Path) -> None:
        RadixNet(1024, 1).write_tsv(tmp_path / "neuron1024")
        (tmp_path / "neuron1024-l120-categories.tsv").write_text("1\n")
        assert open_source(str(tmp_path)).features == 1024

    def test_description_does_not_depend_on_where_it_lies(self, tmp_path: Path) -> None:
        for place in ("a", "b"):
            RadixNet(1024, 1).write_tsv(tmp_path / place / "neuron1024")
        descriptions = {open_source(str(tmp_path / place / "neuron1024")).description for place in ("a", "b")}
        assert len(descriptions) == 1

    def test_options_override_the_convention(self, tmp_path: Path) -> None:
        RadixNet(1024, 1).write_tsv(tmp_path)
        layer = open_source(str(tmp_path), bias=-0.5, activation="identity", lo=-1, hi=None).layer(0)
        assert behaviour(layer) == (-0.5, "nonzero", "identity", -1, None)


class TestBareFiles:
    def test_matrix_market(self, tmp_path: Path) -> None:
        scipy.io.mmwrite(tmp_path / "w2.mtx", sparse.coo_array(SECOND))
        scipy.io.mmwrite(tmp_path / "w1.mtx", sparse.coo_array(FIRST))
        assert_is_the_model(tmp_path)

    @pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr"])
    def test_scipy_npz_of_every_format(
        self, tmp_path: Path, kind: Literal["csr", "csc", "coo", "bsr"]
    ) -> None:
        sparse.save_npz(tmp_path / "w1.npz", sparse.csr_array(FIRST).asformat(kind))
        sparse.save_npz(tmp_path / "w2.npz", sparse.csr_matrix(SECOND).asformat(kind))
        assert_is_the_model(tmp_path)

    def test_npy_and_natural_order_across_kinds(self, tmp_path: Path) -> None:
        np.save(tmp_path / "layer10.npy", np.asfortranarray(SECOND.astype(np.float64)))
        sparse.save_npz(tmp_path / "layer9.npz", sparse.csr_array(FIRST))
        (tmp_path / "README.md").write_text("not a layer")
        assert_is_the_model(tmp_path)

    def test_one_file_is_one_layer(self, tmp_path: Path) -> None:
        sparse.save_npz(tmp_path / "w.npz", sparse.csr_array(FIRST))
        source = open_source(str(tmp_path / "w.npz"))
        assert (source.features, source.layers) == (3, 1)
        np.testing.assert_array_equal(dense(source.layer(0)), FIRST)

    def test_zeros_of_either_sign_are_not_stored(self, tmp_path: Path) -> None:
        matrix = sparse.csr_array((np.array([1.0, 0.0, -0.0]), ([0, 0, 1], [0, 1, 1])), shape=(2, 2))
        sparse.save_npz(tmp_path / "w.npz", matrix)
        assert open_source(str(tmp_path / "w.npz")).layer(0).weight.nnz == 1

    def test_unsorted_columns_are_sorted(self, tmp_path: Path) -> None:
        matrix = sparse.csr_array(
            (np.array([1.0, 2, 3]), np.array([2, 0, 1]), np.array([0, 3])), shape=(1, 3)
        )
        sparse.save_npz(tmp_path / "w.npz", matrix)
        layer = open_source(str(tmp_path / "w.npz")).layer(0)
        assert layer.sparse_weight.indices.tolist() == [0, 1, 2]
        np.testing.assert_array_equal(layer.sparse_weight.data, [2, 3, 1])

    def test_options_say_what_files_do_not(self, tmp_path: Path) -> None:
        np.save(tmp_path / "w.npy", FIRST)
        layer = open_source(str(tmp_path), bias=0.25, hi=6).layer(0)
        assert behaviour(layer) == (0.25, "all", "relu", None, 6)


class TestSafetensors:
    def test_named_layers(self, tmp_path: Path) -> None:
        save_file({"layers.0.weight": FIRST, "layers.1.weight": SECOND}, tmp_path / "m.safetensors")
        assert_is_the_model(tmp_path / "m.safetensors")

    def test_folder_with_nothing_but_tensors(self, tmp_path: Path) -> None:
        save_file({"layers.0.weight": FIRST, "layers.1.weight": SECOND}, tmp_path / "model.safetensors")
        assert_is_the_model(tmp_path)

    def test_biases_and_half_precision(self, tmp_path: Path) -> None:
        bias = np.array([1, 2, 3, 4], np.float64)
        save_file(
            {"layers.0.weight": FIRST.astype(np.float16), "layers.0.bias": bias}, tmp_path / "m.safetensors"
        )
        layer = open_source(str(tmp_path / "m.safetensors")).layer(0)
        np.testing.assert_array_equal(dense(layer), FIRST.astype(np.float16).astype(np.float32))
        np.testing.assert_array_equal(layer.bias, [1, 2, 3, 4])

    def test_bfloat16(self, tmp_path: Path) -> None:
        weight = np.array([[1.0, -2.5], [0.0, 3.0]], np.float32)
        header = json.dumps(
            {"layers.0.weight": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}
        ).encode()
        header += b" " * (-len(header) % 8)
        halves = (weight.view(np.uint32) >> 16).astype("<u2").tobytes()
        (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + halves)
        np.testing.assert_array_equal(dense(open_source(str(tmp_path / "m.safetensors")).layer(0)), weight)

    def test_description_in_the_metadata(self, tmp_path: Path) -> None:
        model = {
            "layers": [{"weight": "a", "bias": "b", "activation": "identity"}, {"weight": "c", "lo": -1}]
        }
        tensors = {"c": SECOND, "a": FIRST, "b": np.arange(4, dtype=np.float32)}
        save_file(tensors, tmp_path / "m.safetensors", metadata={"model": json.dumps(model)})
        first, second = open_source(str(tmp_path / "m.safetensors"))
        np.testing.assert_array_equal(dense(first), FIRST)
        assert behaviour(first) == ([0, 1, 2, 3], "all", "identity", None, None)
        assert behaviour(second) == (0.0, "all", "relu", -1, None)


class TestDescribedFolders:
    def test_every_kind_of_weight_and_bias(self, tmp_path: Path) -> None:
        inner = tmp_path / "weights"
        inner.mkdir()
        scipy.io.mmwrite(inner / "a.mtx", sparse.coo_array(FIRST))
        np.save(inner / "bias.npy", np.array([[1], [2], [3], [4]]))
        save_file({"two": SECOND, "shift": np.ones(2, np.float32)}, tmp_path / "model.safetensors")
        np.save(tmp_path / "c.npy", np.eye(2))
        layers = [
            {"weight": "weights/a.mtx", "bias": "weights/bias.npy", "bias_on": "nonzero", "hi": 32},
            {"weight": "two", "bias": "shift", "activation": "identity", "lo": None, "hi": None},
            {"weight": "c.npy", "bias": -1.5, "lo": -1},
            {"weight": "c.npy", "bias": None},
        ]
        (tmp_path / "model.json").write_text(json.dumps({"layers": layers}))
        source = open_source(str(tmp_path))
        assert (source.features, source.layers) == (3, 4)
        expected = [
            (FIRST, ([1, 2, 3, 4], "nonzero", "relu", None, 32)),
            (SECOND, ([1, 1], "all", "identity", None, None)),
            (np.eye(2), (-1.5, "all", "relu", -1, None)),
            (np.eye(2), (0.0, "all", "relu", None, None)),
        ]
        for layer, (weight, said) in zip(source, expected, strict=True):
            np.testing.assert_array_equal(dense(layer), weight)
            assert behaviour(layer) == said

    def test_the_tensors_may_be_given_instead_of_their_folder(self, tmp_path: Path) -> None:
        save_file({"w": FIRST}, tmp_path / "model.safetensors")
        (tmp_path / "model.json").write_text('{"layers": [{"weight": "w", "hi": 1}]}')
        assert open_source(str(tmp_path / "model.safetensors")).layer(0).hi == 1


def test_layers_are_read_when_asked_for_and_not_before(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", FIRST)
    (tmp_path / "2.npy").write_bytes(b"broken")
    source = open_source(str(tmp_path))
    assert source.layers == 2
    np.testing.assert_array_equal(dense(source.layer(0)), FIRST)
