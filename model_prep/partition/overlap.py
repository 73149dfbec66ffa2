"""The order that keeps rows with common inputs together.

Rows with the same inputs are merged; the rest form a graph whose edges weigh how many inputs two rows share.
A depth first walk that always takes the heaviest edge lists each neighbourhood before it leaves it, so that
any contiguous part of the list needs few inputs: one order serves every number of workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from model_prep.partition.bounds import row_keys

if TYPE_CHECKING:
    from model_prep.source import Weight

# Products spent on the graph of one layer. An unstructured layer's is dense: beyond this it is drawn from the
# columns that few rows read, which tell most about who shares what.
MAX_PRODUCTS = 8_000_000


def overlap_order(weight: Weight, layer: int) -> NDArray[np.int64]:  # noqa: ARG001 - a Partitioner's signature
    """Rows in the order of a walk over the graph of shared inputs; deterministic."""
    first, group = _distinct_rows(weight)
    position = _walk(_shared_inputs(weight, first), roots=np.argsort(first))
    return np.argsort(position[group], kind="stable")


def _distinct_rows(weight: Weight) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first row of each pattern, and the pattern of each row."""
    keys = row_keys(weight.indptr, weight.indices, weight.shape[1])
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    return first, group


def _shared_inputs(weight: Weight, rows: NDArray[np.int64]) -> sparse.csr_array[np.float32, tuple[int, int]]:
    """How many inputs any two of the rows share, or an estimate of that in proportion."""
    pattern = weight[rows]
    pattern.data[:] = 1
    degree = np.bincount(pattern.indices, minlength=pattern.shape[1])
    products = degree.astype(np.int64) ** 2
    if products.sum() > MAX_PRODUCTS:
        # Among columns of equal degree in a random order: neighbours in the matrix often say the same.
        rank = np.lexsort((np.random.default_rng(0).permutation(len(degree)), products))
        kept = np.zeros(len(degree), bool)
        kept[rank[np.cumsum(products[rank]) <= MAX_PRODUCTS]] = True
        pattern = pattern[:, np.flatnonzero(kept)]
    shared = (pattern @ pattern.T).tocsr()
    shared.sort_indices()
    return shared


def _walk(
    graph: sparse.csr_array[np.float32, tuple[int, int]], roots: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Position of each node in a depth first walk along the heaviest edges first."""
    position = np.full(len(roots), -1)
    count = 0
    for root in roots.tolist():
        path = [root] if position[root] < 0 else []
        while path:
            node = path[-1]
            if position[node] < 0:
                position[node] = count
                count += 1
            start, stop = graph.indptr[node], graph.indptr[node + 1]
            free = np.flatnonzero(position[graph.indices[start:stop]] < 0)
            if not len(free):
                path.pop()
                continue
            # Of equal edges the last: columns ascend, so the walk goes on instead of back.
            shared = graph.data[start:stop][free]
            heaviest = len(free) - 1 - int(np.argmax(shared[::-1]))
            path.append(int(graph.indices[start + free[heaviest]]))
    return position
