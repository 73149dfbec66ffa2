"""Folders as the MIT/IEEE/Amazon Sparse DNN Graph Challenge has them: ``n{N}-l{k}.tsv``, one edge a line.

A line is from-neuron, to-neuron, weight, 1-based. The challenge defines the rest: a bias by N, added where
``W x`` is not zero, ReLU, and at most 32.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from typing import TYPE_CHECKING

import scipy.io
from scipy import sparse

from lamella.errors import ModelError
from model_prep.radixnet import BIASES, CLIP
from model_prep.readers import bounds
from model_prep.source import Source, SourceLayer, source_layer

if TYPE_CHECKING:
    from pathlib import Path

_NAME = re.compile(r"n([1-9][0-9]{0,8})-l([0-9]{1,6})\.tsv(?:\.gz)?")
_HEADER_LINES = 2
_PIECE_BYTES = 16 << 20
_NUMBERS = b"0123456789.+-eEnaNifIF"


def holds_layers(folder: Path) -> bool:
    """Whether a folder has any of the challenge's layer files."""
    return any(_NAME.fullmatch(path.name) for path in folder.iterdir())


def open_folder(folder: Path, bias: float | None = None) -> Source:
    """The layers of one network.

    Parameters
    ----------
    bias
        The challenge's for its own sizes, if it isn't given.

    Raises
    ------
    ModelError
        If layers are missing, there twice, or of several networks, or the bias isn't known.
    """
    found: dict[int, Path] = {}
    sizes: set[int] = set()
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        sizes.add(int(match[1]))
        layer = int(match[2])
        if layer in found and len(sizes) == 1:
            raise ModelError(
                f"{folder} holds layer {layer} twice, {found[layer].name} and {path.name}: keep one"
            )
        found[layer] = path
    if len(sizes) > 1:
        several = ", ".join(str(size) for size in sorted(sizes))
        raise ModelError(f"{folder} mixes networks of {several} neurons: give each a folder of its own")
    neurons = sizes.pop()
    for layer in range(1, len(found) + 1):
        if layer not in found:
            raise ModelError(
                f"{folder} has no n{neurons}-l{layer}.tsv, but layers up to {max(found)}: "
                "layers must be 1, 2, 3, ..."
            )
    if bias is None and neurons not in BIASES:
        raise ModelError(
            f"{folder}: the Graph Challenge has no bias for {neurons} neurons: give one with --bias"
        )
    used = BIASES[neurons] if bias is None else bias

    def read(k: int) -> SourceLayer:
        path = found[k + 1]
        matrix = parse_edges(_content(path), neurons, str(path))
        return source_layer(str(path), matrix, bias=used, bias_on="nonzero", hi=CLIP)

    description = f"Graph Challenge {folder.resolve().name}: {neurons} neurons x {len(found)} layers"
    return Source(description, neurons, len(found), read)


def _content(path: Path) -> bytes:
    try:
        if path.suffix != ".gz":
            return path.read_bytes()
        whole = bytearray()
        with gzip.open(path) as stream:
            # Asked for all at once, it would take memory for all that there might be.
            while piece := stream.read(_PIECE_BYTES):
                whole += piece
                bounds.check_fits(str(path), len(whole))
        return bytes(whole)
    except (OSError, EOFError, zlib.error) as error:
        raise ModelError(f"can't read {path}: {error}: download it again") from error


def parse_edges(data: bytes, neurons: int, name: str) -> sparse.coo_array:
    """Lines of from-neuron, to-neuron, weight as a matrix, to x from.

    Raises
    ------
    ModelError
        If a line isn't that, or a neuron isn't among 1 to ``neurons``.
    """
    expected = "each line must be from-neuron, to-neuron, weight, tab-separated"
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    data = data.rstrip()
    if not data:
        raise ModelError(f"{name} is empty: {expected}")
    between = data.translate(None, _NUMBERS)
    lines = between.count(b"\n") + 1
    # The parser below passes over what follows a line's third number.
    if len(between) != 3 * lines - 1 or between.translate(None, b"\t \n"):
        raise ModelError(f"{name}: {_odd_line(data)}: {expected}")
    # These lines are the body of a Matrix Market file, for which scipy has a parser in C++.
    header = f"%%MatrixMarket matrix coordinate real general\n{neurons} {neurons} {lines}\n"
    try:
        # The parser reads beyond the end of a last line without a line break that has more than its number.
        edges = sparse.coo_array(scipy.io.mmread(io.BytesIO(header.encode() + data + b"\n")))
    except (ValueError, OverflowError) as error:
        raise ModelError(f"{name}: {_explained(str(error), neurons)}: {expected}") from error
    sources, targets = edges.coords
    return sparse.coo_array((edges.data, (targets, sources)), shape=edges.shape)


def _odd_line(data: bytes) -> str:
    for number, line in enumerate(data.split(b"\n"), 1):
        if not re.fullmatch(rb"[0-9]+[\t ][0-9]+[\t ][-+0-9.eEnaNifIF]+", line):
            return f"line {number} is {line[:60].decode(errors='replace')!r}"
    return "a line is malformed"


def _explained(error: str, neurons: int) -> str:
    match = re.match(r"Line (\d+): (.*)", error)
    if match is None:
        return error.rstrip(".")
    what = match[2].rstrip(".")
    if "out of bounds" in what or "out of range" in what:
        what = f"a neuron is not among 1 to {neurons}"
    return f"line {int(match[1]) - _HEADER_LINES}: {what}"
