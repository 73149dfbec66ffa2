"""Weights are refused unless they are the bytes that were prepared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lamella import weights
from lamella.errors import ModelError
from lamella.files import Directory
from lamella.manifest import Manifest, read_cut, read_manifest
from lamella.plan import LayerPart
from lamella.weights import read_parts
from model_prep.writer import write_model
from tests.unit.prep.sources import random_source


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(random_source([20, 16, 12, 8]), tmp_path / "m", workers=[])
    return tmp_path / "m"


def whole(manifest: Manifest) -> list[LayerPart]:
    return [LayerPart(k, (0, y.rows), (0, y.nnz), y.sha256) for k, y in enumerate(manifest.layers)]


def test_a_changed_byte_is_found_and_its_place_named(model: Path) -> None:
    manifest = read_manifest(Directory(model))
    indices = manifest.layers[1].indices
    data = bytearray((model / indices.file).read_bytes())
    data[indices.offset] ^= 1
    (model / indices.file).write_bytes(data)
    parts = read_parts(Directory(model), manifest, whole(manifest))
    next(parts)
    with pytest.raises(ModelError, match=r"layer 1, rows 0 to 12, .*sha256 differs"):
        next(parts)


def test_a_short_or_missing_file_is_said(model: Path) -> None:
    manifest = read_manifest(Directory(model))
    file = model / manifest.layers[-1].indices.file
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="copy or prepare the model again"):
        list(read_parts(Directory(model), manifest, whole(manifest)))
    file.unlink()
    with pytest.raises(ModelError, match="copy or prepare the model again"):
        list(read_parts(Directory(model), manifest, whole(manifest)))


def test_reads_are_bounded_by_the_window(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "WINDOW_BYTES", 1)
    monkeypatch.setattr(weights, "READ_BYTES", 1)
    manifest = read_manifest(Directory(model))
    reads: list[str] = []

    class Watched(Directory):
        def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
            reads.append(path)
            return super().read(path, start, stop)

    parts = read_parts(Watched(model), manifest, whole(manifest))
    next(parts)
    first = len(reads)
    list(parts)
    assert first < len(reads)


def test_indices_beyond_the_input_block_are_refused(model: Path) -> None:
    manifest = read_manifest(Directory(model))
    (part, *_) = read_parts(Directory(model), manifest, whole(manifest))
    with pytest.raises(ModelError, match="its cut doesn't name"):
        part.for_kernel(manifest.layers[0], np.full(20, -1, np.int32), 20)


def test_one_read_serves_neighbouring_tensors_and_layers(model: Path) -> None:
    manifest = read_manifest(Directory(model))
    reads: list[tuple[int, int | None]] = []

    class Watched(Directory):
        def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
            reads.append((start, stop))
            return super().read(path, start, stop)

    list(read_parts(Watched(model), manifest, whole(manifest)))
    tensors = sum(4 for _ in manifest.layers)
    assert len(reads) < tensors / 2


def test_a_part_that_contradicts_its_cut_is_refused(model: Path) -> None:
    manifest = read_manifest(Directory(model))
    part = replace(whole(manifest)[0], rows=(0, manifest.layers[0].rows - 1))
    with pytest.raises(ModelError):
        list(read_parts(Directory(model), manifest, [part]))


def test_a_changed_cut_is_found(tmp_path: Path) -> None:
    write_model(random_source([20, 16, 12, 8]), tmp_path / "m", workers=[2])
    files = Directory(tmp_path / "m")
    manifest = read_manifest(files)
    path = tmp_path / "m" / manifest.cuts[2]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"2\.safetensors is not the file that was prepared"):
        read_cut(files, manifest, 2)
