"""The judge of every result: a model run the plainest way, straight from its source.

Sparse layers are multiplied by scipy. Dense layers have fused sums (a product and its addition rounded
together, columns in order), which neither scipy nor numpy offers: they are taken column by column in numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lamella.errors import BatchError
from lamella.kernel.curves import activate, softmax
from lamella.kernel.fused import fused
from model_prep.dense import DenseWeight

if TYPE_CHECKING:
    from lamella.inputs import Batch
    from model_prep.source import Source, SourceLayer, Weight

SAMPLES_AT_ONCE = 2048
_DENSE = 0.25


def scipy_matrix(batch: Batch) -> sparse.csr_array[Any, tuple[int, int]]:
    """A batch as scipy has it, samples x features."""
    held = batch.matrix
    by_feature = sparse.csr_array((held.values, held.columns, held.starts), shape=held.shape)
    return sparse.csr_array(by_feature.T)


def plain_scipy(
    source: Source,
    batch: sparse.csr_array[Any, tuple[int, int]],
    observe: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Run a batch through a model, one layer in memory at a time.

    scipy's products take a row's sum over ascending columns in float32. Where activations are mostly zero
    they are multiplied as a sparse matrix: adding the products that are zero would not change any sum.
    A dense layer's are taken over ascending columns too, fused: scipy's would differ in the last bits.

    Parameters
    ----------
    batch : (samples, features)
    observe
        Called after each layer with how many layers are done, and how many samples are not all zero.

    Returns
    -------
    (samples, outputs) float32

    Raises
    ------
    BatchError
        If the batch hasn't as many features as the model.
    """
    blocks = _blocks(source, batch)
    for done, layer in enumerate(source, start=1):
        blocks = [_forward(layer, block) for block in blocks]
        if observe:
            observe(done, sum(len(np.unique(block.indices)) for block in blocks))
    if not blocks:
        return np.zeros((0, layer.outputs), np.float32)
    outputs: list[NDArray[np.float32]] = [block.toarray() for block in blocks]
    if layer.activation == "softmax":
        outputs = [softmax(output) for output in outputs]
    return np.concatenate([output.T for output in outputs])


def live_layers(source: Source, batch: sparse.csr_array[Any, tuple[int, int]]) -> NDArray[np.int64]:
    """How many layers each sample (of a batch as for `plain_scipy`) comes to without being all zero."""
    blocks = _blocks(source, batch)
    layers = np.zeros(batch.shape[0], np.int64)
    for layer in source:
        for number, block in enumerate(blocks):
            layers[number * SAMPLES_AT_ONCE + np.unique(block.indices)] += 1
        blocks = [_forward(layer, block) for block in blocks]
    return layers


def _blocks(source: Source, batch: sparse.csr_array[Any, tuple[int, int]]) -> list[sparse.csr_array]:
    """The batch, features x samples, some samples at a time."""
    samples, features = batch.shape
    if features != source.features:
        raise BatchError(f"the batch has {features} features, {source.description} takes {source.features}")
    return [
        sparse.csr_array(batch[first : first + SAMPLES_AT_ONCE].T.astype(np.float32))
        for first in range(0, samples, SAMPLES_AT_ONCE)
    ]


def _forward(layer: SourceLayer, x: Weight) -> Weight:
    """One layer: (inputs, samples) to (outputs, samples)."""
    bias = np.broadcast_to(np.asarray(layer.bias, np.float32), layer.outputs)
    if isinstance(layer.weight, DenseWeight):
        sums = _fused_sums(layer.weight.toarray(), x.toarray())
        return sparse.csr_array(_finished(layer, sums, bias[:, np.newaxis]))
    if x.nnz > _DENSE * x.shape[0] * x.shape[1] or not _keeps_zeros(layer):
        dense = layer.weight @ x.toarray()
        return sparse.csr_array(_finished(layer, dense, bias[:, np.newaxis]))
    y = layer.weight @ x
    y.data = _finished(layer, y.data, np.repeat(bias, np.diff(y.indptr)))
    y.eliminate_zeros()
    return y


def _fused_sums(weight: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
    sums: NDArray[np.float32] = np.zeros((len(weight), x.shape[1]), np.float32)
    for column in range(weight.shape[1]):
        sums = fused(weight[:, [column]], x[column], sums)
    return sums


def _keeps_zeros(layer: SourceLayer) -> bool:
    zero = np.zeros((1, 1), np.float32)
    bias = np.atleast_2d(np.asarray(layer.bias, np.float32))
    return not _finished(layer, zero, bias).any()


def _finished(layer: SourceLayer, y: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bias, activation and bounds, element by element."""
    y = y + bias if layer.bias_on == "all" else np.where(y != 0, y + bias, y)
    if layer.activation != "softmax":
        y = activate(layer.activation, np.float32(layer.slope), y)
    if layer.lo is not None or layer.hi is not None:
        y = np.clip(y, layer.lo, layer.hi)
    return (y + np.float32(0)).astype(np.float32, copy=False)  # no activation is -0
