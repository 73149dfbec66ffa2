"""Tiles are found where they are, and refused where they contradict the manifest."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lamella.cut import read_cut
from lamella.errors import ModelError
from lamella.files import Directory
from lamella.manifest import MANIFEST, StoredFile, read_manifest
from lamella.plan import LayerPart, Plan
from lamella.strategies import tasks_of
from lamella.streaming import WeightStream
from lamella.tiles import read_tiles
from model_prep.radixnet import RadixNet
from model_prep.writer import write_model
from tests.unit.prep.sources import random_source


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(random_source([20, 16, 12, 8]), tmp_path / "m", workers=[3])
    return tmp_path / "m"


class Counted(Directory):
    """Counts reads."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        object.__setattr__(self, "reads", [])

    reads: list[tuple[str, int]]

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        data = super().read(path, start, stop)
        self.reads.append((path, len(data)))
        return data


@pytest.mark.parametrize(("workers", "named"), [(2, []), (8, []), (64, []), (20, [20]), (20, [8, 20])])
def test_a_worker_of_a_small_model_reads_its_weights_at_once(
    tmp_path: Path, workers: int, named: list[int]
) -> None:
    write_model(RadixNet(1024, 24).source(), tmp_path / "m", workers=named)
    files = Counted(tmp_path / "m")
    manifest = read_manifest(files)
    tiles, cut = read_tiles(files, manifest), read_cut(files, manifest, workers)
    read = 0
    for task in tasks_of(manifest, cut, Plan("rows", "memory", workers, 1024, 1)):
        files.reads.clear()
        list(WeightStream(files, manifest, tiles, task.parts))
        assert len(files.reads) == 1
        read += files.reads[0][1]
    assert read == 2 * manifest.nnz


@pytest.mark.parametrize("workers", [2, 8, 64])
def test_where_cuts_disagree_a_worker_still_reads_layers_together(tmp_path: Path, workers: int) -> None:
    write_model(RadixNet(1024, 24).source(), tmp_path / "m", workers=[20])
    files = Counted(tmp_path / "m")
    manifest = read_manifest(files)
    tiles, cut = read_tiles(files, manifest), read_cut(files, manifest, workers)
    files.reads.clear()
    for task in tasks_of(manifest, cut, Plan("rows", "memory", workers, 1024, 1)):
        list(WeightStream(files, manifest, tiles, task.parts))
    assert len(files.reads) < workers * len(manifest.layers) * 3 // 4


def test_a_part_that_is_no_run_of_tiles_is_refused(model: Path) -> None:
    manifest = read_manifest(Directory(model))
    tiles = read_tiles(Directory(model), manifest)
    whole = LayerPart(0, (0, 16), (0, manifest.layers[0].nnz), "")
    assert sum(tiles.of(whole, "").rows) == 16
    for part in (
        replace(whole, rows=(0, 17)),
        replace(whole, rows=(0, 15)),
        replace(whole, entries=(1, manifest.layers[0].nnz)),
    ):
        with pytest.raises(ModelError, match="layer 0 of here are not whole tiles"):
            tiles.of(part, "here")


@pytest.mark.parametrize(
    ("name", "change"),
    [("rows", 1), ("entries", 1), ("offsets", 10_000), ("starts", 1)],
)
def test_a_table_that_contradicts_the_manifest_is_refused(model: Path, name: str, change: int) -> None:
    manifest = read_manifest(Directory(model))
    path = model / manifest.tiles
    tensors = {key: tensor.astype(np.int64) for key, tensor in load_file(path).items()}
    tensors[name][-1] += change
    save_file({key: tensor.astype(np.uint32) for key, tensor in tensors.items()}, path)
    data = path.read_bytes()
    with pytest.raises(ModelError, match=r"tiles\.safetensors is not the file that was prepared"):
        read_tiles(Directory(model), manifest)
    stored = StoredFile(len(data), hashlib.sha256(data).hexdigest())
    forged = replace(manifest, files=manifest.files | {manifest.tiles: stored})
    with pytest.raises(ModelError, match=r"tiles\.safetensors does not fit its manifest"):
        read_tiles(Directory(model), forged)


def test_models_of_an_older_version_are_to_be_prepared_again(model: Path) -> None:
    path = model / MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"version": 3', b'"version": 2'))
    with pytest.raises(ModelError, match=r"has format version 2, this Lamella reads 3: prep again"):
        read_manifest(Directory(model))
