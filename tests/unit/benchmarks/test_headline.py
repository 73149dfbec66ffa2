"""The headline's networks, by formula."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benchmarks.headline import COUNTED, counted_curve, headline, networks


def test_the_curve_has_what_was_counted_and_falls() -> None:
    curve = counted_curve()
    assert len(curve) == 121
    assert [curve[layer] for layer in COUNTED] == pytest.approx(list(COUNTED.values()))
    assert all(after < before * (1 + 1e-9) for before, after in pairwise(curve))


def test_the_smallest_network_beside_the_paper() -> None:
    first = next(networks())
    row = headline(first)
    assert (row["network"], row["neurons"], row["paper_fastest_s"]) == ("official", 1024, 58.236)
    assert row["paper_cheapest_usd"] == pytest.approx(0.021532)
    assert row["predicted_s"] > row["predicted_infer_s"] > 0
    assert row["predicted_s"] <= 2 * row["fastest_s"]
    assert row["bound"] in {"reading", "computing", "latency", "start"}
    assert len(row["sensitivity"]) == 5
