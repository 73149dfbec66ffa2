"""Models in one .safetensors file: ``layers.{k}.weight`` and ``.bias``, with or without a description."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from lamella.errors import ModelError
from model_prep.source import Source, SourceLayer, source_layer

if TYPE_CHECKING:
    from pathlib import Path

METADATA_KEY = "model"
_NAME = re.compile(r"layers\.(0|[1-9][0-9]{0,6})\.(weight|bias)")


@dataclass(frozen=True)
class Tensors:
    """The tensors of a .safetensors file, read one at a time."""

    path: Path
    names: frozenset[str]
    metadata: dict[str, str]

    def read(self, name: str) -> NDArray[Any]:
        """One tensor.

        Raises
        ------
        ModelError
            If there is none of that name, or numpy has no such type.
        """
        if name not in self.names:
            raise ModelError(f"{self.path} holds no tensor {name!r}: name one of {_some(self.names)}")
        with safe_open(self.path, framework="numpy") as file:
            dtype = file.get_slice(name).get_dtype()
            if dtype == "BF16":
                return self._bfloat16(name)
            try:
                return np.asarray(file.get_tensor(name))
            except (AttributeError, SafetensorError, TypeError, ValueError) as error:
                raise ModelError(
                    f"{self.path}: tensor {name!r} is {dtype}: store it as F32, F16, BF16, or F64"
                ) from error

    def _bfloat16(self, name: str) -> NDArray[np.float32]:
        # numpy has no such type; it is the upper half of a float32.
        with self.path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(length))[name]
            start, stop = entry["data_offsets"]
            file.seek(8 + length + start)
            halves = np.frombuffer(file.read(stop - start), "<u2")
        return (halves.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


def open_tensors(path: Path) -> Tensors:
    """Open a .safetensors file.

    Raises
    ------
    ModelError
        If there is none, or it is damaged.
    """
    if not path.is_file():
        raise ModelError(f"there is no {path}: restore it, or name the tensors' file model.safetensors")
    try:
        with safe_open(path, framework="numpy") as file:
            return Tensors(path, frozenset(file.keys()), file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is not a whole .safetensors file ({error}): copy or export it again"
        ) from error


def open_file(path: Path) -> Source:
    """The model in a .safetensors file.

    Raises
    ------
    ModelError
        If it is damaged, or its tensors aren't those of layers 0, 1, 2, ...
    """
    # Descriptions name tensors, so each module knows the other.
    from model_prep.readers import described

    beside = path.with_name(described.DESCRIPTION)
    if path.name == described.TENSORS and beside.is_file():
        return described.open_folder(path.parent)
    tensors = open_tensors(path)
    if METADATA_KEY in tensors.metadata:
        where = f"{path}, metadata key {METADATA_KEY!r}"
        model = described.parse_description(tensors.metadata[METADATA_KEY], where)
        return described.source_of(path.name, where, model, path.parent, tensors)
    return _undescribed(path.name, tensors)


def _undescribed(description: str, tensors: Tensors) -> Source:
    weights: set[int] = set()
    biases: set[int] = set()
    for name in sorted(tensors.names):
        match = _NAME.fullmatch(name)
        if match is None:
            raise ModelError(
                f"{tensors.path}: tensor {name!r} is neither layers.K.weight nor layers.K.bias: "
                "rename it, or describe the model in a model.json"
            )
        (weights if match[2] == "weight" else biases).add(int(match[1]))
    if not weights:
        raise ModelError(
            f"{tensors.path} holds no layers: tensors must be named layers.0.weight, layers.1.weight, ..."
        )
    for k in range(max(weights | biases) + 1):
        if k not in weights:
            raise ModelError(
                f"{tensors.path} has no layers.{k}.weight, but layers up to {max(weights | biases)}"
            )

    def read(k: int) -> SourceLayer:
        bias = tensors.read(f"layers.{k}.bias") if k in biases else None
        return source_layer(f"{tensors.path} layers.{k}", tensors.read(f"layers.{k}.weight"), bias=bias)

    return Source(description, read(0).inputs, len(weights), read)


def _some(names: frozenset[str]) -> str:
    shown = sorted(names)[:5]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")
