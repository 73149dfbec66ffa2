"""Sparse matrices by row, against scipy's."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from lamella.inputs.sparse import SparseRows, from_entries, ordered, repeated


@st.composite
def matrices(draw: st.DrawFn) -> tuple[SparseRows, sparse.csr_array]:
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    cells = random.permutation(shape[0] * shape[1])[: draw(st.integers(0, 40))]
    rows, columns = np.divmod(cells, shape[1])
    values = random.normal(size=len(cells)).astype(np.float32)
    theirs = sparse.coo_array((values, (rows, columns)), shape=shape).tocsr()
    theirs.sort_indices()
    return from_entries(rows, columns, values, shape), theirs


def same(ours: SparseRows, theirs: sparse.csr_array) -> bool:
    return (
        ours.shape == theirs.shape
        and ours.starts.tolist() == theirs.indptr.tolist()
        and ours.columns.tolist() == theirs.indices.tolist()
        and ours.values.tolist() == theirs.data.tolist()
    )


@given(matrices(), st.data())
def test_everything_is_as_scipy_has_it(
    case: tuple[SparseRows, sparse.csr_array], data: st.DataObject
) -> None:
    ours, theirs = case
    assert same(ours, theirs)
    assert ours.nnz == theirs.nnz
    assert ours.toarray().tolist() == theirs.toarray().tolist()
    assert ours.rows.tolist() == theirs.tocoo().row.tolist()
    rows = np.array(data.draw(st.lists(st.integers(0, ours.shape[0] - 1))), np.int64)
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, ours.shape[1])] * 2)))
    part = ours.between(first, last, rows)
    assert part.shape == (len(rows), ours.shape[1])
    within = np.zeros(ours.shape, np.float32)
    within[:, first:last] = ours.toarray()[:, first:last]
    assert part.toarray().tolist() == within[rows].tolist()
    assert ours.between(first, last).toarray().tolist() == within.tolist()
    keep = ours.columns >= data.draw(st.integers(0, 9))
    kept = sparse.csr_array(
        theirs.multiply(np.arange(theirs.shape[1]) >= min(ours.columns[keep], default=99))
    )
    kept.eliminate_zeros()
    assert same(ours.chosen(keep), kept)
    assert repeated(ours) is None


def test_wide_matrices_are_ordered_too() -> None:
    rows, columns = np.array([70_000, 3, 70_000, 3]), np.array([1, 2, 0, 0])
    ours = from_entries(rows, columns, np.arange(4, dtype=np.float32), (70_001, 3))
    assert ours.columns.tolist() == [0, 2, 0, 1]
    assert ours.values.tolist() == [3, 1, 2, 0]


def test_what_is_there_twice_is_found() -> None:
    rows, columns = np.array([2, 0, 2, 1]), np.array([1, 1, 1, 1])
    assert repeated(from_entries(rows, columns, np.ones(4, np.float32), (3, 2))) == (2, 1)


def test_columns_are_put_in_order() -> None:
    falling = SparseRows((2, 3), np.array([0, 2, 3]), np.array([2, 0, 1], np.int32), np.float32([1, 2, 3]))
    assert ordered(falling).columns.tolist() == [0, 2, 1]
    assert ordered(falling).values.tolist() == [2, 1, 3]
