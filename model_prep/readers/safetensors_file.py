"""Models in one .safetensors file: ``layers.{k}.weight`` and ``.bias``, with or without a description."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lamella.errors import ModelError
from model_prep.readers import described
from model_prep.readers.tensors import Tensors, open_tensors
from model_prep.source import Source, SourceLayer, source_layer

if TYPE_CHECKING:
    from pathlib import Path

METADATA_KEY = "model"
_NAME = re.compile(r"layers\.(0|[1-9][0-9]{0,6})\.(weight|bias)")


def open_file(path: Path) -> Source:
    """The model in a .safetensors file.

    Raises
    ------
    ModelError
        If it is damaged, or its tensors aren't those of layers 0, 1, 2, ...
    """
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
