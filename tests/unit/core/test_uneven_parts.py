"""Parts that are cut where it costs least, or as a partitioner says, instead of evenly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lamella.inputs.batch import dense_blocks, join
from model_prep.radixnet import RadixNet
from model_prep.writer import write_model
from tests.gang import infer
from tests.unit.prep.stored import PreparedModel

WORKERS = 20


@pytest.mark.parametrize("partitioner", ["overlap", "hypergraph"])
def test_they_give_the_serial_bits(tmp_path: Path, partitioner: str) -> None:
    if partitioner == "hypergraph":
        pytest.importorskip("kahypar", reason="KaHyPar is not installed (the extra hypergraph)")
    write_model(RadixNet(1024, 7).source(), tmp_path / "m", workers=[WORKERS], partitioner=partitioner)
    sizes = np.diff(PreparedModel(tmp_path / "m").cut(WORKERS).row_bounds, axis=1)
    assert sizes.max() - sizes.min() > 1
    samples = (np.random.default_rng(0).random((40, 1024)) < 0.5).astype(np.float32)
    batch = join(dense_blocks(samples, "x"), len(samples), 0, "x")
    serial = infer(tmp_path / "m", batch)[0]
    assert serial.any()
    assert infer(tmp_path / "m", batch, "rows", WORKERS)[0].tobytes() == serial.tobytes()
