from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse

from lamella.errors import PlanError
from model_prep.partition import PARTITIONERS, partitioner_named
from model_prep.partition.alignment import best_places, levels_for, place
from model_prep.partition.baselines import blocks_order, random_order
from model_prep.partition.bounds import part_bounds
from model_prep.partition.cutting import BlocksHalo, Cutter
from model_prep.partition.hypergraph import hypergraph_parts
from model_prep.partition.overlap import overlap_order
from model_prep.partition.rows_in_order import RowsInOrder
from model_prep.radixnet import RadixNet
from model_prep.readers import open_source
from model_prep.source import Source, Weight, source_layer
from model_prep.writer import write_model
from tests.unit.prep.sources import random_source
from tests.unit.prep.stored import PreparedModel


def halo_rows(source: Source, partitioner: str, workers: int, named: Sequence[int] = ()) -> int:
    """Rows that are sent, counted from who owns what alone."""
    rows_in_order = RowsInOrder(PARTITIONERS[partitioner], [workers], named)
    total = 0
    owner: NDArray[np.int64] = np.empty(0, int)
    for k, layer in enumerate(source):
        stored = rows_in_order.of(layer.weight)
        parts = [stored.order[a:b] for a, b in pairwise(stored.bounds[workers])]
        for worker, part in enumerate(parts if k else ()):
            needed = np.unique(layer.weight[part].indices)
            total += int(np.count_nonzero(owner[needed] != worker))
        owner = np.empty(layer.outputs, int)
        for worker, part in enumerate(parts):
            owner[part] = worker
    return total


class TestOrders:
    @pytest.mark.parametrize("name", ["overlap", "blocks", "random"])
    @pytest.mark.parametrize("shape", [(1, 1), (7, 3), (40, 60)])
    def test_every_row_once_and_the_same_again(self, name: str, shape: tuple[int, int]) -> None:
        weight = random_source((shape[1], shape[0])).layer(0).weight
        order, again = (PARTITIONERS[name].arrange(weight, 3, [4])[0].tolist() for _ in range(2))
        assert sorted(order) == list(range(shape[0]))
        assert order == again

    def test_blocks_keep_the_order(self) -> None:
        assert blocks_order(RadixNet(64, 1).layer(0).weight, 0).tolist() == list(range(64))

    def test_random_differs_by_layer(self) -> None:
        weight = RadixNet(64, 1).layer(0).weight
        first, second = (random_order(weight, k).tolist() for k in (0, 1))
        assert first != second

    def test_overlap_finds_hidden_groups(self) -> None:
        # Four groups of rows, each with inputs of its own, shuffled.
        draw = np.random.default_rng(5)
        group = draw.permutation(np.repeat(np.arange(4), 16))
        weight = np.zeros((64, 40), np.float32)
        for row, g in enumerate(group):
            weight[row, 10 * g + draw.choice(10, 5, replace=False)] = 1
        order = overlap_order(source_layer("w", weight).weight, 0)
        assert (np.diff(group[order]) != 0).sum() == 3

    def test_overlap_follows_the_heaviest_edges(self) -> None:
        # Each row reads a window of a line; most of it the next row's too. Rows are shuffled.
        place = np.random.default_rng(6).permutation(128)
        weight = np.zeros((128, 135), np.float32)
        for row, start in enumerate(place):
            weight[row, start : start + 8] = 1
        order = overlap_order(source_layer("w", weight).weight, 0)
        steps = np.abs(np.diff(place[order]))
        # One way to the end of the line, then the other way from where it began.
        assert (steps != 1).sum() <= 1

    def test_rows_without_inputs_are_fine(self) -> None:
        weight = source_layer("w", np.array([[0, 0], [1, 0], [0, 0], [1, 0], [0, 0]])).weight
        order = overlap_order(weight, 0).tolist()
        assert sorted(order) == [0, 1, 2, 3, 4]
        assert abs(order.index(1) - order.index(3)) == 1

    def test_overlap_of_an_unstructured_layer_stays_small(self) -> None:
        draw = np.random.default_rng(0)
        rows = np.repeat(np.arange(6000), 300)
        columns = draw.integers(0, 6000, len(rows))
        matrix: sparse.csr_array = sparse.csr_array(
            (np.ones(len(rows), np.float32), (rows, columns)), shape=(6000, 6000)
        )
        weight: Weight = source_layer("w", matrix).weight
        tracemalloc.start()
        order = overlap_order(weight, 0)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert sorted(order.tolist()) == list(range(6000))
        assert peak_bytes < 250 * 2**20


