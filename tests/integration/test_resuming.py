"""A worker that dies, wherever it is, is started again and goes on; the run is exact and not run again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella.channels.drain import drain
from lamella.checkpointer import CHECKPOINT_S
from lamella.client import RunHandle, Stack
from lamella.layout import RunKeys
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from model_prep.writer import write_model
from tests.integration import batches
from tests.integration.runs import activations, assert_nothing_is_left, begin, history, outcome
from workflows.embedded_cloud import EmbeddedCloud

WORKERS = 4
SOURCE = "radixnet:256x240"
SAMPLES, SIDE = 400, 16
Rule = dict[str, Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Layers enough that a run of it takes some seconds, and has checkpoints."""
    out = tmp_path_factory.mktemp("long") / "model"
    write_model(open_source(SOURCE), out, workers=[WORKERS])
    return out


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return batches.write_npz(tmp_path_factory.mktemp("batch") / "blobs.npz", batches.blobs(SAMPLES, SIDE))


@pytest.fixture(scope="module")
def plain() -> NDArray[np.float32]:
    return plain_scipy(open_source(SOURCE), batches.blobs(SAMPLES, SIDE))


@pytest.fixture(autouse=True)
def no_faults(cloud: EmbeddedCloud) -> Iterator[None]:
    yield
    cloud.fail([])


def kill(operation: str, where: str, when: str, **more: Any) -> Rule:
    service = {"ReceiveMessage": "sqs"}.get(operation, "s3")
    return {
        "service": service,
        "operation": operation,
        "where": where,
        "fault": "kill",
        "when": when,
        "times": 1,
    } | more


# Named points of a worker's life, by what it asks for there.
POINTS = {
    "before it has started": kill("GetObject", "work/1/tasks/2", "before"),
    "when it has started": kill("PutObject", "work/1/checkpoints/2", "after"),
    "when it has its task and its input": kill("GetObject", "work/1/tasks/2", "after"),
    "before a checkpoint is written": kill("PutObject", "work/1/checkpoints/2", "before", skip=1),
    "when a checkpoint is written": kill("PutObject", "work/1/checkpoints/2", "after", skip=1),
    "when a second checkpoint is written": kill("PutObject", "work/1/checkpoints/2", "after", skip=2),
    # What the killed asked for is done all the same.
    "while its part is written": kill("PutObject", "work/1/parts/2", "before"),
    "when its part is written": kill("PutObject", "work/1/parts/2", "after"),
}


def restarted(run: RunHandle) -> list[int]:
    """Workers that were started again."""
    scheduled = [event.get("taskScheduledEventDetails") for event in history(run)]
    payloads = [json.loads(details["parameters"])["Payload"] for details in scheduled if details]
    workers = [payload["worker"] for payload in payloads if "worker" in payload]
    return sorted({worker for worker in workers if workers.count(worker) > 1})


@pytest.mark.parametrize("channel", ["sns", "sqs", "s3"])
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_that_is_killed_goes_on(
    cloud: EmbeddedCloud,
    stack: Stack,
    model: Path,
    batch: Path,
    plain: NDArray[np.float32],
    tmp_path: Path,
    point: str,
    channel: str,
) -> None:
    cloud.fail([POINTS[point]])
    run = begin(stack, model, batch, workers=WORKERS, strategy="rows", channel=channel, activations=True)
    found = activations(run, tmp_path)
    assert [each["fault"] for each in cloud.failures()] == ["kill"]
    assert found.tobytes() == plain.tobytes()
    assert restarted(run) == [2]
    if "its part is written" in point and channel == "sns":
        # What it had is not looked for again: whoever leases the slot next drops it.
        sqs = cloud.client("sqs")
        drain(sqs, sqs.list_queues(MaxResults=1000)["QueueUrls"], time.monotonic, time.sleep)
    assert_nothing_is_left(cloud, run)


@pytest.mark.parametrize("strategy", ["serial", "pipeline"])
def test_so_does_one_that_has_other_steps(
    cloud: EmbeddedCloud,
    stack: Stack,
    model: Path,
    batch: Path,
    plain: NDArray[np.float32],
    tmp_path: Path,
    strategy: str,
) -> None:
    cloud.fail([kill("PutObject", "work/1/parts/0", "before")])
    run = begin(stack, model, batch, strategy=strategy, activations=True)
    found = activations(run, tmp_path)
    assert found.tobytes() == plain.tobytes()
    assert restarted(run) == [0]


def test_a_plan_says_what_checkpoints_cost_at_most_and_a_summary_how_many_there_were(
    stack: Stack, model: Path, batch: Path
) -> None:
    for wanted in (True, False):
        run = begin(stack, model, batch, workers=WORKERS, strategy="rows", checkpoints=wanted)
        summary = json.loads(outcome(run)["output"])
        planned = json.loads(stack.files().read(RunKeys(run.run_id).plan))["checkpoints"]
        assert summary["restarted"] == 0
        if wanted:
            assert planned["every_s"] == CHECKPOINT_S
            assert 0 < planned["most_usd_per_s"] < planned["most_usd"]
            assert {name: summary["checkpoints"][name] for name in planned} == planned
            assert summary["checkpoints"]["written"] <= WORKERS * summary["seconds"]["total"] / CHECKPOINT_S
        else:
            assert planned is None
            assert summary["checkpoints"] is None
