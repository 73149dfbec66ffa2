"""A worker's memory holds a window of its model, however large the model is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lamella.files import Directory
from lamella.manifest import Manifest, read_manifest
from lamella.memory import (
    LEAST_WINDOW_BYTES,
    MOST_WINDOW_BYTES,
    memory_need_bytes,
    stored_bytes,
    weight_memory,
)
from lamella.plan import LayerPart, Plan, Task
from lamella.strategies import tasks_of
from lamella.tiles import read_tiles
from model_prep.writer import write_model
from tests.unit.prep.sources import random_source

MIB = 1 << 20


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    out = tmp_path_factory.mktemp("model") / "m"
    write_model(random_source([48, 48, 48]), out)
    return read_manifest(Directory(out))


def task(manifest: Manifest, samples: int = 100) -> Task:
    return tasks_of(manifest, None, Plan("serial", "none", 1, 0, samples))[0]


def wide(manifest: Manifest, nnz: int) -> Manifest:
    """A model that says it has a very large layer; nobody reads it."""
    layer = manifest.layers[1]
    return replace(manifest, layers=(manifest.layers[0], replace(layer, nnz=nnz)))


def test_need_does_not_grow_with_the_number_of_layers(manifest: Manifest) -> None:
    deep = replace(manifest, layers=manifest.layers[:1] + manifest.layers[1:] * 100_000)
    assert sum(stored_bytes(deep.layers[p.layer], p) for p in task(deep).parts) > 300 * MIB
    assert memory_need_bytes([task(deep)], deep) == memory_need_bytes([task(manifest)], manifest)


def test_need_grows_with_the_largest_layer_and_the_samples(manifest: Manifest) -> None:
    small = memory_need_bytes([task(manifest)], manifest)
    large = wide(manifest, 100_000_000)
    # One byte an index and four a value as stored, eight for the kernel.
    assert memory_need_bytes([task(large)], large) - small > 1_200 * MIB
    assert memory_need_bytes([task(manifest, 1_000_000)], manifest) - small > 700 * MIB


def test_a_pipeline_with_micro_batches_keeps_its_block_of_layers(manifest: Manifest) -> None:
    def need(layers: int, micro_batches: int) -> int:
        deep = replace(wide(manifest, 10_000_000), layers=wide(manifest, 10_000_000).layers[1:] * layers)
        plan = Plan("pipeline", "sns", 2, 0, 100, micro_batches)
        return memory_need_bytes(tasks_of(deep, None, plan), deep)

    assert need(12, 1) == need(6, 1)
    # Eight bytes an entry, of each layer of a block.
    assert 6 * 80_000_000 <= need(24, 2) - need(12, 2) < 6 * 81_000_000
    assert need(24, 3) - need(24, 2) < MIB


def test_letters_need_room_where_workers_talk(manifest: Manifest) -> None:
    """A pipeline's second worker has no peer to send to, and decodes what the first sends."""
    samples = 1_000_000
    first, second = tasks_of(manifest, None, Plan("pipeline", "sns", 2, 0, samples))
    silent = [
        replace(t, steps=tuple(replace(s, receive=(), send=()) for s in t.steps)) for t in (first, second)
    ]
    letter = 4 * samples * 48

    def letters(task: Task, without: Task) -> int:
        return memory_need_bytes([task], manifest) - memory_need_bytes([without], manifest)

    # One letter under way, and what the codec takes.
    assert letters(first, silent[0]) == letter + 4 * letter + 16 * MIB
    # It also holds what it received, beside its input.
    assert 4 * letter + 16 * MIB <= letters(second, silent[1]) <= 6 * letter + 16 * MIB


def test_micro_batches_wait_with_their_activations(manifest: Manifest) -> None:
    """They need somewhat more than all samples at once: the input stays until the last of them."""

    def need(micro_batches: int) -> int:
        plan = Plan("serial", "none", 1, 0, 1_000_000, micro_batches)
        return memory_need_bytes(tasks_of(manifest, None, plan), manifest)

    assert need(1) * 0.75 < need(4) < need(1) * 1.5


def test_the_window_comes_first_and_the_cache_has_the_rest(manifest: Manifest) -> None:
    need = memory_need_bytes([task(manifest)], manifest)
    windows = {}
    for memory_mb in (1, 300, 400, 1024, 3008):
        room = weight_memory(task(manifest), manifest, memory_mb)
        assert LEAST_WINDOW_BYTES <= room.window_bytes <= MOST_WINDOW_BYTES
        if need <= memory_mb * MIB:
            spent = need - LEAST_WINDOW_BYTES + room.window_bytes + room.cache_bytes
            assert spent == memory_mb * MIB
        windows[memory_mb] = room
    assert windows[1].cache_bytes == windows[300].cache_bytes == 0
    assert windows[3008].cache_bytes > 2500 * MIB


def test_stored_bytes_are_those_of_the_tiles(tmp_path: Path) -> None:
    write_model(random_source([48, 40, 32]), tmp_path / "m")
    files = Directory(tmp_path / "m")
    manifest = read_manifest(files)
    for k, layer in enumerate(manifest.layers):
        part = LayerPart(k, (0, layer.rows), (0, layer.nnz), "")
        tiles = read_tiles(files, manifest).of(part, "")
        assert stored_bytes(layer, part) == sum(b - a for a, b in zip(tiles.begins, tiles.ends, strict=True))
