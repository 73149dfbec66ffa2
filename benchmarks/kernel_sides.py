"""Ways to run a network that the kernel is measured against, as their users would write them; one thread."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse._sparsetools import csr_matvecs

from lamella.activations import Activations
from lamella.kernel import LayerWeights, Processor, forward
from model_prep.source import Source, SourceLayer
from model_prep.writer import maps_zeros_to_zeros

BLOCK, WAVES = 256, (0, 3, 6, 10)  # of the csr_matvecs waves

Dense = NDArray[np.float32]
Run = Callable[[], Any]


@dataclass(frozen=True)
class Side:
    """One way.

    Attributes
    ----------
    run
        What is timed; gives whatever is at hand at the end.
    dense
        Makes (outputs, samples) of that.
    exact
        Whether its sums are taken in our order, so that its bits must be ours.
    """

    run: Run
    dense: Callable[[Any], Dense]
    exact: bool = True


@dataclass(frozen=True)
class Problem:
    """A network in memory, and samples.

    Attributes
    ----------
    x : (features, samples) CSR
    """

    layers: Sequence[SourceLayer]
    x: sparse.csr_array[Any, tuple[int, int]]

    @classmethod
    def of(cls, source: Source, samples: sparse.csr_array[Any, tuple[int, int]]) -> Problem:
        """The network against (samples, features)."""
        return cls(list(source), sparse.csr_array(samples.T.astype(np.float32)))

    @property
    def samples(self) -> int:
        return int(self.x.shape[1])

    @cached_property
    def dense(self) -> Dense:
        return np.ascontiguousarray(self.x.toarray(), np.float32)

    @cached_property
    def drops(self) -> bool:
        """Whether dead samples stay dead in every layer."""
        return all(maps_zeros_to_zeros(layer) for layer in self.layers)

    def kernel_layers(self) -> list[LayerWeights]:
        """As the kernel takes them."""
        return [
            LayerWeights(
                number=number,
                columns=layer.inputs,
                starts=layer.sparse_weight.indptr.astype(np.int32),
                indices=layer.sparse_weight.indices.astype(np.int32),
                values=layer.sparse_weight.data.astype(np.float32),
                bias=_bias(layer),
                bias_on_nonzero=layer.bias_on == "nonzero",
                activation="relu" if layer.activation == "relu" else "identity",
                lo=None if layer.lo is None else np.float32(layer.lo),
                hi=None if layer.hi is None else np.float32(layer.hi),
                zeros_to_zeros=maps_zeros_to_zeros(layer),
            )
            for number, layer in enumerate(self.layers)
        ]


def ours(problem: Problem, processor: Processor) -> Side:
    """The kernel."""
    layers, everyone = problem.kernel_layers(), (0, problem.samples)
    live = np.flatnonzero(problem.dense.any(axis=0))
    x = Activations(live, np.ascontiguousarray(problem.dense[:, live]))

    def spread(y: Activations) -> Dense:
        return y.with_all(everyone).values

    return Side(lambda: forward(layers, x, everyone, processor), spread)


def csr_csr(problem: Problem) -> Side:
    """Both sparse, as in the paper."""

    def run() -> Any:
        x = problem.x
        for layer in problem.layers:
            y = layer.sparse_weight @ x
            if layer.bias_on == "nonzero" or not np.any(layer.bias):
                y.data = _finished(layer, y.data, np.repeat(_biases(layer), np.diff(y.indptr)))
                y.eliminate_zeros()
                x = y
            else:
                x = sparse.csr_array(_finished(layer, y.toarray(), _biases(layer)[:, None]))
        return x

    return Side(run, lambda y: y.toarray())


def csr_dense(problem: Problem) -> Side:
    """Sparse weights, dense activations."""

    def run() -> Dense:
        x = problem.dense
        for layer in problem.layers:
            x = _finished(layer, layer.sparse_weight @ x, _biases(layer)[:, None])
        return x

    return Side(run, lambda y: y)


def matvecs_waves(problem: Problem) -> Side:
    """The product inside of scipy, in waves of blocks, dead samples dropped where they may be."""
    cuts = [*(wave for wave in WAVES if wave < len(problem.layers)), len(problem.layers)]

    def block(
        y: Dense, ids: NDArray[np.intp], layers: Sequence[SourceLayer]
    ) -> tuple[Dense, NDArray[np.intp]]:
        for layer in layers:
            weight, out = layer.sparse_weight, np.zeros((layer.outputs, y.shape[1]), np.float32)
            csr_matvecs(
                *weight.shape, y.shape[1], weight.indptr, weight.indices, weight.data, y.ravel(), out.ravel()
            )
            y = _finished(layer, out, _biases(layer)[:, None])
            if problem.drops and not (alive := y.any(axis=0)).all():
                y, ids = np.ascontiguousarray(y[:, alive]), ids[alive]
        return y, ids

    def run() -> tuple[Dense, NDArray[np.intp]]:
        x, ids = problem.dense, np.arange(problem.samples)
        for first, stop in pairwise(cuts):
            bounds = [*range(0, len(ids), BLOCK), len(ids)]
            done = [
                block(np.ascontiguousarray(x[:, a:b]), ids[a:b], problem.layers[first:stop])
                for a, b in pairwise(bounds)
            ]
            x, ids = np.hstack([y for y, _ in done]), np.concatenate([kept for _, kept in done])
        return x, ids

    return Side(run, lambda y: _spread(*y, problem.samples))


def torch_csr(problem: Problem) -> Side:
    """Sparse CSR of torch times dense, dead samples dropped where they may be.

    Raises
    ------
    ImportError
        If there is no torch.
    """
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Sparse", UserWarning)  # that its sparse matrices are in beta state
    weights = [
        torch.sparse_csr_tensor(
            *(
                torch.from_numpy(part)
                for part in (w.indptr.astype(np.int32), w.indices.astype(np.int32), w.data)
            ),
            size=w.shape,
        )
        for w in (layer.sparse_weight for layer in problem.layers)
    ]
    biases = [torch.from_numpy(_biases(layer)[:, None].copy()) for layer in problem.layers]
    first = torch.from_numpy(problem.dense)

    def run() -> Any:
        x, ids = first, torch.arange(problem.samples)
        with torch.inference_mode():
            for layer, weight, bias in zip(problem.layers, weights, biases, strict=True):
                y = weight @ x
                y = torch.where(y != 0, y + bias, y) if _guarded(layer) else y.add_(bias)
                x = y.clamp_(min=_lowest(layer), max=layer.hi)
                if problem.drops:
                    alive = (x != 0).any(dim=0)
                    if int(alive.sum()) < 0.9 * len(ids):
                        x, ids = x[:, alive], ids[alive]
        return x, ids

    return Side(run, lambda y: _spread(y[0].numpy(), y[1].numpy(), problem.samples), exact=False)


def graphblas(problem: Problem) -> Side:
    """SuiteSparse:GraphBLAS, samples x neurons, as LAGraph has the Graph Challenge.

    Raises
    ------
    ImportError
        If there is no python-graphblas.
    """
    gb = importlib.import_module("graphblas")
    gb.ss.config["nthreads"] = 1
    times = gb.semiring.plus_times
    weights = [gb.io.from_scipy_sparse(sparse.csr_array(layer.sparse_weight.T)) for layer in problem.layers]
    first = gb.io.from_scipy_sparse(sparse.csr_array(problem.x.T))
    biases = [
        None if _sparse(layer) else gb.Matrix.from_dense(np.tile(_biases(layer), (problem.samples, 1)))
        for layer in problem.layers
    ]

    def run() -> Any:
        y = first
        for layer, weight, bias in zip(problem.layers, weights, biases, strict=True):
            y = times(y @ weight).new("FP32")
            if bias is None:
                y << y.apply(gb.binary.plus, right=float(np.float32(layer.bias)))
            else:
                y << y.ewise_add(bias, gb.binary.plus)
            if layer.activation == "relu":
                y << y.select(">", 0)
            if layer.hi is not None:
                y << y.apply(gb.binary.min, right=layer.hi)
        y.wait()
        return y

    return Side(run, lambda y: y.to_dense(0, dtype="FP32").T, exact=False)


def _sparse(layer: SourceLayer) -> bool:
    return layer.bias_on == "nonzero" and not isinstance(layer.bias, np.ndarray)


def _guarded(layer: SourceLayer) -> bool:
    """Whether a bias must be kept from zeros: relu undoes what a negative one does to them."""
    return layer.bias_on == "nonzero" and not (
        layer.activation == "relu" and bool(np.all(_biases(layer) <= 0))
    )


def _lowest(layer: SourceLayer) -> float | None:
    bounds = [0.0] if layer.activation == "relu" else []
    bounds += [] if layer.lo is None else [layer.lo]
    return max(bounds, default=None)


def _bias(layer: SourceLayer) -> np.float32 | Dense:
    return layer.bias.astype(np.float32) if isinstance(layer.bias, np.ndarray) else np.float32(layer.bias)


def _biases(layer: SourceLayer) -> Dense:
    return np.broadcast_to(np.asarray(layer.bias, np.float32), layer.outputs)


def _finished(layer: SourceLayer, y: Dense, bias: Dense) -> Dense:
    """Bias, activation and bounds, in place."""
    if _guarded(layer):
        np.add(y, bias, out=y, where=y != 0)
    else:
        y += bias
    if (lowest := _lowest(layer)) is not None:
        np.maximum(y, np.float32(lowest), out=y)
    if layer.hi is not None:
        np.minimum(y, np.float32(layer.hi), out=y)
    return y


def _spread(y: Dense, ids: NDArray[np.integer], samples: int) -> Dense:
    out = np.zeros((len(y), samples), np.float32)
    out[:, ids] = y
    return out
