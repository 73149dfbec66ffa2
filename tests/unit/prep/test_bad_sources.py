"""Whatever is wrong with a source is said in one line that names the place."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy import sparse

from lamella.errors import ModelError
from model_prep.radixnet import RadixNet
from model_prep.readers import open_source
from model_prep.source import source_layer
from tests.unit.prep.sources import dense_source

EYE = np.eye(2, dtype=np.float32)


def refusal(text: str | Path, **options: Any) -> str:
    """What reading all of a source is refused with."""
    with pytest.raises(ModelError) as caught:
        for _ in open_source(str(text), **options):
            pass
    message = str(caught.value)
    assert "\n" not in message
    return message


def edges(folder: Path, *lines: str, name: str = "n4-l1.tsv") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return folder


def described(folder: Path, *layers: dict[str, Any]) -> Path:
    np.save(folder / "w.npy", EYE)
    (folder / "model.json").write_text(json.dumps({"layers": layers}))
    return folder


class TestWhereNothingIs:
    def test_no_such_path(self, tmp_path: Path) -> None:
        assert f"there is no {tmp_path / 'model'}" in refusal(tmp_path / "model")

    @pytest.mark.parametrize(
        "text", ["radixnet:1024", "radixnet:1024x", "alive:-1x2", "radixnet:1e3x2", "alive:"]
    )
    def test_no_such_network(self, text: str) -> None:
        assert repr(text) in refusal(text)

    @pytest.mark.parametrize("text", ["radixnet:1000x2", "alive:0x2", "alive:8x0"])
    def test_no_network_of_that_size(self, text: str) -> None:
        assert text in refusal(text)

    def test_empty_folder(self, tmp_path: Path) -> None:
        assert f"{tmp_path} is empty" in refusal(tmp_path)

    def test_folder_without_layers(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("hello")
        assert f"{tmp_path} holds no layers" in refusal(tmp_path)

    def test_unknown_format(self, tmp_path: Path) -> None:
        (tmp_path / "model.pt").write_bytes(b"x")
        assert "model.pt is in no known format" in refusal(tmp_path / "model.pt")

    @pytest.mark.parametrize("given", ["model.onnx", "."])
    def test_onnx(self, tmp_path: Path, given: str) -> None:
        (tmp_path / "model.onnx").write_bytes(b"x")
        assert "model.onnx is not a whole .onnx file: copy or export it again" in refusal(tmp_path / given)

    def test_a_folder_of_several_onnx_files(self, tmp_path: Path) -> None:
        for name in ("a.onnx", "b.onnx"):
            (tmp_path / name).write_bytes(b"x")
        assert "holds 2 networks: give one, such as" in refusal(tmp_path)

    def test_a_prepared_model(self, tmp_path: Path) -> None:
        (tmp_path / "manifest.json").write_text("{}")
        assert "is a prepared model already" in refusal(tmp_path)

    def test_a_folder_of_several_networks(self, tmp_path: Path) -> None:
        for n in (32, 64):
            RadixNet(n, 1).write_tsv(tmp_path / f"neuron{n}")
        assert "holds 2 networks" in refusal(tmp_path)


class TestGraphChallengeFolders:
    def test_gap(self, tmp_path: Path) -> None:
        for k in (1, 2, 4):
            edges(tmp_path, "1\t1\t1", name=f"n4-l{k}.tsv")
        assert "has no n4-l3.tsv, but layers up to 4" in refusal(tmp_path, bias=0)

    def test_layer_twice(self, tmp_path: Path) -> None:
        edges(tmp_path, "1\t1\t1")
        edges(tmp_path, "1\t1\t1", name="n4-l01.tsv")
        assert "layer 1 twice" in refusal(tmp_path, bias=0)

    def test_two_networks_in_a_folder(self, tmp_path: Path) -> None:
        edges(tmp_path, "1\t1\t1")
        edges(tmp_path, "1\t1\t1", name="n8-l2.tsv")
        assert "networks of 4, 8 neurons" in refusal(tmp_path, bias=0)

    def test_unknown_bias(self, tmp_path: Path) -> None:
        edges(tmp_path, "1\t1\t1")
        assert "no bias for 4 neurons" in refusal(tmp_path)

    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            (["1\t1\t1", "2\t5\t1"], "line 2: a neuron is not among 1 to 4"),
            (["1\t1\t1", "0\t2\t1"], "line 2: a neuron is not among 1 to 4"),
            (["99999999999999999999\t2\t1"], "line 1: a neuron is not among 1 to 4"),
            (["-1\t2\t1"], "line 1: a neuron is not among 1 to 4"),
            (["1\t1\t1", "1\t2"], "line 2 is '1\\t2'"),
            (["1\t1\t1\t1"], "line 1 is"),
            (["1\t1\t1", "", "1\t2\t1"], "line 2 is ''"),
            (["1\t1\tx"], "line 1 is '1\\t1\\tx'"),
            (["1\t1\t1.5x"], "line 1 is"),
            (["1,1,1"], "line 1 is"),
            (["# from to weight"], "line 1 is"),
            (["1.5\t1\t1"], "line 1: Invalid integer value"),
            (["1\t1\tnan"], "output 1, input 1 is nan"),
            (["3\t2\t-inf"], "output 2, input 3 is -inf"),
            (["3\t2\t1e39"], "output 2, input 3 is 1e+39"),
            (["3\t2\t1", "1\t1\t1", "3\t2\t1"], "output 2, input 3 is given twice"),
            ([], "is empty"),
        ],
    )
    def test_bad_lines(self, tmp_path: Path, lines: list[str], expected: str) -> None:
        message = refusal(edges(tmp_path / "net", *lines), bias=0)
        assert expected in message
        assert "n4-l1.tsv" in message

    @pytest.mark.parametrize("content", [b"not gzip", b"\x1f\x8b\x08\x00cut off"])
    def test_damaged_compression(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "n4-l1.tsv.gz").write_bytes(content)
        assert "can't read" in refusal(tmp_path, bias=0)


def zipped_pickle() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("format", "shape", "data", "indices", "indptr"):
            array = io.BytesIO()
            np.save(array, np.array([{"a": 1}], object), allow_pickle=True)
            archive.writestr(f"{name}.npy", array.getvalue())
    return stream.getvalue()


def saved(save: Callable[..., None], *args: Any, **named: Any) -> bytes:
    stream = io.BytesIO()
    save(stream, *args, **named)
    return stream.getvalue()


def raw_csr(indices: list[int], indptr: list[int]) -> bytes:
    return saved(
        np.savez,
        format="csr",
        shape=np.array([2, 2]),
        data=np.ones(2),
        indices=np.array(indices),
        indptr=indptr,
    )


class TestMatrixFiles:
    @pytest.mark.parametrize(
        ("name", "content", "expected"),
        [
            ("w.npz", b"", "not a scipy sparse .npz"),
            ("w.npz", b"PK\x03\x04 cut", "not a scipy sparse .npz"),
            ("w.npz", saved(np.savez, a=np.ones((2, 2))), "not a scipy sparse .npz"),
            ("w.npz", zipped_pickle(), "not a scipy sparse .npz"),
            ("w.npz", raw_csr([0, 2], [0, 1, 2]), "is not a valid sparse matrix"),
            ("w.npz", raw_csr([0, -1], [0, 1, 2]), "w.npz"),
            ("w.npz", raw_csr([0, 1], [0, 2, 1]), "w.npz"),
            ("w.npz", raw_csr([0, 1], [0, 1, 9]), "w.npz"),
            ("w.npz", raw_csr([1, 1], [0, 2, 2]), "output 1, input 2 is given twice"),
            ("w.npy", b"", "not a .npy"),
            ("w.npy", saved(np.save, EYE)[:-1], "not a .npy"),
            ("w.npy", pickle.dumps(EYE), "not a .npy"),
            ("w.npy", saved(np.save, np.array([[{}]], object), allow_pickle=True), "not a .npy"),
            ("w.npy", saved(np.save, EYE.astype(complex)), "holds complex128 values"),
            ("w.npy", saved(np.save, np.array([["a"]])), "holds <U1 values"),
            ("w.npy", saved(np.save, np.ones(3)), "has shape 3:"),
            ("w.npy", saved(np.save, np.ones((2, 2, 2))), "has shape 2 x 2 x 2"),
            ("w.npy", saved(np.save, np.ones((0, 2))), "has shape 0 x 2"),
            ("w.npy", saved(np.save, np.array([[1, np.nan]])), "output 1, input 2 is nan"),
            ("w.npy", saved(np.save, np.array([[1, 0], [np.inf, 0]])), "output 2, input 1 is inf"),
            ("w.npy", saved(np.save, np.array([[1e300]])), "not a finite float32"),
            ("w.mtx", b"", "not a Matrix Market"),
            ("w.mtx", b"1 1 1\n", "not a Matrix Market"),
            (
                "w.mtx",
                b"%%MatrixMarket matrix coordinate real general\n2 2 1\n3 1 1\n",
                "not a Matrix Market",
            ),
            (
                "w.mtx",
                b"%%MatrixMarket matrix coordinate real general\n2 2 2\n1 1 1\n",
                "not a Matrix Market",
            ),
            ("w.mtx", b"%%MatrixMarket matrix coordinate real general\n2 2 2\n1 1 1\n1 1 1\n", "given twice"),
        ],
    )
    def test_bad_content(self, tmp_path: Path, name: str, content: bytes, expected: str) -> None:
        (tmp_path / name).write_bytes(content)
        message = refusal(tmp_path / name)
        assert expected in message
        assert name in message

    def test_layers_that_do_not_chain(self, tmp_path: Path) -> None:
        np.save(tmp_path / "l1.npy", np.ones((3, 2)))
        np.save(tmp_path / "l2.npy", np.ones((2, 4)))
        message = refusal(tmp_path)
        assert "l2.npy (layer 1): layer 1 has 4 columns, but layer 0 has 3 rows" in message


class TestSafetensors:
    @pytest.mark.parametrize("cut", [0, 4, 30, -1])
    def test_cut_off(self, tmp_path: Path, cut: int) -> None:
        path = tmp_path / "m.safetensors"
        save_file({"layers.0.weight": EYE}, path)
        path.write_bytes(path.read_bytes()[:cut])
        assert "m.safetensors is not a whole .safetensors file" in refusal(path)

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (["layers.0.weight", "layers.2.weight"], "has no layers.1.weight"),
            (["layers.1.weight"], "has no layers.0.weight"),
            (["layers.0.weight", "layers.1.bias"], "has no layers.1.weight"),
            (["layers.0.bias"], "holds no layers"),
            ([], "holds no layers"),
            (["layers.0.weight", "norm"], "tensor 'norm' is neither"),
            (["layers.00.weight"], "tensor 'layers.00.weight' is neither"),
        ],
    )
    def test_names(self, tmp_path: Path, names: list[str], expected: str) -> None:
        save_file(dict.fromkeys(names, EYE), tmp_path / "m.safetensors")
        assert expected in refusal(tmp_path / "m.safetensors")

    def test_bias_that_does_not_fit(self, tmp_path: Path) -> None:
        bias = np.zeros(3, np.float32)
        save_file({"layers.0.weight": EYE, "layers.0.bias": bias}, tmp_path / "m.safetensors")
        assert "bias has shape 3, the weights have 2 rows" in refusal(tmp_path / "m.safetensors")

    def test_type_that_numpy_lacks(self, tmp_path: Path) -> None:
        tensor = {"dtype": "F8_E4M3", "shape": [1, 1], "data_offsets": [0, 1]}
        header = json.dumps({"layers.0.weight": tensor}).encode()
        (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
        assert "tensor 'layers.0.weight' is F8_E4M3" in refusal(tmp_path / "m.safetensors")

    def test_bad_description(self, tmp_path: Path) -> None:
        save_file({"w": EYE}, tmp_path / "m.safetensors", metadata={"model": "{"})
        message = refusal(tmp_path / "m.safetensors")
        assert "m.safetensors, metadata key 'model': Invalid JSON" in message


class TestModelJson:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("{", "Invalid JSON"),
            ("[]", "model.json: "),
            ("{}", "layers: Field required"),
            ('{"layers": []}', "layers: List should have at least 1 item"),
            ('{"layers": [{}]}', "layers.0.weight: Field required"),
            ('{"layers": [{"weight": 3}]}', "layers.0.weight"),
            ('{"layers": [{"weight": "w.npy", "hi": "32"}]}', "layers.0.hi"),
            ('{"layers": [{"weight": "w.npy", "hi": NaN}]}', "model.json"),
            ('{"layers": [{"weight": "w.npy", "biass": 0}]}', "layers.0.biass"),
            ('{"layers": [{"weight": "w.npy", "bias_on": "some"}]}', "layers.0.bias_on"),
            ('{"layers": [{"weight": "w.npy", "bias": true}]}', "layers.0.bias"),
        ],
    )
    def test_form(self, tmp_path: Path, text: str, expected: str) -> None:
        np.save(tmp_path / "w.npy", EYE)
        (tmp_path / "model.json").write_text(text)
        message = refusal(tmp_path)
        assert expected in message
        assert "model.json" in message

    @pytest.mark.parametrize(
        ("layer", "expected"),
        [
            ({"weight": "../w.npy"}, "'../w.npy' leaves its folder"),
            ({"weight": "/etc/w.npy"}, "'/etc/w.npy' leaves its folder"),
            ({"weight": "w.npy", "bias": "a/../../b.npy"}, "leaves its folder"),
            ({"weight": "absent.npy"}, "there is no"),
            ({"weight": "w.npy", "bias": "absent.npy"}, "there is no"),
            ({"weight": "w.npy", "activation": "swish"}, "activation 'swish' is not supported"),
            ({"weight": "w.npy", "bias": 1e39}, "bias is not finite"),
            ({"weight": "w.npy", "bias": "w.npy"}, "bias has shape 2 x 2"),
            ({"weight": "w.npy", "lo": 2, "hi": 1}, "lo 2.0 is above hi 1.0"),
            ({"weight": "w.npy", "hi": 1e39}, "hi is 1e+39"),
        ],
    )
    def test_layers(self, tmp_path: Path, layer: dict[str, Any], expected: str) -> None:
        message = refusal(described(tmp_path, {"weight": "w.npy"}, layer))
        assert expected in message
        assert "model.json: layer 1" in message

    def test_tensors_without_their_file(self, tmp_path: Path) -> None:
        assert "there is no" in refusal(described(tmp_path, {"weight": "first"}))

    def test_tensor_that_is_not_there(self, tmp_path: Path) -> None:
        save_file({"second": EYE}, tmp_path / "model.safetensors")
        assert "layer 0: 'first' is neither a file" in refusal(described(tmp_path, {"weight": "first"}))


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"bias": float("nan")}, "bias is nan"),
            ({"lo": float("-inf")}, "lo is -inf"),
            ({"activation": "relu6"}, "activation 'relu6' is not supported"),
            ({"lo": 33}, "lo 33.0 is above hi 32.0"),
        ],
    )
    def test_values(self, options: dict[str, Any], expected: str) -> None:
        assert expected in refusal("radixnet:32x1", **options)


def test_a_sum_is_never_made_of_duplicates() -> None:
    twice = sparse.coo_array((np.ones(2), ([0, 0], [1, 1])), shape=(2, 2))
    with pytest.raises(ModelError, match="twice"):
        source_layer("w", twice)


def test_features_must_be_those_of_the_first_layer() -> None:
    source = dense_source([[1, 2]])
    wrong = type(source)(source.description, 3, 1, source.read)
    with pytest.raises(ModelError, match="layer 0 has 2 columns, but the model has 3 features"):
        list(wrong)
