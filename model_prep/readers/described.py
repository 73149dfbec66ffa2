"""Models that a ``model.json`` describes: for each layer its weights, bias, activation and bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lamella.errors import InputError, ModelError
from lamella.files import checked_path
from model_prep.readers.matrix_file import SUFFIXES, read_matrix, read_vector
from model_prep.readers.tensors import Tensors, open_tensors
from model_prep.source import Source, SourceLayer, source_layer

if TYPE_CHECKING:
    from pathlib import Path

DESCRIPTION = "model.json"
TENSORS = "model.safetensors"


class LayerDescription(BaseModel):
    """One layer of a model.json; ``weight`` and ``bias`` name a file, or a tensor in model.safetensors."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)

    weight: str
    bias: float | str | None = None
    bias_on: Literal["all", "nonzero"] = "all"
    activation: str = "relu"
    lo: float | None = None
    hi: float | None = None
    slope: float | None = None


class ModelDescription(BaseModel):
    """A model.json."""

    layers: Annotated[list[LayerDescription], Field(min_length=1)]


def parse_description(text: str | bytes, where: str) -> ModelDescription:
    """Read and check a description.

    Raises
    ------
    ModelError
        If it isn't JSON, or not of this form; names the first field that is wrong.
    """
    try:
        return ModelDescription.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"{where}: {f'{field}: ' if field else ''}{first['msg']}: correct it") from error


def open_folder(folder: Path) -> Source:
    """The model that ``model.json`` in a folder describes.

    Raises
    ------
    ModelError
        If it can't be read, or names files that aren't there or lie outside the folder.
    """
    path = folder / DESCRIPTION
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ModelError(f"can't read {path}: {error.strerror}") from error
    model = parse_description(text, str(path))
    named = [name for layer in model.layers for name in (layer.weight, layer.bias) if isinstance(name, str)]
    tensors = None if all(map(_is_file, named)) else open_tensors(folder / TENSORS)
    return source_of(folder.resolve().name, str(path), model, folder, tensors)


def source_of(
    description: str, where: str, model: ModelDescription, folder: Path, tensors: Tensors | None
) -> Source:
    """A described model as a source.

    Parameters
    ----------
    where
        Where the description stands, for messages.
    folder, tensors
        Where its files, and its tensors, are.
    """
    for k, layer in enumerate(model.layers):
        for name in (layer.weight, layer.bias):
            if isinstance(name, str):
                _check_exists(name, f"{where}: layer {k}", folder, tensors)

    def read(k: int) -> SourceLayer:
        layer = model.layers[k]
        bias: object = layer.bias
        if isinstance(bias, str):
            named = f"{where}: layer {k}, bias: {folder / bias}"
            bias = read_vector(folder / bias, named) if _is_file(bias) else _tensor(bias, tensors)
        named = f"{where}: layer {k}: {folder / layer.weight}"
        weight = (
            read_matrix(folder / layer.weight, named)
            if _is_file(layer.weight)
            else _tensor(layer.weight, tensors)
        )
        return source_layer(
            f"{where}: layer {k} ({layer.weight})",
            weight,
            bias=bias,
            bias_on=layer.bias_on,
            activation=layer.activation,
            lo=layer.lo,
            hi=layer.hi,
            slope=layer.slope,
        )

    return Source(description, read(0).inputs, len(model.layers), read)


def _is_file(name: str) -> bool:
    return name.endswith(SUFFIXES)


def _tensor(name: str, tensors: Tensors | None) -> object:
    assert tensors is not None, name
    return tensors.read(name)


def _check_exists(name: str, where: str, folder: Path, tensors: Tensors | None) -> None:
    if _is_file(name):
        try:
            checked_path(name)
        except InputError as error:
            raise ModelError(f"{where}: {error}") from error
        try:
            inside, there = (
                (folder / name).resolve().is_relative_to(folder.resolve()),
                (folder / name).is_file(),
            )
        except (OSError, RuntimeError) as error:  # too long, or links in a circle
            raise ModelError(f"{where}: no file has the name {name[:60]!r}: correct it") from error
        if not inside:
            raise ModelError(f"{where}: {folder / name} leads out of the model's folder: copy it there")
        if not there:
            raise ModelError(f"{where}: there is no {folder / name}: restore it, or correct the name")
    elif tensors is None or name not in tensors.names:
        raise ModelError(
            f"{where}: {name!r} is neither a file ({', '.join(SUFFIXES)}) nor a tensor beside it"
        )
