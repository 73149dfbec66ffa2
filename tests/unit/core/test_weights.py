"""Weights are refused unless they are the bytes that were prepared."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lamella import streaming
from lamella.cut import read_cut
from lamella.deadline import Deadline
from lamella.errors import DeadlineExceeded, ModelError
from lamella.files import Directory
from lamella.manifest import Manifest, read_manifest
from lamella.memory import stored_bytes
from lamella.plan import LayerPart
from lamella.streaming import WeightStream
from lamella.tiles import read_tiles
from model_prep.writer import write_model
from tests.unit.prep.sources import random_source


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(random_source([20, 16, 12, 8]), tmp_path / "m", workers=[])
    return tmp_path / "m"


def opened(
    files: Directory, manifest: Manifest, parts: Sequence[LayerPart], window_bytes: int = 1 << 20
) -> WeightStream:
    """The parts, as a worker reads them; its own reads alone are the given files'."""
    tiles = read_tiles(Directory(files.root), manifest)
    return WeightStream(files, manifest, tiles, parts, window_bytes)


def whole(manifest: Manifest) -> list[LayerPart]:
    return [LayerPart(k, (0, y.rows), (0, y.nnz), y.sha256) for k, y in enumerate(manifest.layers)]


class Watched(Directory):
    """Remembers what is read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        object.__setattr__(self, "reads", [])

    reads: list[tuple[str, int, int]]

    @property
    def asked_bytes(self) -> int:
        return sum(stop - start for _, start, stop in self.reads)

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        assert stop is not None
        self.reads.append((path, start, stop))
        return super().read(path, start, stop)


def test_a_changed_byte_is_found_and_its_place_named(model: Path) -> None:
    manifest = read_manifest(Directory(model))
    file = model / manifest.layers[1].file
    begins = read_tiles(Directory(model), manifest).of(whole(manifest)[1], "").begins
    data = bytearray(file.read_bytes())
    data[begins[0]] ^= 1
    file.write_bytes(data)
    parts = opened(Directory(model), manifest, whole(manifest))
    next(parts)
    with pytest.raises(ModelError, match=r"layer 1, rows 0 to 12, .*sha256 differs"):
        next(parts)


def test_a_short_or_missing_file_is_said(model: Path) -> None:
    manifest = read_manifest(Directory(model))
    file = model / manifest.layers[-1].file
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="copy or prepare the model again"):
        list(opened(Directory(model), manifest, whole(manifest)))
    file.unlink()
    with pytest.raises(ModelError, match="copy or prepare the model again"):
        list(opened(Directory(model), manifest, whole(manifest)))


def test_reads_are_bounded_by_the_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "READ_BYTES", 64)
    monkeypatch.setattr("model_prep.writer.FILE_BYTES", 1)
    model = tmp_path / "m"
    write_model(random_source([20, 16, 12, 8]), model)
    manifest = read_manifest(Directory(model))
    sizes = [stored_bytes(manifest.layers[part.layer], part) for part in whole(manifest)]
    for window_bytes in (1, 200, max(sizes), sum(sizes)):
        files = Watched(model)
        taken = 0
        with opened(files, manifest, whole(manifest), window_bytes) as stream:
            for size in sizes:
                time.sleep(0.02)
                # What is needed next is read in any case; reads are of up to 64 bytes.
                assert files.asked_bytes - taken <= max(window_bytes, size + 64)
                next(stream)
                taken += size
        assert stream.use.read_bytes == files.asked_bytes == sum(sizes)
        assert stream.use.window_bytes <= max(window_bytes, max(sizes) + 64)


def test_a_large_window_is_used(model: Path) -> None:
    manifest = read_manifest(Directory(model))
    files = Watched(model)
    with opened(files, manifest, whole(manifest)):
        time.sleep(0.05)
        assert files.asked_bytes == sum(stored_bytes(manifest.layers[p.layer], p) for p in whole(manifest))


def test_reads_go_on_at_the_same_time(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "READ_BYTES", 64)
    lock = threading.Lock()
    now: list[int] = []
    together: list[int] = []

    class Slow(Directory):
        def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
            with lock:
                now.append(start)
                together.append(len(now))
            time.sleep(0.02)
            with lock:
                now.remove(start)
            return super().read(path, start, stop)

    manifest = read_manifest(Directory(model))
    next(opened(Slow(model), manifest, whole(manifest)))
    assert max(together) >= 4


def test_indices_beyond_the_input_block_are_refused(model: Path) -> None:
    manifest = read_manifest(Directory(model))
    (part, *_) = opened(Directory(model), manifest, whole(manifest))
    with pytest.raises(ModelError, match="its cut doesn't name"):
        part.for_kernel(manifest.layers[0], np.full(20, -1, np.int32), 20)


def test_one_read_serves_neighbouring_tensors_and_layers(model: Path) -> None:
    manifest = read_manifest(Directory(model))
    files = Watched(model)
    list(opened(files, manifest, whole(manifest)))
    tensors = sum(4 for _ in manifest.layers)
    assert len(files.reads) < tensors / 2


def test_a_part_that_contradicts_its_cut_is_refused(model: Path) -> None:
    manifest = read_manifest(Directory(model))
    part = replace(whole(manifest)[0], rows=(0, manifest.layers[0].rows - 1))
    with pytest.raises(ModelError):
        list(opened(Directory(model), manifest, [part]))


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


class Stalled(Directory):
    """A service that leaves a read without an answer."""

    def __init__(self, root: Path, answer: threading.Event) -> None:
        super().__init__(root)
        object.__setattr__(self, "answer", answer)

    answer: threading.Event

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        self.answer.wait(20)
        return super().read(path, start, stop)


def test_a_deadline_ends_the_wait_for_a_read_that_stalls(model: Path) -> None:
    answer = threading.Event()
    manifest = read_manifest(Directory(model))
    deadline = Deadline.after(0.1)
    tiles = read_tiles(Directory(model), manifest)
    stream = WeightStream(
        Stalled(model, answer),
        manifest,
        tiles,
        whole(manifest),
        check=lambda: deadline.check("time was up while weights were read"),
    )
    began_s = time.monotonic()
    with stream, pytest.raises(DeadlineExceeded, match="while weights were read"):
        next(stream)
    assert time.monotonic() - began_s < 5
    answer.set()
