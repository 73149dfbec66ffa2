from __future__ import annotations

import numpy as np
import pytest

from benchmarks import dense
from lamella.kernel import Processor
from workflows.cli.console import Output


def test_both_sides_are_timed_and_found_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "NETWORKS", {64: 2})
    monkeypatch.setattr(dense, "BATCHES", (1, 20))
    monkeypatch.setattr(dense, "SETTLE_S", 0)
    with Processor() as processor:
        result = dense.measure(2, processor, Output(as_json=True))
    assert result["equal"] is True
    assert result["threads"] == 1
    for batch in ("1", "20"):
        entry = result[batch]
        assert set(entry["networks"]) == {f"64x2 {stored}" for stored in dense.STORED}
        assert entry["ratio"] == entry["numpy_s"] / entry["ours_s"]
        assert entry["ratio"] == min(found["ratio"] for found in entry["networks"].values())


def test_a_wrong_bit_is_seen() -> None:
    net = dense.network(64, 1, "float32")
    with Processor() as processor:
        x = np.ones((64, 3), np.float32)
        assert net.is_right(x, processor)
        net.weights[0] = np.nextafter(net.weights[0], np.float32(9))
        assert not net.is_right(x, processor)
