"""Networks in .onnx files, held to onnx's own reference evaluator."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, save
from onnx.reference import ReferenceEvaluator
from scipy import sparse

from lamella.errors import ModelError
from model_prep.readers import open_source
from model_prep.reference import plain_scipy

Array = NDArray[Any]
RANDOM = np.random.default_rng(0)
W1, B1 = RANDOM.standard_normal((6, 5)).astype(np.float32), RANDOM.standard_normal(5).astype(np.float32)
W2, B2 = RANDOM.standard_normal((5, 4)).astype(np.float32), RANDOM.standard_normal(4).astype(np.float32)
SAMPLES = RANDOM.standard_normal((7, 6)).astype(np.float32)


def node(operator: str, *inputs: str, to: str, **attributes: Any) -> Any:
    return helper.make_node(operator, list(inputs), [to], name=f"/{to}", **attributes)


def write(
    path: Path,
    nodes: Sequence[Any],
    constants: dict[str, Array],
    shape: Sequence[int | str] = ("n", 6),
    **options: Any,
) -> Path:
    """A model of the nodes from ``x`` to ``y``."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    save(model, str(path), **options)
    return path


def evaluated(path: Path, samples: Array = SAMPLES) -> Array:
    [found] = ReferenceEvaluator(str(path)).run(None, {"x": samples})
    return np.asarray(found)


def ours(path: Path, samples: Array = SAMPLES) -> Array:
    features = samples.reshape(len(samples), -1)
    return np.asarray(plain_scipy(open_source(str(path)), sparse.csr_array(features)))


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        list(open_source(str(path)))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "activation",
    [
        node("Relu", "h", to="a"),
        node("LeakyRelu", "h", to="a", alpha=0.2),
        node("LeakyRelu", "h", to="a"),
        node("Sigmoid", "h", to="a"),
        node("Tanh", "h", to="a"),
        node("Gelu", "h", to="a"),
        node("Gelu", "h", to="a", approximate="tanh"),
        node("Clip", "h", "low", "high", to="a"),
        node("Clip", "h", "", "high", to="a"),
        node("Identity", "h", to="a"),
        node("Dropout", "h", to="a"),
    ],
    ids=lambda each: f"{each.op_type}{len(each.attribute)}{len(each.input)}",
)
def test_every_activation_is_the_reference_evaluator_s(tmp_path: Path, activation: Any) -> None:
    nodes = [
        node("MatMul", "x", "w1", to="m"),
        node("Add", "b1", "m", to="h"),
        activation,
        node("Gemm", "a", "w2", "b2", to="g", transB=1, alpha=0.5, beta=2.0),
        node("Softmax", "g", to="y", axis=-1),
    ]
    bounds = {"low": np.array(-0.5, np.float32), "high": np.array([0.75], np.float32)}
    path = write(
        tmp_path / "net.onnx", nodes, {"w1": W1, "b1": B1[None], "w2": W2.T.copy(), "b2": B2} | bounds
    )
    np.testing.assert_allclose(ours(path), evaluated(path), rtol=2e-5, atol=1e-6)


def test_images_are_flattened_and_constants_may_be_nodes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["shape"], value_ints=[0, -1]),
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(W1)),
        node("Transpose", "turned", to="w2", perm=[1, 0]),
        node("Identity", "b", to="b1"),
        node("Flatten", "x", to="flat"),
        node("Gemm", "flat", "w", "b1", to="h"),
        node("Reshape", "h", "shape", to="r"),
        node("Relu", "r", to="a"),
        node("MatMul", "a", "w2", to="y"),
    ]
    path = write(tmp_path / "net.onnx", nodes, {"turned": W2.T.copy(), "b": B1}, shape=("n", 1, 2, 3))
    images = SAMPLES.reshape(-1, 1, 2, 3)
    np.testing.assert_allclose(ours(path, images), evaluated(path, images), rtol=1e-5, atol=1e-6)
    assert [layer.activation for layer in open_source(str(tmp_path))] == ["relu", "identity"]


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_weights_of_other_types(tmp_path: Path, kind: type) -> None:
    path = write(tmp_path / "net.onnx", [node("MatMul", "x", "w", to="y")], {"w": W1.astype(kind)})
    np.testing.assert_allclose(ours(path), SAMPLES @ W1, rtol=1e-2, atol=1e-2)


def test_bfloat16_weights_keep_their_values(tmp_path: Path) -> None:
    tensor = helper.make_tensor("w", TensorProto.BFLOAT16, [2, 1], [1.5, -0.25])
    graph = helper.make_graph(
        [node("MatMul", "x", "w", to="y")],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [tensor],
    )
    save(helper.make_model(graph), str(tmp_path / "net.onnx"))
    [layer] = open_source(str(tmp_path / "net.onnx"))
    assert layer.weight.toarray().tolist() == [[1.5, -0.25]]


def external(folder: Path) -> Path:
    return write(
        folder / "net.onnx",
        [node("MatMul", "x", "w", to="y")],
        {"w": W1},
        save_as_external_data=True,
        location="net.data",
        size_threshold=0,
    )


