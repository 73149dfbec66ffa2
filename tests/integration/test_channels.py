"""Rows over every channel, whole runs: the same bits, and nothing left of what a run talked through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella import client
from lamella.client import RunHandle, Stack
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from model_prep.writer import write_model
from tests.cloud.helpers import wait_until
from tests.integration import batches
from tests.integration.runs import activations, begin, outcome, wait_for_workers
from workflows.embedded_cloud import EmbeddedCloud

WORKERS = 3
SOURCE = "radixnet:256x24"
MADE = ("sqs", "s3")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("channels") / "model"
    write_model(open_source(SOURCE), out, workers=[WORKERS])
    return out


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return batches.write_npz(tmp_path_factory.mktemp("batch") / "blobs.npz", batches.blobs(400, 16))


@pytest.fixture(scope="module")
def plain() -> NDArray[np.float32]:
    return plain_scipy(open_source(SOURCE), batches.blobs(400, 16))


def left(cloud: EmbeddedCloud, run: RunHandle) -> list[str]:
    """Queues made for runs, and objects that only a run's workers needed."""
    queues = cloud.client("sqs").list_queues(QueueNamePrefix=f"{run.stack.name}-run-").get("QueueUrls", [])
    objects = run.stack.files(f"runs/{run.run_id}/work/").sizes()
    return [*queues, *objects]


@pytest.mark.parametrize("channel", ["sns", *MADE])
def test_every_channel_gives_the_same_bits_and_leaves_nothing(
    cloud: EmbeddedCloud,
    stack: Stack,
    model: Path,
    batch: Path,
    plain: NDArray[np.float32],
    channel: str,
    tmp_path: Path,
) -> None:
    run = begin(stack, model, batch, strategy="rows", workers=WORKERS, channel=channel, activations=True)
    assert activations(run, tmp_path).tobytes() == plain.tobytes()
    summary = client.details(run)
    assert summary["channel"] == channel
    used = {name.partition(".")[0] for name in summary["usage"]}
    assert ("sns" in used, "sqs" in used) == {
        "sns": (True, True),
        "sqs": (False, True),
        "s3": (False, False),
    }[channel]
    assert left(cloud, run) == []


def test_through_s3_one_object_goes_to_all_and_nobody_lists(
    stack: Stack, model: Path, batch: Path, tmp_path: Path
) -> None:
    wanted = {"strategy": "rows", "workers": WORKERS, "channel": "s3", "checkpoints": False}
    run = begin(stack, model, batch, activations=True, **wanted)
    activations(run, tmp_path)
    puts = [worker["usage"]["s3.put_object"]["calls"] for worker in client.details(run)["workers_detail"]]
    # A mark, a part and a barrier's word beside the halo of 23 layers.
    assert all(count <= 23 + 3 for count in puts)
    assert all(
        "s3.list_objects_v2" not in worker["usage"] for worker in client.details(run)["workers_detail"]
    )


@pytest.mark.parametrize("channel", ["sns", "sqs"])
def test_letters_that_fit_no_message_go_by_objects_which_do_not_stay(
    cloud: EmbeddedCloud, stack: Stack, alive_model: Path, channel: str, tmp_path: Path
) -> None:
    samples = batches.blobs(9000, 16)
    batch = batches.write_npz(tmp_path / "many.npz", samples)
    wanted = {"strategy": "rows", "workers": 2, "channel": channel, "checkpoints": False}
    run = begin(stack, alive_model, batch, activations=True, **wanted)
    plain = plain_scipy(open_source("alive:256x4"), samples)
    assert activations(run, tmp_path).tobytes() == plain.tobytes()
    puts = [worker["usage"]["s3.put_object"]["calls"] for worker in client.details(run)["workers_detail"]]
    # A mark, a part, and an object for each of three layers.
    assert puts == [2 + 3] * 2
    assert left(cloud, run) == []


@pytest.mark.parametrize("channel", MADE)
def test_a_stopped_run_leaves_neither_queues_nor_objects(
    cloud: EmbeddedCloud, stack: Stack, long_model: Path, batch: Path, channel: str
) -> None:
    run = begin(stack, long_model, batch, strategy="rows", workers=WORKERS, channel=channel)
    wait_for_workers(run, WORKERS)
    client.stop(run)
    assert outcome(run)["status"] == "ABORTED"
    wait_until(lambda: stack.files().exists(f"runs/{run.run_id}/summary.json"), 30)
    wait_until(lambda: left(cloud, run) == [], 10)
