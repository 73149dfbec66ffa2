"""Every strategy and number of workers gives the serial answer, which is a plain loop's, bit for bit."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse

from lamella.files import Directory
from lamella.inputs.batch import dense_blocks, join
from lamella.kernel.curves import NUMBERS, activate, softmax
from lamella.kernel.fused import fused
from lamella.manifest import read_manifest
from lamella.numbers import as_bfloat16
from model_prep.dense import DenseWeight
from model_prep.reference import plain_scipy
from model_prep.source import Source, SourceLayer, source_layer
from model_prep.writer import write_model
from tests.gang import GangPlan, infer, infer_planned
from tests.unit.prep.sources import source_of


def plain(source: Source, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Outputs x samples, by loops over rows and entries in the source's order."""
    for layer in source:
        y = np.zeros((layer.outputs, x.shape[1]), np.float32)
        weight = layer.weight
        for row in range(layer.outputs):
            if isinstance(weight, DenseWeight):
                for column, value in enumerate(weight.toarray()[row]):
                    y[row] = fused(value, x[column], y[row])
            else:
                for entry in range(weight.indptr[row], weight.indptr[row + 1]):
                    y[row] = y[row] + weight.data[entry] * x[weight.indices[entry]]
        bias = np.broadcast_to(np.asarray(layer.bias, np.float32), layer.outputs)[:, None]
        y = np.where(y != 0, y + bias, y) if layer.bias_on == "nonzero" else y + bias
        if layer.activation != "softmax":
            y = activate(layer.activation, np.float32(layer.slope), y)
        y = y if layer.lo is None else np.maximum(y, np.float32(layer.lo))
        x = (y if layer.hi is None else np.minimum(y, np.float32(layer.hi))) + np.float32(0)
    return softmax(x) if layer.activation == "softmax" else x


@st.composite
def models(draw: st.DrawFn) -> Source:
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    widths = draw(st.lists(st.integers(4, 12), min_size=2, max_size=6))
    layers: list[SourceLayer] = []
    for k, (inputs, outputs) in enumerate(pairwise(widths)):
        weight = random.standard_normal((outputs, inputs)).astype(np.float32)
        weight[random.random(weight.shape) < draw(st.sampled_from([0.0, 0.6, 0.95]))] = 0
        bias: float | NDArray[np.float32] = random.standard_normal(outputs).astype(np.float32)
        if draw(st.booleans()):
            bias = float(np.float32(draw(st.sampled_from([-0.3, 0.0, 0.2]))))
        kept = draw(st.sampled_from(["sparse", "float32", "float16", "bfloat16"]))
        given: object = sparse.csr_array(weight) if kept == "sparse" else weight
        if kept == "float16":
            given = weight.astype(np.float16)
        if kept == "bfloat16":
            given = as_bfloat16(weight)
        activations = [*NUMBERS, "softmax"] if k + 2 == len(widths) else [*NUMBERS]
        activation = draw(st.sampled_from(activations))
        layers.append(
            source_layer(
                f"layer {k}",
                given,
                bias=bias,
                bias_on=draw(st.sampled_from(["all", "nonzero"])),
                activation=activation,
                slope=draw(st.sampled_from([0.01, -0.5])) if activation == "leaky_relu" else None,
                hi=None if activation == "softmax" else draw(st.sampled_from([None, 2.0])),
            )
        )
    return source_of(*layers)


@st.composite
def other_plans(draw: st.DrawFn, samples: int, layers: int) -> list[GangPlan]:
    """One of each strategy, of any size that the cuts for 2, 3 and 4 workers allow."""

    def micro_batches(shares: int) -> int:
        return draw(st.integers(1, min(4, samples // shares)))

    shares = draw(st.integers(1, min(3, samples)))
    groups = draw(st.integers(1, min(3, samples)))
    return [
        GangPlan("serial", 1, micro_batches(1)),
        GangPlan("samples", shares, micro_batches(shares)),
        GangPlan("rows", draw(st.sampled_from([2, 3, 4])), micro_batches(1)),
        GangPlan("pipeline", draw(st.integers(1, layers)), micro_batches(1)),
        GangPlan("hybrid", groups * draw(st.sampled_from([2, 3, 4])), micro_batches(groups), groups),
    ]


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.data(),
    models(),
    st.integers(1, 12),
    st.integers(0, 2**32),
    st.sampled_from(["overlap", "blocks", "random"]),
    st.sampled_from([1, 512]),
)
def test_bits_are_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    source: Source,
    samples: int,
    seed: int,
    partitioner: str,
    banded_from_rows: int,
) -> None:
    random = np.random.default_rng(seed)
    x = random.standard_normal((source.features, samples)).astype(np.float32)
    x[random.random(x.shape) < 0.5] = 0
    x[:, random.random(samples) < 0.3] = 0
    batch = join(dense_blocks(x.T, "x"), samples, 0, "x")
    model = tmp_path_factory.mktemp("model") / "m"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model_prep.dense.BANDED_FROM_ROWS", banded_from_rows)
        write_model(source, model, workers=[2, 3, 4], partitioner=partitioner)
    expected = (plain(source, x) + np.float32(0)).T.tobytes()
    assert plain_scipy(source, sparse.csr_array(x.T)).tobytes() == expected
    assert infer(model, batch)[0].tobytes() == expected
    assert infer(model, batch, "samples", min(3, samples))[0].tobytes() == expected
    for workers in (2, 3, 4):
        assert infer(model, batch, "rows", workers)[0].tobytes() == expected
    for plan in data.draw(other_plans(samples, source.layers)):
        assert infer_planned(model, batch, plan)[0].tobytes() == expected, plan


def test_a_worker_reads_only_its_own_rows(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    layers = [
        source_layer(f"{k}", sparse.csr_array(random.standard_normal((64, 64)).astype(np.float32)))
        for k in range(4)
    ]
    write_model(source_of(*layers), tmp_path / "m", workers=[4])
    reads: list[tuple[str, int, int]] = []

    class Watched(Directory):
        def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
            data = super().read(path, start, stop)
            reads.append((path, start, len(data)))
            return data

    from lamella.cut import read_cut
    from lamella.plan import Plan
    from lamella.strategies import tasks_of
    from lamella.streaming import WeightStream
    from lamella.tiles import read_tiles

    files = Watched(tmp_path / "m")
    manifest = read_manifest(files)
    tasks = tasks_of(manifest, read_cut(files, manifest, 4), Plan("rows", "memory", 4, 1024, 1))
    weights = sum(layer.nnz * layer.entry_bytes for layer in manifest.layers)
    tiles = read_tiles(files, manifest)
    for task in tasks:
        reads.clear()
        list(WeightStream(files, manifest, tiles, task.parts))
        assert sum(size for *_, size in reads) == weights // 4