def test_weights_beside_the_file(tmp_path: Path) -> None:
    path = external(tmp_path)
    np.testing.assert_allclose(ours(path), SAMPLES @ W1, rtol=1e-5, atol=1e-6)
    (tmp_path / "net.data").write_bytes(b"short")
    assert "net.onnx: tensor 'w' can't be read" in refusal(path)
    (tmp_path / "net.data").unlink()
    assert "tensor 'w': there is no" in refusal(path)


def test_weights_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    path = external(inner)
    (inner / "net.data").rename(tmp_path / "net.data")
    (inner / "net.data").symlink_to(tmp_path / "net.data")
    assert "leads out of the model's folder" in refusal(path)
    path.write_bytes(path.read_bytes().replace(b"net.data", b"../n.dat"))
    assert "tensor 'w': file name '../n.dat' leaves its folder" in refusal(path)


MATMUL = node("MatMul", "x", "w", to="h")
CONSTANTS = {"w": W1, "b": B1, "w2": W2}


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (
            [node("Conv", "x", "w", to="y")],
            "node '/y' (Conv) can't be run: of ONNX's operators, MatMul",
        ),
        ([node("Relu", "x", to="y")], "node '/y' (Relu) is not supported: it comes before the first MatMul"),
        ([node("Identity", "x", to="y")], "has no MatMul or Gemm"),
        ([MATMUL, node("Mul", "h", "b", to="y")], "node '/y' (Mul) can't be run"),
        (
            [MATMUL, node("Relu", "h", to="a"), node("Tanh", "a", to="y")],
            "(Tanh) is not supported: a layer",
        ),
        (
            [MATMUL, node("Relu", "h", to="a"), node("Add", "a", "b", to="y")],
            "(Add) is not supported: a bias",
        ),
        ([MATMUL, node("Relu", "h", to="a"), node("Add", "a", "h", to="y")], "tensor 'h': 2 nodes read it"),
        (
            [MATMUL, node("Add", "h", "h", to="y")],
            "(Add) is not supported: one of its inputs",
        ),
        (
            [MATMUL, node("Add", "h", "w2", to="y")],
            "its bias has shape [5, 4]: give one for each of 5",
        ),
        ([MATMUL], "tensor 'h': nothing reads it: only a chain of layers"),
        ([node("MatMul", "w", "x", to="y")], "the samples must be its first input"),
        ([node("MatMul", "x", "b", to="y")], "its weights have shape [5]: give a matrix"),
        ([MATMUL, node("MatMul", "h", "w", to="y")], "its weights take 6 inputs, the layer before has 5"),
        ([node("Gemm", "x", "w", to="y", transA=1)], "(Gemm) is not supported: transA must be 0"),
        ([MATMUL, node("Softmax", "h", to="y", axis=0)], "(Softmax) is not supported: axis must be"),
        ([MATMUL, node("Flatten", "h", to="y", axis=0)], "(Flatten) is not supported: axis must be 1"),
        ([MATMUL, node("Clip", "h", "h", to="y")], "(Clip) is not supported: min must be a constant"),
        ([MATMUL, node("Reshape", "h", "b", to="y")], "(Reshape) is not supported: shape"),
        (
            [MATMUL, node("Softmax", "h", to="s"), node("MatMul", "s", "w2", to="y")],
            "layer 0 has softmax, which only the last layer can",
        ),
        (
            [MATMUL, helper.make_node("Gelu", ["h"], ["y"], domain="com.microsoft")],
            "node 'y' (Gelu) can't be run",
        ),
    ],
)
def test_anything_else_is_refused_by_its_node(tmp_path: Path, nodes: list[Any], message: str) -> None:
    assert message in refusal(write(tmp_path / "net.onnx", nodes, CONSTANTS))


def test_samples_of_more_dimensions_must_be_flattened(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", [node("MatMul", "x", "w", to="y")], CONSTANTS, shape=("n", 1, 6))
    assert "its input has not two dimensions: put Flatten before it" in refusal(path)


def test_weights_that_are_not_finite_are_refused_by_their_layer(tmp_path: Path) -> None:
    wrong = W1.copy()
    wrong[2, 3] = np.nan
    path = write(tmp_path / "net.onnx", [node("MatMul", "x", "w", to="y")], {"w": wrong})
    assert "layer 0, node '/y' (MatMul): the weight of output 4, input 3 is nan" in refusal(path)


def test_a_truncated_file(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", [MATMUL, node("Relu", "h", to="y")], CONSTANTS)
    path.write_bytes(path.read_bytes()[:-20])
    assert "is not a whole .onnx file: copy or export it again" in refusal(path)
    path.write_bytes(b"")
    assert "holds no network" in refusal(path)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "net.onnx", [MATMUL, node("Relu", "h", to="y")], CONSTANTS)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "reading it needs the package onnx: pip install onnx" in refusal(path)
