"""The kernel in C (lambdas/layer/kernel/kernel.c), loaded by ctypes: other threads run meanwhile."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.kernel.blocks import WIDEST, Block, Piece, aligned, pack_into, padded, shaped
from lamella.kernel.curves import NUMBERS
from lamella.kernel.interface import Layer, not_finite
from lamella.kernel.layers import DenseWeights
from lamella.numbers import BFLOAT16

_POINTER, _I32, _I64, _F32 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_float
_STORED_AS = {np.dtype("f4"): 0, np.dtype("f2"): 1, BFLOAT16: 2}


class _Layer(ctypes.Structure):
    """``struct layer`` of kernel.c."""

    _fields_ = (
        ("rows", _I64),
        ("starts", _POINTER),
        ("indices", _POINTER),
        ("values", _POINTER),
        ("bias", _POINTER),
        ("bias_per_row", _I32),
        ("bias_on_nonzero", _I32),
        ("activation", _I32),
        ("has_lo", _I32),
        ("has_hi", _I32),
        ("lo", _F32),
        ("hi", _F32),
        ("slope", _F32),
        ("stored_as", _I32),
        ("tile", _I32),
        ("columns", _I64),
        ("weights", _POINTER),
        ("positions", _POINTER),
    )


class Compiled:
    """A library made of kernel.c.

    Raises
    ------
    OSError, AttributeError
        If the file is no such library for this machine.
    """

    def __init__(self, library: Path) -> None:
        self.name = library.stem.removeprefix("liblamella-")
        loaded = ctypes.CDLL(str(library))
        self.block = loaded.lamella_block
        self.block.argtypes = (_POINTER, _I32, *[_POINTER] * 6, _I32)
        self.block.restype = _I32
        self.rows = loaded.lamella_rows
        self.rows.argtypes = (_POINTER, _I64, _I64, _POINTER, _POINTER, _I64, _I64, _POINTER)
        self.rows.restype = _I32
        self.pack = loaded.lamella_pack
        self.pack.argtypes = (_POINTER, _I64, _POINTER, _I64, _I64, _POINTER, _I64)
        self.pack.restype = None

    def bind(self, layers: Sequence[Layer]) -> CompiledLayers:
        """Layers as the library takes them."""
        return CompiledLayers(self, layers)


class CompiledLayers:
    """Layers as C structures."""

    def __init__(self, kernel: Compiled, layers: Sequence[Layer]) -> None:
        self._kernel, self._layers = kernel, layers
        self._widest = max(max(layer.rows, layer.columns) for layer in layers)
        self._spare: deque[tuple[NDArray[np.float32], NDArray[np.float32]]] = deque()
        self._held: list[NDArray[np.generic]] = []  # what the structures point to
        self._structures = (_Layer * len(layers))(*map(self._structure, layers))

    def _structure(self, layer: Layer) -> _Layer:
        made = _Layer(
            rows=layer.rows,
            bias=self._address(np.atleast_1d(layer.bias), np.float32),
            bias_per_row=isinstance(layer.bias, np.ndarray),
            bias_on_nonzero=layer.bias_on_nonzero,
            activation=NUMBERS[layer.activation],
            has_lo=layer.lo is not None,
            has_hi=layer.hi is not None,
            lo=0 if layer.lo is None else layer.lo,
            hi=0 if layer.hi is None else layer.hi,
            slope=layer.slope,
        )
        if isinstance(layer, DenseWeights):
            made.stored_as, made.tile = _STORED_AS[layer.values.dtype], layer.band
            made.columns = layer.inputs
            made.weights = self._address(layer.values, layer.values.dtype)
            if layer.positions is not None:
                made.positions = self._address(layer.positions, np.int32)
        else:
            made.starts = self._address(layer.starts, np.int32)
            made.indices = self._address(layer.indices, np.int32)
            made.values = self._address(layer.values, np.float32)
        return made

    def _address(self, array: NDArray[np.generic], dtype: type[np.generic] | np.dtype[Any]) -> int:
        held = np.ascontiguousarray(array, dtype)
        self._held.append(held)
        return held.ctypes.data

    def _at(self, number: int) -> int:
        return ctypes.addressof(self._structures) + number * ctypes.sizeof(_Layer)

    def through(
        self, pieces: Sequence[Piece], out: NDArray[np.float32], first: int, stop: int, *, drop: bool
    ) -> Block:
        layers = self._layers[first:stop]
        width = _I64(sum(piece.stop - piece.start for piece in pieces))
        stride = _I64(padded(width.value))
        assert stride.value <= WIDEST
        columns, keep = np.empty((2, width.value), np.int32)
        with self._scratch(stride.value) as (x, y):
            live = pack_into(shaped(x, layers[0].columns, stride.value), pieces)
            done = self._kernel.block(
                self._at(first),
                len(layers),
                x.ctypes.data,
                y.ctypes.data,
                ctypes.addressof(width),
                ctypes.addressof(stride),
                columns.ctypes.data,
                keep.ctypes.data,
                drop,
            )
            if done < 0:
                raise not_finite(layers[-1 - done])
            values = shaped(out, layers[-1].rows, padded(width.value))
            if values.size:
                source = y if done % 2 else x
                self._kernel.pack(
                    source.ctypes.data,
                    stride.value,
                    values.ctypes.data,
                    values.shape[1],
                    len(values),
                    keep.ctypes.data,
                    width.value,
                )
        return Block(live[columns[: width.value]], values)

    @contextmanager
    def _scratch(self, stride: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Two buffers that stay in cache from one block to the next; not while another thread has them."""
        try:
            pair = self._spare.pop()
        except IndexError:
            pair = None
        if pair is None or pair[0].shape[1] < stride:
            pair = (aligned(self._widest, stride), aligned(self._widest, stride))
        yield pair
        self._spare.append(pair)

    def rows(
        self, number: int, block: Block, out: NDArray[np.float32], first: int, stop: int
    ) -> NDArray[np.bool_]:
        alive = np.empty(block.width, np.bool_)
        wrong = self._kernel.rows(
            self._at(number),
            first,
            stop,
            block.values.ctypes.data,
            out.ctypes.data,
            block.width,
            block.stride,
            alive.ctypes.data,
        )
        if wrong:
            raise not_finite(self._layers[number])
        return alive
