"""A stack says what a run may cost, and Plan refuses one that is predicted to cost more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamella.client import Stack
from tests.integration import batches
from tests.integration.runs import assert_nothing_is_left, begin, outcome, states_entered
from tests.integration.stacks import stack_of
from workflows.embedded_cloud import EmbeddedCloud

MOST_USD = 0.0005


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return batches.write_npz(tmp_path_factory.mktemp("batch") / "blobs.npz", batches.blobs(400, 16))


@pytest.fixture(scope="module")
def frugal(cloud: EmbeddedCloud) -> Iterator[Stack]:
    with stack_of(cloud, "frugal", MaxRunCost=str(MOST_USD)) as found:
        yield found


def test_a_run_that_may_cost_too_much_is_refused_before_any_worker_starts(
    cloud: EmbeddedCloud, frugal: Stack, small_model: Path, batch: Path
) -> None:
    run = begin(frugal, small_model, batch, strategy="rows", workers=4)

    ended = outcome(run)

    assert (ended["status"], ended["error"]) == ("FAILED", "PlanError")
    assert ended["cause"].startswith("rows over 4 workers by sns, ")
    assert f"more than the ${MOST_USD:g} that a run may cost here" in ended["cause"]
    assert "parameter MaxRunCost" in ended["cause"]
    assert "\n" not in ended["cause"]
    assert "Worker" not in states_entered(run)
    assert_nothing_is_left(cloud, run)


def test_what_costs_less_runs(frugal: Stack, small_model: Path, batch: Path) -> None:
    answer = json.loads(outcome(begin(frugal, small_model, batch))["output"])
    assert answer["predicted"]["usd"]["total"] < MOST_USD
