"""A run that is stopped, by the command or in the console, ends its workers within ten seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from lamella.client import RunHandle, Stack
from lamella.layout import RunKeys
from lamella.leaving import LEAVE_S
from lamella.upkeep import cancel
from model_prep.readers import open_source
from model_prep.writer import write_model
from tests.integration import batches
from tests.integration.runs import (
    assert_nothing_is_left,
    begin,
    outcome,
    process_of,
    until,
    wait_for_workers,
)
from workflows.embedded_cloud import EmbeddedCloud

WORKERS = 2
STARTING_S = 3.0  # for the rule to reach Finish, and Finish to start
SAMPLES = 20_000
LARGE, SMALL = ("alive:1024x40", 32), ("alive:256x23", 16)
# Requests that stay unanswered while a run is stopped.
HELD_S = 25.0
DOING: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    # Ten seconds' work and more for each.
    "computing": ({"strategy": "samples"}, []),
    # After they have met: nothing more arrives.
    "waiting": (
        {"strategy": "rows", "channel": "sqs"},
        [{"service": "sqs", "operation": "Delivery", "fault": "delay", "seconds": HELD_S, "skip": 8}],
    ),
    "reading": (
        {"strategy": "serial"},
        [
            {
                "service": "s3",
                "operation": "GetObject",
                "where": "weights",
                "fault": "delay",
                "seconds": HELD_S,
            }
        ],
    ),
}


@pytest.fixture(scope="module")
def large_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("large") / "model"
    write_model(open_source(LARGE[0]), out, workers=[WORKERS])
    return out


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that no other test's workers have read: they would not read it again."""
    out = tmp_path_factory.mktemp("small") / "model"
    write_model(open_source(SMALL[0]), out, workers=[WORKERS])
    return out


@pytest.fixture(scope="module")
def large_batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return batches.write_npz(tmp_path_factory.mktemp("batch") / "large.npz", batches.blobs(SAMPLES, LARGE[1]))


@pytest.fixture(scope="module")
def small_batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return batches.write_npz(tmp_path_factory.mktemp("batch") / "small.npz", batches.blobs(400, SMALL[1]))


@pytest.fixture(params=DOING)
def under_way(
    request: pytest.FixtureRequest,
    cloud: EmbeddedCloud,
    stack: Stack,
    large_model: Path,
    small_model: Path,
    large_batch: Path,
    small_batch: Path,
) -> Iterator[tuple[RunHandle, list[psutil.Process]]]:
    """A run whose workers are at something that takes longer than they may, and their processes."""
    asked, rules = DOING[request.param]
    computing = request.param == "computing"
    model, batch = (large_model, large_batch) if computing else (small_model, small_batch)
    workers = 1 if asked["strategy"] == "serial" else WORKERS
    cloud.fail(rules)
    try:
        run = begin(stack, model, batch, workers=workers, **asked)
        wait_for_workers(run, workers)
        processes = [process_of(cloud, run, worker) for worker in range(workers)]
        time.sleep(1.5)
        assert outcome_so_far(run) == "RUNNING"
        yield run, processes
    finally:
        cloud.fail([])


def outcome_so_far(run: RunHandle) -> str:
    found = run.stack.clients.stepfunctions.describe_execution(executionArn=run.execution_arn)
    return str(found["status"])


def busy(processes: Sequence[psutil.Process], seconds: float = 0.5) -> bool:
    """Whether any computes."""

    def spent() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in processes)

    before = spent()
    time.sleep(seconds)
    return spent() - before > seconds / 5


def test_the_command_ends_workers_within_ten_seconds_and_says_so(
    cloud: EmbeddedCloud, under_way: tuple[RunHandle, list[psutil.Process]]
) -> None:
    run, processes = under_way
    done = cancel(run)

    assert (done.status, done.staying, done.released) == ("ABORTED", (), True)
    assert done.workers_left_s < LEAVE_S
    assert not busy(processes)
    # They left by themselves: the processes are there for the next run.
    assert all(process.is_running() for process in processes)
    assert_nothing_is_left(cloud, run)


def test_so_does_the_console(cloud: EmbeddedCloud, under_way: tuple[RunHandle, list[psutil.Process]]) -> None:
    run, processes = under_way
    run.stack.clients.stepfunctions.stop_execution(executionArn=run.execution_arn)

    until(lambda: run.stack.files().exists(RunKeys(run.run_id).summary), LEAVE_S + STARTING_S)
    assert outcome(run)["status"] == "ABORTED"
    assert not busy(processes)
    assert all(process.is_running() for process in processes)
    assert_nothing_is_left(cloud, run)
