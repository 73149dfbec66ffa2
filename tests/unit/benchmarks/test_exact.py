"""The grid of exact runs: what is in it, and what a cell's outcome makes of it."""

from __future__ import annotations

import io
from itertools import product
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks.exact import MOST_SECONDS, good, result, shown, summary
from benchmarks.exact_grid import (
    CHANNELS,
    MICRO_BATCHES,
    MIXED,
    OFFICIAL,
    TALKING,
    WIDE,
    WORKERS,
    Cell,
    chosen,
    full_grid,
    quick_grid,
)
from benchmarks.whole_runs import Outcome, same_bits, slots_for
from lamella.strategies import STRATEGIES


def test_the_grid_has_every_strategy_there_is() -> None:
    assert {cell.strategy for cell in full_grid()} == set(STRATEGIES)


def test_the_grid_is_full() -> None:
    cells = set(full_grid())
    assert len(cells) == len(full_grid())
    for network, strategy, channel, workers, parts in product(
        (OFFICIAL, MIXED), TALKING, CHANNELS, WORKERS, MICRO_BATCHES
    ):
        assert Cell(network, strategy, channel, workers, parts) in cells
    for workers, channel in product((20, 64), CHANNELS):
        assert Cell(WIDE, "rows", channel, workers, 1) in cells


def test_the_quick_grid_has_every_pair_of_choices() -> None:
    cells = quick_grid()
    assert set(cells) < set(full_grid())
    talking = [cell for cell in cells if cell.strategy in TALKING]
    for network in (OFFICIAL, MIXED):
        of_network = [cell for cell in talking if cell.network == network]
        assert {(cell.strategy, cell.channel) for cell in of_network} == set(product(TALKING, CHANNELS))
    for field, other in (("strategy", "micro_batches"), ("channel", "micro_batches"), ("channel", "workers")):
        pairs = {(getattr(cell, field), getattr(cell, other)) for cell in talking}
        assert pairs == set(product(*({pair[k] for pair in pairs} for k in (0, 1)))), (field, other)
    assert {(cell.strategy, cell.workers) for cell in talking} == set(product(TALKING, WORKERS))


def test_some_cells_are_chosen_by_what_they_are() -> None:
    found = chosen(full_grid(), networks=[WIDE], channels=["s3", "sqs"], workers=[64, 8])
    assert found == [Cell(WIDE, "rows", "sqs", 64, 1), Cell(WIDE, "rows", "s3", 64, 1)]
    assert chosen(full_grid()) == full_grid()
    assert chosen(full_grid(), strategies=["serial"], micro_batches=[3]) == []


CELL = Cell(MIXED, "rows", "s3", 3, 2)
ANSWER = {"strategy": "rows", "channel": "s3", "workers": 3, "micro_batches": 2, "status": "SUCCEEDED"}


def test_a_cell_is_what_it_asked_for_and_what_came_of_it() -> None:
    row = result(CELL, Outcome(ANSWER, True, 1.234))
    assert row == {
        "network": MIXED,
        "strategy": "rows",
        "channel": "s3",
        "workers": 3,
        "micro_batches": 2,
        "exact": True,
        "seconds": 1.23,
        "error": None,
    }
    assert good(row)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome(ANSWER, False, 1.0), "NOT EXACT"),
        (Outcome(ANSWER | {"micro_batches": 1}, True, 1.0), "ran something else"),
        (Outcome(ANSWER, True, MOST_SECONDS + 1), "took more than 300 s"),
        (Outcome({}, False, 1.0, error="worker 1 failed"), "worker 1 failed"),
    ],
)
def test_a_cell_that_is_not_good_says_why(outcome: Outcome, words: str) -> None:
    row = result(CELL, outcome)
    assert not good(row)
    assert words in lines(row)
    assert summary([row, result(CELL, Outcome(ANSWER, True, 1.0))], 5.4) == "1 of 2 runs exact, in 5 s"


def lines(row: dict[str, Any]) -> str:
    text = io.StringIO()
    Console(file=text, width=200).print(shown([row]))
    return text.getvalue()


def test_bits_are_compared_and_not_values() -> None:
    zeros = np.zeros((2, 3), np.float32)
    assert same_bits({"activations": zeros.copy()}, zeros)
    assert not same_bits({"activations": -zeros}, zeros)
    assert not same_bits({"activations": zeros[:1]}, zeros)


def test_slots_are_as_many_as_workers() -> None:
    assert slots_for(17) == {"SlotGroups": "0,1,2"}
