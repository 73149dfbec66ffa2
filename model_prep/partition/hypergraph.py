"""Parts by KaHyPar, an optional extra: the hypergraph partitioner that others are compared with.

Rows are vertices, as heavy as they have weights; each column is a net that joins the rows that read it. What
is made small is connectivity minus one: the copies of columns that several parts need.

Schlag et al., "High-Quality Hypergraph Partitioning", ACM JEA 2022; the settings are those of its k-way
preset for connectivity.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lamella.errors import PlanError
from model_prep.partition.bounds import BALANCE, part_bounds

if TYPE_CHECKING:
    from model_prep.source import Weight

SEED = 1
# Parts are placed by `model_prep.partition.alignment`: nothing here fixes which part is whose.
SETTINGS = {
    "mode": "direct",
    "objective": "km1",
    "seed": "-1",
    "cmaxnet": "1000",
    "vcycles": "0",
    # Before: sparsify, find communities, leave out what is very large.
    "p-use-sparsifier": "true",
    "p-sparsifier-min-median-he-size": "28",
    "p-sparsifier-max-hyperedge-size": "1200",
    "p-sparsifier-max-cluster-size": "10",
    "p-sparsifier-min-cluster-size": "2",
    "p-sparsifier-num-hash-func": "5",
    "p-sparsifier-combined-num-hash-func": "100",
    "p-detect-communities": "true",
    "p-detect-communities-in-ip": "true",
    "p-reuse-communities": "false",
    "p-max-louvain-pass-iterations": "100",
    "p-min-eps-improvement": "0.0001",
    "p-louvain-edge-weight": "hybrid",
    "p-large-he-threshold": "1000",
    "p-smallest-maxnet-threshold": "50000",
    "p-maxnet-removal-factor": "0.01",
    # Coarsen.
    "c-type": "ml_style",
    "c-s": "1",
    "c-t": "160",
    "c-rating-score": "heavy_edge",
    "c-rating-use-communities": "true",
    "c-rating-heavy_node_penalty": "no_penalty",
    "c-rating-acceptance-criterion": "best_prefer_unmatched",
    "c-fixed-vertex-acceptance-criterion": "fixed_vertex_allowed",
    # Partition what is coarse, by recursive bisection.
    "i-mode": "recursive",
    "i-technique": "multi",
    "i-c-type": "ml_style",
    "i-c-s": "1",
    "i-c-t": "150",
    "i-c-rating-score": "heavy_edge",
    "i-c-rating-use-communities": "true",
    "i-c-rating-heavy_node_penalty": "no_penalty",
    "i-c-rating-acceptance-criterion": "best_prefer_unmatched",
    "i-c-fixed-vertex-acceptance-criterion": "fixed_vertex_allowed",
    "i-algo": "pool",
    "i-runs": "20",
    "i-bp-algorithm": "worst_fit",
    "i-bp-heuristic-prepacking": "false",
    "i-bp-early-restart": "true",
    "i-bp-late-restart": "true",
    "i-r-type": "twoway_fm",
    "i-r-runs": "-1",
    "i-r-fm-stop": "simple",
    "i-r-fm-stop-i": "50",
    # Refine on the way back.
    "r-type": "kway_fm_hyperflow_cutter_km1",
    "r-runs": "-1",
    "r-fm-stop": "adaptive_opt",
    "r-fm-stop-alpha": "1",
    "r-fm-stop-i": "350",
    "r-flow-execution-policy": "exponential",
    "r-hfc-size-constraint": "mf-style",
    "r-hfc-scaling": "16",
    "r-hfc-distance-based-piercing": "true",
    "r-hfc-mbc": "true",
}


def hypergraph_parts(weight: Weight, workers: int) -> NDArray[np.int64]:
    """The part of each row that KaHyPar gives it; the same again for the same layer.

    Where nothing can be saved (no column is read by two rows) or there are too few rows to choose, contiguous
    blocks.

    Raises
    ------
    PlanError
        If KaHyPar is not installed.
    """
    try:
        import kahypar
    except ImportError as error:
        raise PlanError(
            "the partitioner hypergraph needs KaHyPar, which is not installed: install the extra "
            "'hypergraph', or take overlap"
        ) from error
    by_column = weight.tocsc()
    joined = by_column[:, np.flatnonzero(np.diff(by_column.indptr) > 1)]
    rows, columns = joined.shape
    if rows < 2 * workers or not columns:
        bounds = part_bounds(weight.indptr.astype(np.int64), workers)
        return np.repeat(np.arange(workers), np.diff(bounds))
    context = kahypar.Context()
    with tempfile.TemporaryDirectory(prefix="lamella-kahypar-") as folder:
        settings = Path(folder) / "settings.ini"
        settings.write_text("".join(f"{name}={value}\n" for name, value in SETTINGS.items()))
        context.loadINIconfiguration(str(settings))
    context.setK(workers)
    context.setEpsilon(BALANCE - 1)
    context.setSeed(SEED)
    context.suppressOutput(True)
    hypergraph = kahypar.Hypergraph(
        rows,
        columns,
        joined.indptr.tolist(),
        joined.indices.tolist(),
        workers,
        [1] * columns,
        # A vertex without any weight is refused.
        np.maximum(np.diff(weight.indptr), 1).tolist(),
    )
    kahypar.partition(hypergraph, context)
    return np.array([hypergraph.blockID(row) for row in range(rows)], np.int64)
