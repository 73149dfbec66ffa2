"""Feed-forward networks in an .onnx file: a chain of MatMul or Gemm, each with what follows it.

The operators: https://onnx.ai/onnx/operators/. Needs the extra ``onnx``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lamella.errors import ModelError
from model_prep.readers.onnx_constants import Constants
from model_prep.source import Source, SourceLayer, source_layer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SUFFIX = ".onnx"
_PLAIN_ACTIVATIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh"}
_SUPPORTED = (
    "MatMul, Gemm, Add, Relu, LeakyRelu, Sigmoid, Tanh, Gelu, Softmax, Clip, Identity, Dropout, Flatten and "
    "Reshape"
)


@dataclass
class _Layer:
    """A layer as far as its nodes have been seen; arrays are read when the layer is."""

    where: str
    weight: Callable[[], NDArray[Any]]
    outputs: int
    bias: list[Callable[[], NDArray[Any]]] = field(default_factory=list)
    activation: str | None = None
    lo: float | None = None
    hi: float | None = None
    slope: float | None = None
    clipped: bool = False

    def read(self) -> SourceLayer:
        # One array at a time in float32, as onnx adds them one after the other.
        bias: NDArray[Any] | None = None
        for read in self.bias:
            bias = read() if bias is None else bias + read()
        return source_layer(
            self.where,
            self.weight(),
            bias=bias,
            activation=self.activation or "identity",
            lo=self.lo,
            hi=self.hi,
            slope=self.slope,
        )


def open_file(path: Path) -> Source:
    """The network in an .onnx file.

    Weights times Gemm's alpha, and biases times beta, are rounded to their type.

    Raises
    ------
    ModelError
        If onnx isn't installed, the file is damaged, or it holds anything but such a chain, naming the node.
    """
    try:
        onnx: Any = importlib.import_module("onnx")
    except ImportError as error:
        raise ModelError(
            f"{path}: reading it needs the package onnx: pip install onnx, or export .safetensors"
        ) from error
    try:
        model = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise ModelError(f"can't read {path}: {error.strerror}") from error
    except Exception as error:  # protobuf's DecodeError, by whichever of its implementations
        raise ModelError(f"{path} is not a whole .onnx file: copy or export it again") from error
    if not model.graph.node:
        raise ModelError(f"{path} holds no network: copy or export it again")
    with _damaged(path):
        layers = _Chain(path, model.graph, onnx).layers()

    def read(k: int) -> SourceLayer:
        with _damaged(path):
            return layers[k].read()

    return Source(path.name, read(0).inputs, len(layers), read)


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    """What a graph that contradicts itself makes of a walk through it."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ModelError(f"{path} contradicts itself ({type(error).__name__}): export it again") from error


