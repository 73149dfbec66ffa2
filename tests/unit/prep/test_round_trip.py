"""What is read back from a prepared model is the source, whatever the source."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from model_prep.dense import DenseWeight
from model_prep.source import Source, source_layer
from model_prep.writer import write_model
from tests.unit.prep.sources import source_of
from tests.unit.prep.stored import PreparedModel, same_bits

VALUES = {
    "constant": st.just(0.0625),
    "few": st.sampled_from([0.1, -0.1, 3.0]),
    "half": st.floats(width=16, allow_nan=False, allow_infinity=False),
    "any": st.floats(width=32, allow_nan=False, allow_infinity=False),
}
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def models(draw: st.DrawFn) -> Source:
    widths = draw(st.lists(st.integers(1, 12), min_size=2, max_size=5))
    layers = []
    for k, (inputs, outputs) in enumerate(pairwise(widths)):
        weight = np.zeros((outputs, inputs), np.float32)
        cells = draw(st.lists(st.integers(0, outputs * inputs - 1), unique=True))
        values = VALUES[draw(st.sampled_from(sorted(VALUES)))]
        for cell in cells:
            weight.flat[cell] = draw(values)
        bias = draw(
            st.one_of(st.none(), FINITE, st.lists(FINITE, min_size=outputs, max_size=outputs).map(np.array))
        )
        layers.append(
            source_layer(
                f"layer {k}",
                sparse.csr_array(weight) if draw(st.booleans()) else weight,
                bias=bias,
                bias_on=draw(st.sampled_from(("all", "nonzero"))),
                activation=draw(st.sampled_from(("relu", "identity", "leaky_relu", "tanh", "gelu"))),
                lo=draw(st.sampled_from((None, -1.5, 0.0))),
                hi=draw(st.sampled_from((None, 2.0, 32.0))),
            )
        )
    return source_of(*layers)


@settings(max_examples=60, deadline=None)
@given(models(), st.sampled_from(("overlap", "blocks", "random")))
def test_models_come_back_bit_for_bit(source: Source, partitioner: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_model(source, Path(folder) / "model", partitioner=partitioner)
        model = PreparedModel(Path(folder) / "model")
        manifest = model.manifest
        decoded = model.layers()
    assert (manifest.features, manifest.source, manifest.partitioner) == (
        source.features,
        "test",
        partitioner,
    )
    assert len(decoded) == source.layers
    for layer, described, stored in zip(source, manifest.layers, decoded, strict=True):
        if isinstance(layer.weight, DenseWeight):
            assert described.dense is not None
            assert same_bits(stored.weight.toarray() + np.float32(0), layer.weight.toarray() + np.float32(0))
        else:
            assert described.dense is None
            assert np.array_equal(stored.weight.indptr, layer.weight.indptr)
            assert np.array_equal(stored.weight.indices, layer.weight.indices)
            assert same_bits(stored.weight.data, layer.weight.data)
        bias = np.broadcast_to(np.asarray(layer.bias, np.float32), layer.outputs)
        assert same_bits(stored.bias, np.ascontiguousarray(bias))
        assert (described.bias_on, described.activation) == (layer.bias_on, layer.activation)
        assert (described.lo, described.hi) == (layer.lo, layer.hi)
        assert sorted(stored.order) == list(range(layer.outputs))
        # A row's sum is taken over ascending columns of the source, whatever the partitioner.
        rises = np.diff(stored.source_columns) > 0
        ends = stored.starts[1:-1]
        rises[ends[(ends > 0) & (ends < len(stored.source_columns))] - 1] = True
        assert rises.all()