class TestBounds:
    @given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 70))
    def test_parts_are_contiguous_and_none_is_empty(self, lengths: list[int], parts: int) -> None:
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        bounds = part_bounds(starts, parts)
        assert len(bounds) == parts + 1
        assert (bounds[0], bounds[-1]) == (0, len(lengths))
        assert (np.diff(bounds) >= (1 if len(lengths) >= parts else 0)).all()

    @given(st.lists(st.integers(1, 50), min_size=200, max_size=400), st.integers(2, 8))
    def test_parts_differ_by_less_than_a_row(self, lengths: list[int], parts: int) -> None:
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        loads = np.diff(starts[part_bounds(starts, parts)])
        assert np.abs(loads - starts[-1] / parts).max() <= max(lengths)

    def test_equal_rows_are_split_equally(self) -> None:
        assert part_bounds(np.arange(0, 1025 * 32, 32), 8).tolist() == list(range(0, 1025, 128))

    def test_rows_without_entries_are_spread(self) -> None:
        assert part_bounds(np.zeros(13, np.int64), 4).tolist() == [0, 3, 6, 9, 12]


@cache
def official() -> Source:
    return RadixNet(1024, 120).source()


class TestOfficialNetwork:
    def test_halo_of_contiguous_blocks(self) -> None:
        counted = BlocksHalo(8)
        for layer in official():
            counted.add(
                layer.weight.indptr.astype(np.int64), layer.weight.indices.astype(np.int64), layer.inputs
            )
        assert counted.rows == 852_992

    # KaHyPar's, aligned by the same means: python -m benchmarks.partition.
    @pytest.mark.parametrize(("workers", "kahypar"), [(8, 106_926), (62, 316_623), (64, 220_533)])
    def test_halo_of_overlap_where_it_is_asked_for(self, workers: int, kahypar: int) -> None:
        assert halo_rows(official(), "overlap", workers, [workers]) <= 1.02 * kahypar

    @pytest.mark.parametrize(("workers", "most"), [(8, 108_000), (64, 240_000)])
    def test_halo_of_overlap_where_all_share_an_order(self, workers: int, most: int) -> None:
        assert halo_rows(official(), "overlap", workers) <= most

    def test_what_a_cut_reports_is_what_is_sent(self) -> None:
        short = RadixNet(1024, 14).source()
        for name in ("overlap", "blocks", "random"):
            cutter, rows_in_order = Cutter(8), RowsInOrder(PARTITIONERS[name], [8])
            for layer in short:
                stored = rows_in_order.of(layer.weight)
                rows = stored.rows
                cutter.add(rows.starts, rows.columns, 1024, stored.bounds[8], lambda a, b: bytes(32))
            assert cutter.halo_rows == halo_rows(short, name, 8)