class _Chain:
    """The nodes from the graph's input to its output, each of which reads the one before it alone."""

    def __init__(self, path: Path, graph: Any, onnx: Any) -> None:
        self._path = path
        self._constants = Constants(path, graph, onnx)
        self._attribute: Callable[[Any], Any] = onnx.helper.get_attribute_value
        self._graph = graph
        self._layers: list[_Layer] = []
        self._is_flat = True

    def layers(self) -> list[_Layer]:
        inputs = [each for each in self._graph.input if each.name not in self._constants]
        if len(inputs) != 1 or len(self._graph.output) != 1:
            raise ModelError(
                f"{self._path} has {len(inputs)} inputs and {len(self._graph.output)} outputs: "
                "only networks with one of each are supported"
            )
        shape = inputs[0].type.tensor_type
        self._is_flat = not shape.HasField("shape") or len(shape.shape.dim) == 2
        current, last, taken = inputs[0].name, self._graph.output[0].name, 0
        readers = self._readers()
        while current != last:
            nodes = readers.get(current, [])
            if len(nodes) != 1 or taken == len(self._graph.node):
                what = f"{len(nodes)} nodes read it" if nodes else "nothing reads it"
                raise ModelError(
                    f"{self._path}: tensor {current!r}: {what}: only a chain of layers is supported"
                )
            self._take(nodes[0], current)
            current = nodes[0].output[0]
            taken += 1
        if not self._layers:
            raise ModelError(f"{self._path} has no MatMul or Gemm: there is no layer to run")
        return self._layers

    def _readers(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for node in self._graph.node:
            if not all(name in self._constants for name in node.output):
                for name in {name for name in node.input if name not in self._constants}:
                    found.setdefault(name, []).append(node)
        return found

    def _take(self, node: Any, current: str) -> None:
        operator = node.op_type
        if node.domain not in ("", "ai.onnx"):
            operator = f"{node.domain}.{operator}"
        if operator in _PLAIN_ACTIVATIONS:
            self._activate(node, _PLAIN_ACTIVATIONS[operator])
        elif operator == "LeakyRelu":
            self._activate(node, "leaky_relu").slope = float(self._get(node, "alpha", 0.01))
        elif operator == "Gelu":
            tanh = self._get(node, "approximate", b"none") == b"tanh"
            self._activate(node, "gelu_tanh" if tanh else "gelu")
        elif operator == "Softmax":
            if self._get(node, "axis", -1) not in (1, -1):
                raise self._refused(node, "axis must be that of the outputs, -1")
            self._activate(node, "softmax")
        elif operator == "Clip":
            self._clip(node)
        elif operator in ("MatMul", "Gemm"):
            self._multiply(node, current)
        elif operator == "Add":
            self._add(node, current)
        elif operator == "Flatten":
            if self._get(node, "axis", 1) != 1:
                raise self._refused(node, "axis must be 1: all features of a sample")
            self._is_flat = True
        elif operator == "Reshape":
            self._reshape(node)
        elif operator not in ("Identity", "Dropout"):
            raise ModelError(
                f"{self._name(node)} can't be run: of ONNX's operators, {_SUPPORTED} are supported; export a "
                "feed-forward network"
            )

    def _multiply(self, node: Any, current: str) -> None:
        if list(node.input).index(current) != 0 or node.input[1] not in self._constants:
            raise self._refused(node, "the samples must be its first input, and constant weights its second")
        if not self._is_flat:
            raise self._refused(node, "its input has not two dimensions: put Flatten before it")
        gemm = node.op_type == "Gemm"
        if gemm and self._get(node, "transA", 0):
            raise self._refused(node, "transA must be 0: samples are rows")
        transposed = bool(gemm and self._get(node, "transB", 0))
        shape = self._constants.shape(node.input[1])
        if len(shape) != 2:
            raise self._refused(node, f"its weights have shape {list(shape)}: give a matrix")
        inputs, outputs = shape[::-1] if transposed else shape
        if self._layers and self._layers[-1].outputs != inputs:
            raise self._refused(
                node, f"its weights take {inputs:,} inputs, the layer before has {self._layers[-1].outputs:,}"
            )
        alpha = np.float32(self._get(node, "alpha", 1.0)) if gemm else np.float32(1)
        name = node.input[1]

        def weight() -> NDArray[Any]:
            values = self._constants.read(name)
            return _scaled(values if transposed else values.T, alpha)

        where = f"{self._path}: layer {len(self._layers)}, {_node(node)}"
        self._layers.append(_Layer(where, weight, int(outputs)))
        if gemm and len(node.input) > 2 and node.input[2]:
            self._bias(node, node.input[2], np.float32(self._get(node, "beta", 1.0)))

    def _add(self, node: Any, current: str) -> None:
        others = [name for name in node.input if name != current]
        if len(others) != 1 or others[0] not in self._constants:
            raise self._refused(node, "one of its inputs must be a constant, the bias")
        self._bias(node, others[0], np.float32(1))

    def _bias(self, node: Any, name: str, factor: np.float32) -> None:
        layer = self._last(node)
        if layer.activation is not None or layer.clipped:
            raise self._refused(node, "a bias must come before the activation")
        shape = self._constants.shape(name)
        size = int(np.prod(shape, dtype=np.int64))
        if size not in (1, layer.outputs) or max(shape, default=1) != size or len(shape) > 2:
            raise self._refused(
                node, f"its bias has shape {list(shape)}: give one for each of {layer.outputs:,} outputs"
            )
        if len(shape) == 2 and shape[0] != 1:
            raise self._refused(node, f"its bias has shape {list(shape)}: a sample each is no bias")
        layer.bias.append(lambda: _scaled(self._constants.read(name), factor).reshape(-1 if size > 1 else ()))

    def _activate(self, node: Any, activation: str) -> _Layer:
        layer = self._last(node)
        if layer.activation is not None or layer.clipped:
            raise self._refused(node, "a layer has one activation, and then at most Clip")
        layer.activation = activation
        return layer

    def _clip(self, node: Any) -> None:
        layer = self._last(node)
        if layer.clipped:
            raise self._refused(node, "a layer has one Clip")
        layer.clipped = True
        layer.lo, layer.hi = (self._bound(node, place, name) for place, name in ((1, "min"), (2, "max")))

    def _bound(self, node: Any, place: int, attribute: str) -> float | None:
        """Of a Clip: an input, or before opset 11 an attribute."""
        if len(node.input) <= place or not node.input[place]:
            given = self._get(node, attribute, None)
            return None if given is None else float(given)
        if node.input[place] not in self._constants:
            raise self._refused(node, f"{attribute} must be a constant")
        values = self._constants.read(node.input[place])
        if values.size != 1:
            raise self._refused(node, f"{attribute} must be one number")
        value = float(values.reshape(()))
        return None if np.isinf(value) else value

    def _reshape(self, node: Any) -> None:
        if len(node.input) != 2 or node.input[1] not in self._constants:
            raise self._refused(node, "the shape must be a constant")
        shape = self._constants.read(node.input[1]).tolist()
        width = self._layers[-1].outputs if self._layers else None
        # 0 keeps the number of samples, -1 makes it what is left.
        whole = len(shape) == 2 and (
            (shape[0] in (0, 1) and shape[1] == -1)
            or (shape[0] in (-1, 0, 1) and shape[1] > 0 and width in (None, shape[1]))
        )
        if not whole:
            raise self._refused(node, f"shape {shape} must be samples x features: give [0, -1]")
        self._is_flat = True

    def _last(self, node: Any) -> _Layer:
        if not self._layers:
            raise self._refused(node, "it comes before the first MatMul or Gemm: apply it to the samples")
        return self._layers[-1]

    def _get(self, node: Any, name: str, default: Any) -> Any:
        return next((self._attribute(each) for each in node.attribute if each.name == name), default)

    def _name(self, node: Any) -> str:
        return f"{self._path}: {_node(node)}"

    def _refused(self, node: Any, why: str) -> ModelError:
        return ModelError(f"{self._name(node)} is not supported: {why}")


def _node(node: Any) -> str:
    return f"node {node.name or node.output[0]!r} ({node.op_type})"


def _scaled(values: NDArray[Any], factor: np.float32) -> NDArray[Any]:
    return values if factor == 1 else np.asarray(values, np.float32) * factor
