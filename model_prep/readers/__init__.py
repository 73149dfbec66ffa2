"""What ``lamella prep`` can read: one module per format, and the choice between them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import EllipsisType

from lamella.errors import ModelError
from lamella.manifest import MANIFEST
from model_prep.alive import AliveNet
from model_prep.radixnet import RadixNet
from model_prep.readers import bare_files, described, graph_challenge, onnx_file, safetensors_file
from model_prep.readers.matrix_file import SUFFIXES, is_matrix
from model_prep.source import Source, SourceLayer, check_softmax, checked_activation, finite_float32

_GENERATORS: dict[str, Callable[[int, int], Source]] = {
    "radixnet": lambda neurons, layers: RadixNet(neurons, layers).source(),
    "alive": lambda neurons, layers: AliveNet(neurons, layers).source(),
}
_FORMATS = (
    f"a Graph Challenge folder, a folder with model.json or layers ({', '.join(SUFFIXES)}), .safetensors, "
    ".onnx"
)


def open_source(
    text: str,
    *,
    bias: float | None = None,
    activation: str | None = None,
    lo: float | EllipsisType | None = ...,
    hi: float | EllipsisType | None = ...,
) -> Source:
    """Open a model for reading, whatever its format.

    Parameters
    ----------
    text
        A path; or ``radixnet:NxL``, a Graph Challenge network of N neurons and L layers; or ``alive:NxL``, an
        unstructured one in which no sample dies.
    bias, activation, lo, hi
        Override what the source says, for every layer; None for lo and hi means no bound.

    Raises
    ------
    ModelError
        If there is nothing there, or not in a format that can be read.
    """
    source = _opened(text, bias)
    if bias is None and activation is None and lo is ... and hi is ...:
        return source
    constant = None if bias is None else finite_float32(bias, "bias")
    lowest = finite_float32(lo, "lo") if isinstance(lo, int | float) else lo
    highest = finite_float32(hi, "hi") if isinstance(hi, int | float) else hi
    chosen = None if activation is None else checked_activation(activation)

    def read(k: int) -> SourceLayer:
        layer = source.read(k)
        low = layer.lo if isinstance(lowest, EllipsisType) else lowest
        high = layer.hi if isinstance(highest, EllipsisType) else highest
        if low is not None and high is not None and low > high:
            raise ModelError(f"{layer.name}: lo {low} is above hi {high}: give both")
        check_softmax(layer.name, chosen or layer.activation, low, high)
        return replace(
            layer,
            bias=layer.bias if constant is None else constant,
            activation=chosen or layer.activation,
            lo=low,
            hi=high,
        )

    return replace(source, read=read)


def _opened(text: str, bias: float | None) -> Source:
    generator, colon, _ = text.partition(":")
    if colon and generator in _GENERATORS:
        return _GENERATORS[generator](*_size(text))
    path = Path(text).expanduser()
    if path.is_dir():
        return _opened_folder(path, bias)
    if not path.exists():
        names = " or ".join(f"{name}:1024x120" for name in _GENERATORS)
        raise ModelError(f"there is no {text}: give {_FORMATS}, or {names}")
    if path.suffix == ".safetensors":
        return safetensors_file.open_file(path)
    if path.suffix == onnx_file.SUFFIX:
        return onnx_file.open_file(path)
    if is_matrix(path):
        return bare_files.open_files(path.name, [path])
    raise ModelError(f"{text} is in no known format: give {_FORMATS}")


def _opened_folder(folder: Path, bias: float | None) -> Source:
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise ModelError(f"can't read {folder}: {error.strerror}") from error
    if MANIFEST in names:
        raise ModelError(f"{folder} is a prepared model already: run it, or give the source it was made from")
    if described.DESCRIPTION in names:
        return described.open_folder(folder)
    if graph_challenge.holds_layers(folder):
        return graph_challenge.open_folder(folder, bias)
    if described.TENSORS in names:
        return safetensors_file.open_file(folder / described.TENSORS)
    matrices = [path for path in folder.iterdir() if path.is_file() and is_matrix(path)]
    if matrices:
        return bare_files.open_files(folder.name, matrices)
    inner = [path for path in folder.iterdir() if path.is_dir() and graph_challenge.holds_layers(path)]
    if len(inner) == 1:
        return graph_challenge.open_folder(inner[0], bias)
    if inner:
        raise ModelError(f"{folder} holds {len(inner)} networks: give one of them, such as {min(inner)}")
    networks = sorted(name for name in names if name.endswith(onnx_file.SUFFIX))
    if len(networks) == 1:
        return onnx_file.open_file(folder / networks[0])
    if networks:
        raise ModelError(f"{folder} holds {len(networks)} networks: give one, such as {folder / networks[0]}")
    what = "is empty" if not names else "holds no layers"
    raise ModelError(f"{folder} {what}: give {_FORMATS}")


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"[a-z]+:(\d{1,9})x(\d{1,6})", text)
    if match is None:
        name = text.partition(":")[0]
        raise ModelError(f"{text!r} names no network: write {name}:NEURONSxLAYERS, as in {name}:1024x120")
    return int(match[1]), int(match[2])
