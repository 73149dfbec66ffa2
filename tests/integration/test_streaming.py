"""Models that are larger than a worker's memory, and workers that are still warm."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file as load_tensors
from safetensors.numpy import save_file as save_tensors
from scipy import sparse

from lamella import client
from lamella.client import RunHandle, Stack
from lamella.files import Directory
from lamella.manifest import MANIFEST, StoredFile, read_manifest
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from model_prep.source import Source, source_layer
from model_prep.writer import write_model
from tests.integration import batches
from tests.integration.runs import activations, begin

MIB = 1 << 20


def workers_detail(handle: RunHandle) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.details(handle)["workers_detail"]
    return found


def alternating(width: int, layers: int) -> Source:
    """Two dense random layers, again and again: large, and quickly made."""
    draw = np.random.default_rng(9)
    reach = np.float32((6 / width) ** 0.5)
    made = [
        source_layer(
            f"layer {k}", (2 * draw.random((width, width), np.float32) - 1) * reach, bias=0.01, hi=32.0
        )
        for k in range(2)
    ]
    return Source("alternating", width, layers, lambda k: made[k % 2])


def repeat_layers(model: Path, times: int) -> None:
    """Let a model say that its layers come several times; they are stored once, but read as often."""
    manifest = read_manifest(Directory(model))
    path = model / manifest.tiles
    tiles = load_tensors(path)
    counts = np.tile(np.diff(tiles.pop("starts").astype(np.int64)), times)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)
    save_tensors({name: np.tile(tensor, times) for name, tensor in tiles.items()} | {"starts": starts}, path)
    data = path.read_bytes()
    stored = StoredFile(len(data), hashlib.sha256(data).hexdigest())
    longer = replace(
        manifest, layers=manifest.layers * times, files=manifest.files | {manifest.tiles: stored}, cuts={}
    )
    (model / MANIFEST).write_bytes(longer.to_json())


@pytest.mark.slow
def test_a_model_larger_than_the_workers_memory(stack: Stack, tmp_path: Path) -> None:
    write_model(alternating(4096, 2), tmp_path / "m", partitioner="blocks")
    repeat_layers(tmp_path / "m", 9)
    source = alternating(4096, 18)
    batch = sparse.csr_array(np.random.default_rng(1).random((1, 4096), np.float32))
    path = batches.write_npz(tmp_path / "batch.npz", batch)
    handle = begin(stack, tmp_path / "m", path, strategy="serial", activations=True)
    got = activations(handle, tmp_path / "out")
    assert got.any()
    assert got.tobytes() == plain_scipy(source, batch).tobytes()
    (worker,) = workers_detail(handle)
    assert worker["memory_mb"] == 1024
    assert worker["read_bytes"] > 1024 * MIB
    assert worker["window_bytes"] <= 128 * MIB
    assert worker["peak_bytes"] < 1024 * MIB


def test_a_warm_worker_does_not_read_its_weights_again(stack: Stack, tmp_path: Path) -> None:
    source = open_source("radixnet:512x20")
    write_model(source, tmp_path / "m")
    batch = batches.blobs(60, 16)
    samples = sparse.csr_array(np.hstack([batch.toarray(), batch.toarray()]).astype(np.float32))
    path = batches.write_npz(tmp_path / "batch.npz", samples)
    runs = [begin_and_wait(stack, tmp_path / "m", path, tmp_path / str(i)) for i in range(2)]
    plain = plain_scipy(source, samples).tobytes()
    assert [out for out, _ in runs] == [plain, plain]
    cold, warm = (worker for _, worker in runs)
    assert warm["process"] == cold["process"], "the second run did not get the first one's environment"
    assert (cold["reused_bytes"], warm["read_bytes"]) == (0, 0)
    assert warm["reused_bytes"] == cold["read_bytes"] == 20 * 512 * 32 * 2
    # The task with its input, the manifest, the places of its tiles, and a look for the abort mark.
    assert warm["usage"]["s3.get_object"]["calls"] == 4
    gets = [worker["usage"]["s3.get_object"]["bytes"] for worker in (cold, warm)]
    assert gets[1] < gets[0] - cold["read_bytes"] + 1000


def begin_and_wait(stack: Stack, model: Path, batch: Path, out: Path) -> tuple[bytes, dict[str, Any]]:
    """The activations and the one worker's detail."""
    handle = begin(stack, model, batch, strategy="serial", memory_mb=1769, activations=True)
    got = activations(handle, out).tobytes()
    (worker,) = workers_detail(handle)
    return got, worker
