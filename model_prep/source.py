"""Where the weights of a model come from: layers that are read one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lamella.activation_names import Activation
from lamella.errors import ModelError
from lamella.manifest import MOST_ROWS
from lamella.numbers import BFLOAT16, as_float32
from model_prep.dense import DENSE_SHARE, DenseWeight

BiasOn = Literal["all", "nonzero"]
Bias: TypeAlias = float | NDArray[np.float32]
Weight: TypeAlias = "sparse.csr_array[np.float32, tuple[int, int]]"

DEFAULT_SLOPE = float(np.float32(0.01))  # of PyTorch's LeakyReLU
CLIP = "clip"  # a name for no activation but bounds


@dataclass(frozen=True, eq=False)
class SourceLayer:
    """One layer as its source gives it: ``x' = clip(activation(weight x + bias), lo, hi)``.

    Attributes
    ----------
    name
        File or tensor it was read from, for messages.
    weight : (outputs, inputs)
        Sparse: float32, columns ascending within a row, no duplicates, no explicit zeros (a zero weight of
        either sign adds nothing to a sum that starts at +0). Dense: as it was given.
    bias
        One number, or one per output.
    bias_on
        ``nonzero``: added only where ``weight x`` is not zero.
    slope
        Of ``leaky_relu``, below zero.
    """

    name: str
    weight: Weight | DenseWeight
    bias: Bias = 0.0
    bias_on: BiasOn = "all"
    activation: Activation = "relu"
    lo: float | None = None
    hi: float | None = None
    slope: float = DEFAULT_SLOPE

    @property
    def sparse_weight(self) -> Weight:
        """The weights of a sparse layer.

        Raises
        ------
        ModelError
            If it is a dense one.
        """
        if isinstance(self.weight, DenseWeight):
            raise ModelError(f"{self.name} is a dense layer: give its weights as a sparse matrix")
        return self.weight

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
            if layer.activation == "softmax" and k + 1 < self.layers:
                raise ModelError(
                    f"{layer.name}: layer {k} has softmax, which only the last layer can: "
                    "use another activation"
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
    slope: float | None = None,
) -> SourceLayer:
    """Bring a layer into the form that `SourceLayer` describes.

    Parameters
    ----------
    weight
        A scipy sparse matrix or array of any format, or a dense array; outputs x inputs. The former stays
        sparse, the latter is stored dense if as much of it as `DENSE_SHARE` is not zero.
    bias
        None, a number, or an array of one number per output.
    activation
        A name; or ``clip`` for none but the bounds.
    slope
        Of ``leaky_relu``; by default PyTorch's.

    Raises
    ------
    ModelError
        If a weight is given twice or isn't finite in float32, the bias doesn't fit, or the activation isn't
        known.
    """
    checked = checked_weight(name, weight)
    known = checked_activation(activation, f"{name}: ")
    if bias_on not in get_args(BiasOn):
        raise ModelError(f"{name}: bias_on is {bias_on!r}: use one of {', '.join(get_args(BiasOn))}")
    lo = None if lo is None else finite_float32(lo, f"{name}: lo")
    hi = None if hi is None else finite_float32(hi, f"{name}: hi")
    if lo is not None and hi is not None and lo > hi:
        raise ModelError(f"{name}: lo {lo} is above hi {hi}: swap them")
    if activation == CLIP and lo is None and hi is None:
        raise ModelError(f"{name}: activation clip has no bounds: give lo, hi or both")
    if slope is not None and known != "leaky_relu":
        raise ModelError(f"{name}: activation {activation} has no slope: leave it out, or use leaky_relu")
    check_softmax(name, known, lo, hi)
    outputs = int(checked.shape[0])
    return SourceLayer(
        name,
        checked,
        _checked_bias(name, bias, outputs),
        bias_on,
        known,
        lo,
        hi,
        DEFAULT_SLOPE if slope is None else finite_float32(slope, f"{name}: slope"),
    )


def checked_activation(name: str, where: str = "") -> Activation:
    """An activation by its name; ``clip`` is the identity, with bounds.

    Raises
    ------
    ModelError
        If there is none; says which there are.
    """
    if name == CLIP:
        return "identity"
    if name not in get_args(Activation):
        known = ", ".join([*get_args(Activation), CLIP])
        raise ModelError(f"{where}activation {name!r} is not supported: use one of {known}")
    return cast("Activation", name)


def check_softmax(name: str, activation: Activation, lo: float | None, hi: float | None) -> None:
    """Refuse bounds of what is no number of one output alone.

    Raises
    ------
    ModelError
        If softmax has bounds.
    """
    if activation == "softmax" and (lo, hi) != (None, None):
        raise ModelError(f"{name}: softmax gives probabilities, which need no lo and hi: leave them out")


def finite_float32(value: float, what: str) -> float:
    """A number rounded to float32.

    Raises
    ------
    ModelError
        If it is NaN, infinite, or beyond float32; ``what`` says which number it is.
    """
    with np.errstate(over="ignore"):
        rounded = float(np.float32(value)) + 0.0  # not -0
    if not np.isfinite(rounded):
        raise ModelError(f"{what} is {value}: give a finite number")
    return rounded


def checked_weight(name: str, weight: object) -> Weight | DenseWeight:
    """A matrix as float32 CSR: sorted, without duplicates or explicit zeros. A full dense one as it is.

    Raises
    ------
    ModelError
        If it isn't a matrix of real numbers, an index is out of range, an entry is there twice, or a weight
        is NaN, infinite, or beyond float32.
    """
    if sparse.issparse(weight):
        given: Any = weight
        _check_size(name, given.shape)
        if given.dtype.kind not in "fiub":
            raise _no_numbers(name, given.dtype)
        csr = _checked_sparse(name, given)
    else:
        dense = np.asarray(weight)
        if dense.dtype.kind not in "fiub" and dense.dtype != BFLOAT16:
            raise _no_numbers(name, dense.dtype)
        if dense.ndim != 2:
            raise ModelError(
                f"{name}: has shape {_shape(dense.shape)}: weights must be a matrix, outputs x inputs"
            )
        _check_size(name, dense.shape)
        single = as_float32(dense)
        if dense.size and np.count_nonzero(single) >= DENSE_SHARE * dense.size:
            return _checked_dense(name, dense, single)
        csr = sparse.csr_array(single)
    if 0 in csr.shape:
        raise ModelError(f"{name}: has shape {_shape(csr.shape)}: a layer needs outputs and inputs")
    with np.errstate(over="ignore"):
        data = csr.data.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(data))
    if len(bad):
        row = int(np.searchsorted(csr.indptr, bad[0], side="right")) - 1
        raise _not_finite(name, row, int(csr.indices[bad[0]]), csr.data[bad[0]])
    small = max(*csr.shape, csr.nnz) < 2**31
    index = np.int32 if small else np.int64
    result = sparse.csr_array((data, csr.indices.astype(index), csr.indptr.astype(index)), shape=csr.shape)
    result.eliminate_zeros()
    return cast("Weight", result)


def _checked_dense(name: str, given: NDArray[Any], single: NDArray[np.float32]) -> DenseWeight:
    bad = np.argwhere(~np.isfinite(single))
    if len(bad):
        row, column = bad[0].tolist()
        raise _not_finite(name, row, column, given[row, column])
    half = given.dtype == BFLOAT16 or given.dtype.newbyteorder("=") == np.float16
    return DenseWeight(given if half else single)


def _check_size(name: str, shape: tuple[int, ...]) -> None:
    """Refuse what is too long or wide before anything is made for each of its rows."""
    if max(shape, default=0) > MOST_ROWS:
        raise ModelError(
            f"{name}: has shape {_shape(shape)}: a layer has at most {MOST_ROWS:,} outputs and inputs"
        )


def _no_numbers(name: str, dtype: object) -> ModelError:
    return ModelError(f"{name}: holds {dtype} values: weights must be real numbers: store them as float32")


def _not_finite(name: str, row: int, column: int, value: object) -> ModelError:
    return ModelError(
        f"{name}: the weight of output {row + 1}, input {column + 1} is {value}, "
        "not a finite float32: repair the model"
    )


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
    if given.dtype.kind not in "fiub" and given.dtype != BFLOAT16:
        raise ModelError(f"{name}: the bias holds {given.dtype} values: it must be real numbers")
    values = as_float32(given)
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
