"""The constant tensors of an .onnx file, read one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lamella.errors import InputError, ModelError
from lamella.files import checked_path
from lamella.numbers import BFLOAT16

if TYPE_CHECKING:
    from pathlib import Path


class Constants:
    """Initializers, outputs of Constant nodes, and those of both that Identity or Transpose made.

    Parameters
    ----------
    onnx
        The package.

    Raises
    ------
    ModelError
        If the graph has sparse initializers.
    """

    def __init__(self, path: Path, graph: Any, onnx: Any) -> None:
        self._path = path
        self._onnx = onnx
        if graph.sparse_initializer:
            name = graph.sparse_initializer[0].values.name
            raise ModelError(
                f"{path}: initializer {name!r} is sparse: export it dense, or the layers as .npz"
            )
        self._tensors: dict[str, Any] = {each.name: each for each in graph.initializer}
        self._transposed: dict[str, bool] = dict.fromkeys(self._tensors, False)
        for node in graph.node:
            self._follow(node)

    def _follow(self, node: Any) -> None:
        if node.op_type == "Constant":
            tensor = next((each.t for each in node.attribute if each.name == "value"), None)
            if tensor is not None:
                self._tensors[node.output[0]], self._transposed[node.output[0]] = tensor, False
                return
            for each in node.attribute:
                if each.name in ("value_float", "value_floats", "value_int", "value_ints"):
                    value = np.array(self._onnx.helper.get_attribute_value(each))
                    kind = np.float32 if "float" in each.name else np.int64
                    self._tensors[node.output[0]] = self._onnx.numpy_helper.from_array(value.astype(kind))
                    self._transposed[node.output[0]] = False
        elif node.op_type in ("Identity", "Transpose") and node.input[0] in self._tensors:
            source = node.input[0]
            turned = node.op_type == "Transpose"
            order = [list(each.ints) for each in node.attribute if each.name == "perm"]
            if turned and (len(self._tensors[source].dims) != 2 or (order and order[0] != [1, 0])):
                return
            self._tensors[node.output[0]] = self._tensors[source]
            self._transposed[node.output[0]] = self._transposed[source] != turned

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        dims = tuple(self._tensors[name].dims)
        return dims[::-1] if self._transposed[name] else dims

    def read(self, name: str) -> NDArray[Any]:
        """One tensor's values; bfloat16 as `lamella.numbers.BFLOAT16`.

        Raises
        ------
        ModelError
            If they are damaged, or lie in a file that isn't there or is outside of the model's folder.
        """
        tensor = self._tensors[name]
        self._check_external(tensor, name)
        try:
            values: NDArray[Any] = self._onnx.numpy_helper.to_array(tensor, str(self._path.parent))
        except Exception as error:  # of onnx's own kinds, numpy's, and the system's
            what = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(
                f"{self._path}: tensor {name!r} can't be read ({what}): export the model again"
            ) from error
        if values.dtype.name == "bfloat16":
            values = values.view(np.uint16).view(BFLOAT16)
        return values.T if self._transposed[name] else values

    def _check_external(self, tensor: Any, name: str) -> None:
        if tensor.data_location != self._onnx.TensorProto.EXTERNAL:
            return
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        folder = self._path.parent.resolve()
        try:
            file = folder / checked_path(location)
        except InputError as error:
            raise ModelError(f"{self._path}: tensor {name!r}: {error}") from error
        if not file.is_file():
            raise ModelError(f"{self._path}: tensor {name!r}: there is no {file}: copy it beside the model")
        if not file.resolve().is_relative_to(folder):
            raise ModelError(
                f"{self._path}: tensor {name!r}: {file} leads out of the model's folder: copy it"
            )