class TestAlignment:
    def test_parts_are_put_where_they_share_most(self) -> None:
        shared = np.array([[1, 9, 0], [0, 3, 4], [5, 5, 5]])
        assert best_places(shared) == [2, 0, 1]

    def test_shuffled_blocks_are_put_back(self) -> None:
        # Each block of eight rows reads the same block of columns; blocks come in another order.
        shuffled = np.random.default_rng(1).permutation(64)
        columns = np.repeat(shuffled, 64) * 8 + np.tile(np.arange(8), 512)
        starts = np.arange(0, 4097, 8)
        bounds = {p: np.linspace(0, 512, p + 1).astype(np.int64) for p in (8, 64)}
        freely = place(starts, columns, bounds[64], [64], bounds)
        assert (shuffled[freely] == np.arange(64)).all()
        eights_first = place(starts, columns, bounds[64], [8, 64], bounds)
        assert sorted(eights_first) == list(range(64))
        # A block that the eight hold goes where it belongs within them, and eights stay together.
        assert (shuffled[eights_first] == np.arange(64)).sum() >= 8
        assert all(len({block // 8 for block in eights_first[i : i + 8]}) == 1 for i in range(0, 64, 8))


class TestCuts:
    @pytest.fixture(params=["overlap", "blocks", "random"])
    def model(self, request: pytest.FixtureRequest, tmp_path: Path) -> PreparedModel:
        source = random_source((9, 30, 17, 17, 40), density=0.3, seed=4)
        write_model(source, tmp_path / "m", workers=[3, 5, 24], partitioner=request.param)
        return PreparedModel(tmp_path / "m")

    @pytest.mark.parametrize("workers", [2, 3, 4, 5, 8, 16, 24])
    def test_every_worker_gets_just_what_it_needs(self, model: PreparedModel, workers: int) -> None:
        cut = model.cut(workers)
        assert cut.workers == workers
        layers = model.layers()
        assert set(cut.halo) <= {(k, w) for k in range(len(layers)) for w in range(workers)}
        for k, layer in enumerate(layers):
            owned = sorted(cut.rows(k, w) for w in range(workers))
            assert owned[0][0] == 0
            assert owned[-1][1] == len(layer.order)
            assert all(a[1] == b[0] for a, b in pairwise(owned))
            for w in range(workers):
                start, stop = cut.rows(k, w)
                entries = slice(int(layer.starts[start]), int(layer.starts[stop]))
                assert cut.entries(k, w) == (entries.start, entries.stop)
                assert cut.digest(k, w) == model.digest(k, (start, stop))
                needed = set(layer.stored_columns[entries].tolist())
                if k == 0:
                    assert [(sender, set(rows.tolist())) for sender, rows in cut.halo[0, w]] == [(w, needed)]
                    continue
                received: set[int] = set()
                for sender, rows in cut.halo.get((k, w), []):
                    assert sender != w
                    assert len(rows)
                    assert rows.tolist() == sorted(rows.tolist())
                    first, last = cut.rows(k - 1, sender)
                    assert all(first <= row < last for row in rows.tolist())
                    received |= set(rows.tolist())
                assert received == needed - set(range(*cut.rows(k - 1, w)))

    def test_whole_layers_hash_as_described(self, model: PreparedModel) -> None:
        for k, layer in enumerate(model.manifest.layers):
            assert model.digest(k, (0, layer.rows)) == layer.sha256

    def test_balance(self, tmp_path: Path) -> None:
        write_model(open_source("alive:512x3"), tmp_path / "m")
        cut = PreparedModel(tmp_path / "m").cut(8)
        for k in range(3):
            loads = [b - a for a, b in (cut.entries(k, w) for w in range(8))]
            assert max(loads) <= 1.05 * sum(loads) / 8


class TestHypergraph:
    def test_a_model_is_cut_as_kahypar_says(self, tmp_path: Path) -> None:
        pytest.importorskip("kahypar", reason="KaHyPar is not installed (the extra hypergraph)")
        source = RadixNet(64, 8).source()
        report = write_model(source, tmp_path / "m", workers=[4], partitioner="hypergraph")
        cut = next(cut for cut in report.cuts if cut.workers == 4)
        assert cut.halo_rows == halo_rows(source, "hypergraph", 4, [4])
        assert cut.balance <= 1.05
        assert cut.saved > 0.3
        model = PreparedModel(tmp_path / "m")
        layers = model.layers()
        for k, layer in enumerate(source):
            part = hypergraph_parts(layer.weight, 4)
            owned = [layers[k].order[slice(*model.cut(4).rows(k, w))].tolist() for w in range(4)]
            theirs = [np.flatnonzero(part == w).tolist() for w in range(4)]
            assert sorted(sorted(rows) for rows in owned) == sorted(theirs)

    def test_it_is_for_one_number_of_workers(self, tmp_path: Path) -> None:
        with pytest.raises(PlanError, match="give --workers once"):
            write_model(RadixNet(64, 2).source(), tmp_path, workers=[2, 4], partitioner="hypergraph")

    def test_without_kahypar_one_line_says_what_to_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "kahypar", None)
        with pytest.raises(PlanError, match="install the extra 'hypergraph', or take overlap"):
            write_model(RadixNet(64, 2).source(), tmp_path / "m", partitioner="hypergraph")
        assert not (tmp_path / "m").exists()


class TestLevels:
    def test_they_are_the_named_and_their_halves(self) -> None:
        assert levels_for([]) == (8, 16, 32, 64)
        assert levels_for([62]) == (62,)
        assert levels_for([16, 4]) == (4, 16, 32, 64)
        assert levels_for([5000]) == (8, 16, 32, 64)

    def test_very_wide_layers_are_placed_by_some_of_their_columns(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exact = halo_rows(RadixNet(1024, 20).source(), "overlap", 8, [8])
        monkeypatch.setattr("model_prep.partition.alignment.MAX_CELLS", 64 * 200)
        sampled = halo_rows(RadixNet(1024, 20).source(), "overlap", 8, [8])
        assert exact < sampled < 1.1 * exact


class TestNames:
    def test_the_nearest_is_suggested(self) -> None:
        with pytest.raises(PlanError, match="did you mean overlap"):
            partitioner_named("overlaps")

    def test_all_are_named_where_none_is_near(self) -> None:
        with pytest.raises(PlanError, match="choose one of overlap, hypergraph, blocks, random"):
            partitioner_named("zzz")
