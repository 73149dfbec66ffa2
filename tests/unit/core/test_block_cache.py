"""A warm worker reads again only what it had no room to keep, and never mistakes one model's bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lamella.block_cache import BlockCache
from lamella.errors import ModelError
from lamella.files import Directory
from lamella.manifest import Manifest, read_manifest
from lamella.plan import LayerPart
from lamella.streaming import WeightStream
from lamella.tiles import read_tiles
from model_prep.writer import write_model
from tests.unit.prep.sources import random_source


def blocks(cache: BlockCache, *names: str) -> list[str]:
    """Those of the names that the cache has, without touching their order."""
    return [name for name in names if name in cache._blocks]


class TestRoom:
    def test_what_was_kept_is_there(self) -> None:
        cache = BlockCache()
        cache.begin(10)
        cache.keep("a", b"12345")
        assert cache.get("a") == b"12345"
        assert cache.get("b") is None
        assert cache.held_bytes == 5

    def test_the_longest_unused_of_earlier_runs_goes_first(self) -> None:
        cache = BlockCache()
        cache.begin(9)
        for name in "abc":
            cache.keep(name, b"123")
        cache.begin(9)
        assert cache.get("a") is not None
        cache.keep("d", b"123")
        assert blocks(cache, *"abcd") == ["a", "c", "d"]
        assert cache.held_bytes == 9

    def test_a_run_does_not_push_out_its_own(self) -> None:
        cache = BlockCache()
        for _ in range(2):
            cache.begin(9)
            hits = [cache.get(name) is not None for name in "abcde"]
            for name in "abcde":
                cache.keep(name, b"123")
        assert hits == [True, True, True, False, False]

    def test_a_smaller_room_drops_at_once(self) -> None:
        cache = BlockCache()
        cache.begin(9)
        for name in "abc":
            cache.keep(name, b"123")
        cache.begin(4)
        assert blocks(cache, *"abc") == ["c"]
        cache.begin(0)
        assert cache.held_bytes == 0

    def test_what_is_larger_than_the_room_is_not_kept(self) -> None:
        cache = BlockCache()
        cache.begin(4)
        cache.keep("a", b"123")
        cache.keep("b", b"12345")
        assert blocks(cache, "a", "b") == ["a"]

    def test_a_block_does_not_hold_the_read_it_was_part_of(self) -> None:
        cache = BlockCache()
        cache.begin(100)
        whole = bytearray(b"123456")
        cache.keep("a", memoryview(whole)[2:4])
        whole[2] = 0
        assert cache.get("a") == b"34"


class Counted(Directory):
    """Counts reads."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        object.__setattr__(self, "reads", [])

    reads: list[str]

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        self.reads.append(path)
        return super().read(path, start, stop)


def whole(manifest: Manifest) -> list[LayerPart]:
    return [LayerPart(k, (0, y.rows), (0, y.nnz), y.sha256) for k, y in enumerate(manifest.layers)]


def run(
    model: Path, cache: BlockCache, room_bytes: int = 1 << 20
) -> tuple[list[bytes], Counted, WeightStream]:
    files = Counted(model)
    manifest = read_manifest(Directory(model))
    tiles = read_tiles(Directory(model), manifest)
    cache.begin(room_bytes)
    with WeightStream(files, manifest, tiles, whole(manifest), cache=cache) as stream:
        values = [part.values.tobytes() + part.indices.tobytes() for part in stream]
    return values, files, stream


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    for name, seed in (("a", 1), ("b", 2)):
        write_model(random_source([20, 16, 12, 8], seed=seed), tmp_path / name)
    return tmp_path / "a", tmp_path / "b"


class TestRuns:
    def test_a_second_run_reads_nothing(self, models: tuple[Path, Path]) -> None:
        cache = BlockCache()
        first, cold_files, cold = run(models[0], cache)
        second, warm_files, warm = run(models[0], cache)
        assert first == second
        assert cold_files.reads
        assert not warm_files.reads
        assert (cold.use.reused_bytes, warm.use.read_bytes) == (0, 0)
        assert warm.use.reused_bytes == cold.use.read_bytes == cache.held_bytes
        assert warm.use.window_bytes == 0

    def test_another_model_is_read(self, models: tuple[Path, Path]) -> None:
        cache = BlockCache()
        first, _, _ = run(models[0], cache)
        other, files, stream = run(models[1], cache)
        assert files.reads
        assert stream.use.reused_bytes == 0
        assert other != first
        assert other == run(models[1], BlockCache())[0]

    def test_what_did_not_fit_is_read_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("model_prep.writer.FILE_BYTES", 1)
        write_model(random_source([20, 16, 12, 8]), tmp_path / "m")
        models = [tmp_path / "m"]
        cache = BlockCache()
        _, _, cold = run(models[0], cache)
        room = cold.use.read_bytes // 2 + 100
        first, _, _ = run(models[0], cache, room)
        again, files, stream = run(models[0], cache, room)
        assert again == first
        assert files.reads
        assert 0 < stream.use.reused_bytes <= room
        assert stream.use.reused_bytes + stream.use.read_bytes == cold.use.read_bytes

    def test_a_file_that_is_there_in_part_is_read_as_one_range(self, models: tuple[Path, Path]) -> None:
        cache = BlockCache()
        _, _, cold = run(models[0], cache)
        room = cold.use.read_bytes // 2 + 100
        first, _, _ = run(models[0], cache, room)
        again, files, stream = run(models[0], cache, room)
        assert again == first
        assert len(files.reads) == 1
        assert stream.use.read_bytes == cold.use.read_bytes

    def test_bytes_that_fail_their_hash_are_not_kept(self, models: tuple[Path, Path]) -> None:
        manifest = read_manifest(Directory(models[0]))
        begins = read_tiles(Directory(models[0]), manifest).of(whole(manifest)[0], "").begins
        path = models[0] / manifest.layers[0].file
        good = path.read_bytes()
        bad = bytearray(good)
        bad[begins[0]] ^= 1
        path.write_bytes(bad)
        cache = BlockCache()
        with pytest.raises(ModelError, match="sha256 differs"):
            run(models[0], cache)
        assert cache.held_bytes == 0
        path.write_bytes(good)
        values, _, _ = run(models[0], cache)
        assert np.frombuffer(values[0], np.uint8).any()
