"""What holds of every partitioner, whatever the layers are like."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse

from model_prep.encode import stored_rows
from model_prep.partition import PARTITIONERS, Partitioner
from model_prep.partition.bounds import BALANCE, Runs, cheapest_bounds, part_bounds
from model_prep.partition.cutting import BlocksHalo, Cutter
from model_prep.partition.rows_in_order import RowsInOrder, StoredOrder
from model_prep.source import Weight, source_layer

SOME = settings(deadline=None, max_examples=50)
HAS_KAHYPAR = importlib.util.find_spec("kahypar") is not None
PARTITIONED = [
    pytest.param(
        partitioner,
        id=name,
        marks=pytest.mark.skipif(
            partitioner.parts is not None and not HAS_KAHYPAR,
            reason="KaHyPar is not installed (the extra hypergraph)",
        ),
    )
    for name, partitioner in PARTITIONERS.items()
]


@st.composite
def layers(draw: st.DrawFn) -> list[Weight]:
    """Layers that fit one another; rows repeat, some are empty, and some columns nobody reads."""
    widths = draw(st.lists(st.integers(1, 40), min_size=2, max_size=4))
    found: list[Weight] = []
    for k, (inputs, outputs) in enumerate(pairwise(widths)):
        seed, patterns = draw(st.integers(0, 2**16)), draw(st.integers(1, 12))
        density = draw(st.sampled_from([0.0, 0.1, 0.4]))
        chance = np.random.default_rng(seed)
        pool = chance.random((patterns, inputs)) < density
        matrix = pool[chance.integers(0, patterns, outputs)].astype(np.float32)
        found.append(source_layer(f"layer {k}", sparse.csr_array(matrix)).weight)
    return found


def in_order(
    weights: Sequence[Weight], partitioner: Partitioner, cuts: Sequence[int], named: Sequence[int]
) -> list[StoredOrder]:
    rows_in_order = RowsInOrder(partitioner, cuts, named)
    return [rows_in_order.of(weight) for weight in weights]


def read_by(weight: Weight, rows: NDArray[np.int64]) -> set[int]:
    return {
        int(column) for row in rows for column in weight.indices[weight.indptr[row] : weight.indptr[row + 1]]
    }


Few = st.lists(st.integers(2, 50), min_size=1, max_size=3, unique=True)


@pytest.mark.parametrize("partitioner", PARTITIONED)
class TestEveryPartitioner:
    @SOME
    @given(weights=layers(), cuts=Few, data=st.data())
    def test_rows_are_a_permutation_and_parts_cover_them(
        self, partitioner: Partitioner, weights: list[Weight], cuts: list[int], data: st.DataObject
    ) -> None:
        named = data.draw(st.lists(st.sampled_from(cuts), max_size=1 if partitioner.parts else 3))
        stored, again = (in_order(weights, partitioner, cuts, named) for _ in range(2))
        positions = None
        for weight, found, same in zip(weights, stored, again, strict=True):
            count = weight.shape[0]
            assert sorted(found.order.tolist()) == list(range(count))
            assert found.order.tolist() == same.order.tolist()
            expected = stored_rows(weight, found.order, positions)
            positions = np.argsort(found.order)
            assert found.rows.starts.tolist() == expected.starts.tolist()
            assert found.rows.columns.tolist() == expected.columns.tolist()
            assert found.rows.values.tolist() == expected.values.tolist()
            for workers in cuts:
                bounds = found.bounds[workers]
                assert bounds.tolist() == same.bounds[workers].tolist()
                assert (len(bounds), bounds[0], bounds[-1]) == (workers + 1, 0, count)
                assert (np.diff(bounds) >= (count >= workers and partitioner.parts is None)).all()

    @SOME
    @given(weights=layers(), workers=st.integers(2, 50))
    def test_links_carry_just_what_is_needed_and_are_counted(
        self, partitioner: Partitioner, weights: list[Weight], workers: int
    ) -> None:
        cutter = Cutter(workers)
        links: dict[tuple[int, int], dict[int, set[int]]] = {}
        owner: dict[int, int] = {}
        stored = in_order(weights, partitioner, [workers], [workers])
        for k, (weight, found) in enumerate(zip(weights, stored, strict=True)):
            bounds = found.bounds[workers]
            cutter.add(found.rows.starts, found.rows.columns, weight.shape[1], bounds, lambda *_: bytes(32))
            parts = [found.order[a:b] for a, b in pairwise(bounds)]
            for worker, part in enumerate(parts if k else ()):
                wanted: dict[int, set[int]] = {}
                for row in read_by(weight, part):
                    if owner[row] != worker:
                        wanted.setdefault(owner[row], set()).add(row)
                if wanted:
                    links[k, worker] = wanted
            owner = {int(row): worker for worker, part in enumerate(parts) for row in part}
        assert cutter.halo_rows == sum(len(rows) for wanted in links.values() for rows in wanted.values())
        assert cutter.pairs == sum(len(wanted) for wanted in links.values())
        tensors = cutter.tensors()
        ends = np.cumsum(tensors["link_lengths"].astype(np.int64)).tolist()
        sent: dict[tuple[int, int], dict[int, set[int]]] = {}
        for (k, receiver, sender), first, last in zip(
            tensors["links"].tolist(), [0, *ends], ends, strict=False
        ):
            if k:
                rows = tensors["link_rows"][first:last].astype(np.int64)
                assert rows.tolist() == sorted(set(rows.tolist()))
                sent.setdefault((k, receiver), {})[sender] = set(stored[k - 1].order[rows].tolist())
        assert sent == links


class TestBalance:
    @SOME
    @given(weights=layers(), workers=st.integers(2, 20))
    def test_no_part_is_heavier_than_allowed(self, weights: list[Weight], workers: int) -> None:
        for found in in_order(weights, PARTITIONERS["overlap"], [workers], [workers]):
            starts = found.rows.starts
            heaviest = np.diff(starts[part_bounds(starts, workers)]).max()
            allowed = max(BALANCE * starts[-1] / workers, heaviest)
            assert np.diff(starts[found.bounds[workers]]).max() <= allowed

    @pytest.mark.parametrize("workers", [2, 8, 20, 62])
    def test_of_many_rows_it_is_within_five_percent(self, workers: int) -> None:
        # Rows of unequal length, sixteen alike.
        draw = np.random.default_rng(workers)
        pool = (draw.random((128, 300)) < draw.uniform(0.02, 0.1, (128, 1))).astype(np.float32)
        weight = source_layer("w", sparse.csr_array(pool[draw.permutation(2048) % 128])).weight
        (found,) = in_order([weight], PARTITIONERS["overlap"], [workers], [workers])
        loads = np.diff(found.rows.starts[found.bounds[workers]])
        assert loads.max() <= BALANCE * loads.mean()


class TestBounds:
    @SOME
    @given(weights=layers(), workers=st.integers(2, 12), owned=st.booleans())
    def test_they_never_cost_more_than_even_ones(
        self, weights: list[Weight], workers: int, owned: bool
    ) -> None:
        for weight in weights:
            starts, columns = weight.indptr.astype(np.int64), weight.indices.astype(np.int64)
            had = part_bounds(np.arange(weight.shape[1] + 1), workers) if owned else None
            found = cheapest_bounds(Runs.of(starts, columns, weight.shape[1]), workers, had)
            even = part_bounds(starts, workers)
            loads = np.diff(starts[even])
            if loads.max() > BALANCE * starts[-1] / workers:
                continue  # even parts are too heavy to be allowed where others are not
            costs = []
            for bounds in (found, even):
                cost = 0
                for part, (a, b) in enumerate(pairwise(bounds.tolist())):
                    needed = read_by(weight, np.arange(a, b))
                    if had is not None:
                        needed -= set(range(int(had[part]), int(had[part + 1])))
                    cost += len(needed)
                costs.append(cost)
            assert costs[0] <= costs[1]

    def test_they_go_between_equal_rows(self) -> None:
        # Three runs of equal rows, of 21, 22 and 21, in thirds that are all but even.
        starts = np.arange(0, 65 * 4, 4)
        columns = (np.repeat([0, 4, 8], [21, 22, 21])[:, None] + np.arange(4)).ravel()
        runs = Runs.of(starts, columns, 12)
        assert part_bounds(starts, 3).tolist() == [0, 21, 43, 64]
        assert cheapest_bounds(runs, 3).tolist() == [0, 21, 43, 64]
        # In halves no bound is between them that leaves the parts nearly equal.
        assert cheapest_bounds(runs, 2).tolist() == [0, 32, 64]
        # Columns that a part has anyway cost it nothing.
        columns = (np.repeat([0, 4], [33, 31])[:, None] + np.arange(4)).ravel()
        assert cheapest_bounds(Runs.of(starts, columns, 12), 2).tolist() == [0, 33, 64]
        assert cheapest_bounds(Runs.of(starts, columns, 12), 2, np.array([0, 12, 12])).tolist() == [0, 33, 64]
        assert cheapest_bounds(Runs.of(starts, columns, 12), 2, np.array([0, 4, 12])).tolist() == [0, 33, 64]


@SOME
@given(weights=layers(), workers=st.integers(2, 50))
def test_blocks_are_counted_as_they_would_be_cut(weights: list[Weight], workers: int) -> None:
    counted, cutter = BlocksHalo(workers), Cutter(workers)
    for weight, found in zip(weights, in_order(weights, PARTITIONERS["blocks"], [workers], []), strict=True):
        counted.add(weight.indptr.astype(np.int64), weight.indices.astype(np.int64), weight.shape[1])
        cutter.add(
            found.rows.starts, found.rows.columns, weight.shape[1], found.bounds[workers], lambda *_: b""
        )
    assert counted.rows == cutter.halo_rows
