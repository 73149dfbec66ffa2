"""The kernel's comparison with other libraries."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from benchmarks import kernel as comparison
from benchmarks.kernel import NAMES, agree, compare, full, shown
from benchmarks.kernel_sides import Problem, Side
from model_prep.blobs import digit_blobs
from model_prep.readers import open_source
from workflows.cli.console import Output

OURS = ("ours_1", "ours_2", "csr_csr", "csr_dense", "csr_matvecs")


@pytest.mark.parametrize("network", ["radixnet:1024x12", "alive:1024x3"])
def test_every_way_gives_the_same_result(network: str) -> None:
    result = compare(Problem.of(open_source(network), digit_blobs(60)), 1, Output(as_json=True))
    assert result["equal"]
    assert list(result["seconds"]) == list(NAMES)
    assert all(result["seconds"][name] > 0 for name in OURS)


def test_a_way_that_gives_another_result_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(problem: Problem) -> Side:
        return Side(lambda: problem.dense * np.float32(2), lambda y: y)

    monkeypatch.setattr(comparison.sides, "csr_dense", wrong)
    problem = Problem.of(open_source("radixnet:1024x2"), digit_blobs(20))
    assert not compare(problem, 1, Output(as_json=True))["equal"]


def test_exact_ways_must_agree_to_the_bit() -> None:
    a = np.ones((2, 2), np.float32)
    b = np.nextafter(a, np.float32(2))
    assert agree(a, a.copy(), exact=True)
    assert not agree(b, a, exact=True)
    assert agree(b, a, exact=False)
    assert not agree(2 * a, a, exact=False)
    assert not agree(a[:1], a, exact=False)


def test_the_share_of_the_bound_is_products_times_four_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "measure_bandwidth", lambda: (8e9, 2e9))
    result = full(2, 32, 1)
    assert result["edges_per_s"] is not None
    assert result["l2_share"] == pytest.approx(result["edges_per_s"] * 4 / 8e9)
    monkeypatch.setattr(comparison, "measure_bandwidth", lambda: None)
    assert full(2, 32, 1)["l2_share"] is None


def test_what_is_missing_is_shown_as_such() -> None:
    seconds = dict.fromkeys(NAMES, 2.0) | {"ours_1": 0.5, "torch": None}
    table = shown({"network": "n", "input": "i", "seconds": seconds, "alive": {"seconds": seconds}})
    stream = io.StringIO()
    Console(width=100, file=stream).print(table)
    text = stream.getvalue()
    assert "4.0" in text
    assert "torch" in text
