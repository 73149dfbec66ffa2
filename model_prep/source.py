"""Where the weights of a model come from: layers that are read one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lamella.errors import ModelError

Activation = Literal["relu", "identity"]
BiasOn = Literal["all", "nonzero"]
Bias: TypeAlias = float | NDArray[np.float32]
Weight: TypeAlias = "sparse.csr_array[np.float32, tuple[int, int]]"


@dataclass(frozen=True, eq=False)
class SourceLayer:
    """One layer as its source gives it: ``x' = clip(activation(weight x + bias), lo, hi)``.

    Attributes
    ----------
    name
        File or tensor it was read from, for messages.
    weight : (outputs, inputs) float32
        Columns ascending within a row, no duplicates, no explicit zeros (a zero weight of either sign adds
        nothing to a sum that starts at +0).
    bias
        One number, or one per output.
    bias_on
        ``nonzero``: added only where ``weight x`` is not zero.
    """

    name: str
    weight: Weight
    bias: Bias = 0.0
    bias_on: BiasOn = "all"
    activation: Activation = "relu"
    lo: float | None = None
    hi: float | None = None

    @property
    def outputs(self) -> int:
        """Rows of the weights."""
        return int(self.weight.shape[0])

    @property
    def inputs(self) -> int:
        """Columns of the weights."""
        return int(self.weight.shape[1])


@dataclass(frozen=True)
class Source:
    """A model that can be read layer by layer, again and again.

    Attributes
    ----------
    description
        What it is, in words; the same wherever the files lie.
    features
        Inputs of the first layer.
    layers
        How many there are.
    read
        Gives layer k, counted from 0; raises `ModelError`.
    """

    description: str
    features: int
    layers: int
    read: Callable[[int], SourceLayer]

    def layer(self, k: int) -> SourceLayer:
        """Layer k, counted from 0."""
        return self.read(k)

    def __iter__(self) -> Iterator[SourceLayer]:
        """The layers in order, one in memory at a time.

        Raises
        ------
        ModelError
            If one can't be read, or doesn't take what the one before gives.
        """
        width = self.features
        for k in range(self.layers):
            layer = self.read(k)
            if layer.inputs != width:
                before = f"layer {k - 1} has {width} rows" if k else f"the model has {width} features"
                raise ModelError(
                    f"{layer.name}: layer {k} has {layer.inputs} columns, but {before}: "
                    "weights must be outputs x inputs, and layers in order"
                )
            width = layer.outputs
            yield layer


def source_layer(
    name: str,
    weight: object,
    *,
    bias: object = None,
    bias_on: BiasOn = "all",
    activation: str = "relu",
    lo: float | None = None,
    hi: float | None = None,
) -> SourceLayer:
    """Bring a layer into the form that `SourceLayer` describes.

    Parameters
    ----------
    weight
        A scipy sparse matrix or array of any format, or a dense array; outputs x inputs.
    bias
        None, a number, or an array of one number per output.

    Raises
    ------
    ModelError
        If a weight is given twice or isn't finite in float32, the bias doesn't fit, or the activation isn't
        known.
    """
    checked = checked_weight(name, weight)
    if activation not in get_args(Activation):
        known = ", ".join(get_args(Activation))
        raise ModelError(f"{name}: activation {activation!r} is not supported: use one of {known}")
    if bias_on not in get_args(BiasOn):
        raise ModelError(f"{name}: bias_on is {bias_on!r}: use one of {', '.join(get_args(BiasOn))}")
    lo = None if lo is None else finite_float32(lo, f"{name}: lo")
    hi = None if hi is None else finite_float32(hi, f"{name}: hi")
    if lo is not None and hi is not None and lo > hi:
        raise ModelError(f"{name}: lo {lo} is above hi {hi}: swap them")
    outputs = int(checked.shape[0])
    return SourceLayer(
        name, checked, _checked_bias(name, bias, outputs), bias_on, cast("Activation", activation), lo, hi
    )


def finite_float32(value: float, what: str) -> float:
    """A number rounded to float32.

    Raises
    ------
    ModelError
        If it is NaN, infinite, or beyond float32; ``what`` says which number it is.
    """
    with np.errstate(over="ignore"):
        rounded = float(np.float32(value))
    if not np.isfinite(rounded):
        raise ModelError(f"{what} is {value}: give a finite number")
    return rounded


def checked_weight(name: str, weight: object) -> Weight:
    """A matrix as float32 CSR: sorted, without duplicates or explicit zeros.

    Raises
    ------
    ModelError
        If it isn't a matrix of real numbers, an index is out of range, an entry is there twice, or a weight
        is NaN, infinite, or beyond float32.
    """
    if sparse.issparse(weight):
        csr = _checked_sparse(name, weight)
    else:
        dense = np.asarray(weight)
        if dense.dtype.kind not in "fiub":
            raise ModelError(f"{name}: holds {dense.dtype} values: weights must be real numbers")
        if dense.ndim != 2:
            raise ModelError(
                f"{name}: has shape {_shape(dense.shape)}: weights must be a matrix, outputs x inputs"
            )
        # scipy knows no float16.
        with np.errstate(over="ignore"):
            csr = sparse.csr_array(dense.astype(np.float32))
    if 0 in csr.shape:
        raise ModelError(f"{name}: has shape {_shape(csr.shape)}: a layer needs outputs and inputs")
    if csr.dtype.kind not in "fiub":
        raise ModelError(f"{name}: holds {csr.dtype} values: weights must be real numbers")
    with np.errstate(over="ignore"):
        data = csr.data.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(data))
    if len(bad):
        row = int(np.searchsorted(csr.indptr, bad[0], side="right")) - 1
        raise ModelError(
            f"{name}: the weight of output {row + 1}, input {csr.indices[bad[0]] + 1} is {csr.data[bad[0]]}, "
            "not a finite float32: repair the model"
        )
    small = max(*csr.shape, csr.nnz) < 2**31
    index = np.int32 if small else np.int64
    result = sparse.csr_array((data, csr.indices.astype(index), csr.indptr.astype(index)), shape=csr.shape)
    result.eliminate_zeros()
    return cast("Weight", result)


def _checked_sparse(name: str, matrix: Any) -> Any:
    if matrix.ndim != 2:
        raise ModelError(
            f"{name}: has shape {_shape(matrix.shape)}: weights must be a matrix, outputs x inputs"
        )
    try:
        if matrix.format in ("csr", "csc", "bsr"):
            matrix.check_format(full_check=True)
        elif matrix.format == "coo":
            _check_coordinates(matrix)
    except ValueError as error:
        raise ModelError(f"{name}: is not a valid sparse matrix ({error}): write it again") from error
    if matrix.format == "coo":
        # Conversion sums what is given twice, so duplicates show in the count.
        csr = sparse.csr_array(matrix)
        if csr.nnz != matrix.nnz:
            at = np.ravel_multi_index(matrix.coords, matrix.shape)
            values, counts = np.unique(at, return_counts=True)
            raise _duplicate(name, *divmod(int(values[counts > 1][0]), matrix.shape[1]))
        csr.sort_indices()
        return csr
    csr = sparse.csr_array(matrix, copy=True)
    csr.sort_indices()
    repeated = np.diff(csr.indices) == 0
    inner = csr.indptr[1:-1]
    repeated[inner[(inner > 0) & (inner < csr.nnz)] - 1] = False
    if repeated.any():
        entry = int(np.flatnonzero(repeated)[0])
        raise _duplicate(
            name, int(np.searchsorted(csr.indptr, entry, side="right")) - 1, int(csr.indices[entry])
        )
    return csr


def _check_coordinates(matrix: Any) -> None:
    for axis, size in zip(matrix.coords, matrix.shape, strict=True):
        if len(axis) and (axis.min() < 0 or axis.max() >= size):
            raise ValueError(f"an index lies outside of {_shape(matrix.shape)}")


def _duplicate(name: str, row: int, column: int) -> ModelError:
    return ModelError(f"{name}: the weight of output {row + 1}, input {column + 1} is given twice: keep one")


def _checked_bias(name: str, bias: object, outputs: int) -> Bias:
    if bias is None:
        return 0.0
    given = np.asarray(bias)
    if given.dtype.kind not in "fiub":
        raise ModelError(f"{name}: the bias holds {given.dtype} values: it must be real numbers")
    with np.errstate(over="ignore"):
        values = given.astype(np.float32)
    if not np.isfinite(values).all():
        raise ModelError(f"{name}: the bias is not finite: repair the model")
    if values.ndim == 0:
        return float(values)
    if values.size != outputs or max(values.shape) != outputs:
        raise ModelError(
            f"{name}: the bias has shape {_shape(values.shape)}, the weights have {outputs} rows: "
            "give one per row"
        )
    return values.reshape(-1)


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape) or "scalar"
