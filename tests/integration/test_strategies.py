"""Whole runs that are cut in ways of their own: blocks of layers, rows x samples, micro-batches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lamella import client
from lamella.client import Stack
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from model_prep.writer import write_model
from tests.integration import batches
from tests.integration.runs import activations, begin

SOURCE = "radixnet:256x24"
SAMPLES = 400


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("strategies") / "model"
    write_model(open_source(SOURCE), out, workers=[2])
    return out


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return batches.write_npz(tmp_path_factory.mktemp("batch") / "blobs.npz", batches.blobs(SAMPLES, 16))


@pytest.fixture(scope="module")
def plain() -> NDArray[np.float32]:
    return plain_scipy(open_source(SOURCE), batches.blobs(SAMPLES, 16))


@pytest.mark.parametrize(
    ("strategy", "channel", "workers", "groups"),
    [("pipeline", "sns", 3, 1), ("hybrid", "s3", 4, 2), ("hybrid", "sqs", 4, 2)],
)
def test_a_run_gives_the_serial_bits_and_says_how_it_was_cut(
    stack: Stack,
    model: Path,
    batch: Path,
    plain: NDArray[np.float32],
    strategy: str,
    channel: str,
    workers: int,
    groups: int,
    tmp_path: Path,
) -> None:
    fields = {"strategy": strategy, "channel": channel, "workers": workers, "micro_batches": 2}
    run = begin(stack, model, batch, activations=True, **fields)
    assert activations(run, tmp_path).tobytes() == plain.tobytes()
    summary = client.details(run)
    assert {name: summary[name] for name in fields} == fields
    assert summary["groups"] == groups
    assert summary["categories"] == np.count_nonzero(plain.any(axis=1))
    assert stack.files(f"runs/{run.run_id}/work/").sizes() == {}


def test_a_pipeline_sends_each_block_and_micro_batch_once(
    stack: Stack, model: Path, batch: Path, tmp_path: Path
) -> None:
    run = begin(
        stack, model, batch, strategy="pipeline", channel="s3", workers=3, micro_batches=4, activations=True
    )
    activations(run, tmp_path)
    workers = client.details(run)["workers_detail"]
    assert [len(worker["steps"]) for worker in workers] == [4, 4, 4]
    assert [{step["layer"] for step in worker["steps"]} for worker in workers] == [{7}, {15}, {23}]


@pytest.mark.parametrize(("strategy", "workers"), [("samples", 3), ("hybrid", 4)])
def test_dealt_samples_come_out_in_their_own_order(
    stack: Stack, model: Path, tmp_path: Path, strategy: str, workers: int
) -> None:
    images = batches.blobs(SAMPLES, 16)
    by_ink = csr_array(images[np.argsort(np.diff(images.indptr))])
    batch = batches.write_npz(tmp_path / "sorted.npz", by_ink)
    run = begin(stack, model, batch, strategy=strategy, workers=workers, activations=True)
    expected = plain_scipy(open_source(SOURCE), by_ink)
    assert activations(run, tmp_path).tobytes() == expected.tobytes()
    assert json.loads(stack.files().read(f"runs/{run.run_id}/plan.json"))["dealt"]
    if strategy == "samples":
        live = [worker["steps"][0]["live"] for worker in client.details(run)["workers_detail"]]
        assert max(live) - min(live) < SAMPLES // 20
    assert stack.files(f"runs/{run.run_id}/work/").sizes() == {}
