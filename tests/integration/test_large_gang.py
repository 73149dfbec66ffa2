"""Gangs that an inline Map would not hold, whole runs: they are exact, and fail as one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella import client
from lamella.client import Stack
from lamella.gang import started
from lamella.history import recent_runs
from lamella.layout import RunKeys
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from model_prep.writer import write_model
from tests.integration import batches
from tests.integration.runs import (
    activations,
    assert_nothing_is_left,
    begin,
    outcome,
    process_of,
    states_entered,
    summary,
    until,
    wait_for_workers,
)
from tests.integration.stacks import stack_of
from workflows.embedded_cloud import EmbeddedCloud

WORKERS = 48
# So that a killed worker can't go on by itself.
NOT_RESUMED = {"checkpoints": False}
ROOM = 3
START_DEADLINE_S = 20
SOURCE = "radixnet:256x6"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cut") / "model"
    write_model(open_source(SOURCE), out, workers=[4, WORKERS])
    return out


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    return batches.blobs(200, 16)


@pytest.fixture(scope="module")
def batch(images: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return batches.write_npz(tmp_path_factory.mktemp("batch") / "blobs.npz", images)


def work_of(stack: Stack, run: str) -> list[str]:
    """What is left of what only workers needed."""
    return sorted(stack.files(RunKeys(run).work).sizes())


@pytest.mark.slow
def test_forty_eight_workers_give_the_bits_of_one(
    stack: Stack, model: Path, batch: Path, images: NDArray[np.float32], tmp_path: Path
) -> None:
    run = begin(stack, model, batch, strategy="rows", workers=WORKERS, channel="sqs", activations=True)

    found = activations(run, tmp_path)

    assert found.tobytes() == plain_scipy(open_source(SOURCE), images).tobytes()
    assert states_entered(run) == ["Plan", "Launch", "DistributedWorkers", "Collect", "Finish"]
    assert work_of(stack, run.run_id) == []


@pytest.mark.slow
def test_forty_eight_workers_of_which_one_is_killed_are_launched_again_and_it_is_named(
    cloud: EmbeddedCloud, stack: Stack, model: Path, batch: Path, images: NDArray[np.float32], tmp_path: Path
) -> None:
    run = begin(
        stack,
        model,
        batch,
        strategy="rows",
        workers=WORKERS,
        channel="s3",
        activations=True,
        **NOT_RESUMED,
    )
    wait_for_workers(run, 5, seconds=120)
    killed = min(started(stack.files(), RunKeys(run.run_id)))
    process_of(cloud, run, killed).kill()

    found = activations(run, tmp_path)

    assert found.tobytes() == plain_scipy(open_source(SOURCE), images).tobytes()
    (failed,) = summary(run)["failed_attempts"]
    assert failed["cause"].startswith(f"worker {killed} failed: Runtime.ExitError: ")
    assert work_of(stack, run.run_id) == []


@pytest.fixture(scope="module")
def crowded(cloud: EmbeddedCloud) -> Iterator[Stack]:
    """A stack of which few functions run at once, though the account says that a thousand may."""
    with stack_of(cloud, "crowded", StartDeadline=str(START_DEADLINE_S)) as found:
        for size in ("Small", "Medium", "Large"):
            cloud.client("lambda").put_function_concurrency(
                FunctionName=f"crowded-Worker{size}", ReservedConcurrentExecutions=ROOM
            )
        yield found


@pytest.mark.parametrize(("workers", "channel"), [(4, "sns"), (WORKERS, "sqs")])
def test_a_gang_that_can_t_all_start_fails_by_its_start_deadline_and_says_how_many_had(
    cloud: EmbeddedCloud, crowded: Stack, model: Path, batch: Path, workers: int, channel: str
) -> None:
    run = begin(crowded, model, batch, strategy="rows", workers=workers, channel=channel)
    wait_for_workers(run, ROOM, seconds=120)
    waiting_s = time.monotonic()

    ended = outcome(run)

    assert (ended["status"], ended["error"]) == ("FAILED", "GangIncomplete")
    assert ended["cause"].startswith(
        f"only {ROOM} of {workers} workers had started within {START_DEADLINE_S} s"
    )
    assert "ask for fewer workers" in ended["cause"]
    # Their function's time is 900 s.
    assert time.monotonic() - waiting_s < START_DEADLINE_S + 60
    assert work_of(crowded, run.run_id) == []
    assert_nothing_is_left(cloud, run)


def test_a_stopped_run_stops_the_executions_of_its_workers(
    cloud: EmbeddedCloud, crowded: Stack, model: Path, batch: Path
) -> None:
    run = begin(crowded, model, batch, strategy="rows", workers=WORKERS, channel="sqs")
    wait_for_workers(run, ROOM, seconds=120)
    client.stop(run)

    assert outcome(run)["status"] == "ABORTED"
    until(lambda: crowded.files().exists(RunKeys(run.run_id).summary), seconds=60)
    stepfunctions = cloud.client("stepfunctions")
    (map_run,) = stepfunctions.list_map_runs(executionArn=run.execution_arn)["mapRuns"]
    workers = stepfunctions.list_executions(mapRunArn=map_run["mapRunArn"])["executions"]
    assert {worker["status"] for worker in workers} == {"ABORTED"}
    # Some may not have been started yet.
    assert ROOM <= len(workers) <= WORKERS
    listed = {each.run_id for each in recent_runs(crowded, 100)}
    assert run.run_id in listed
    assert not {worker["name"] for worker in workers} & listed
    assert_nothing_is_left(cloud, run)
