"""Sparse matrices by row, as far as samples need them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Worked on at a time, where all entries at once would take as much memory as they do.
_BLOCK_ENTRIES = 2**22


@dataclass(frozen=True)
class SparseRows:
    """A float32 matrix, compressed by row.

    Attributes
    ----------
    shape
        Rows and columns.
    starts : (rows + 1,) int64
        Where each row's entries begin; the first is 0.
    columns : (nnz,) int32
    values : (nnz,) float32
    """

    shape: tuple[int, int]
    starts: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]

    @property
    def nnz(self) -> int:
        return len(self.values)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row of each entry."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.starts))

    def chosen(self, keep: NDArray[np.bool_]) -> SparseRows:
        """The same with only those entries."""
        starts = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])[self.starts]
        return SparseRows(self.shape, starts, self.columns[keep], self.values[keep])

    def column_counts(self) -> NDArray[np.int64]:
        """How many entries each column has."""
        counts = np.zeros(self.shape[1], np.int64)
        for start in range(0, self.nnz, _BLOCK_ENTRIES):
            counts += np.bincount(self.columns[start : start + _BLOCK_ENTRIES], minlength=len(counts))
        return counts

    def renumber_columns(self, numbers: NDArray[np.int32]) -> None:
        """Give each column a number of its own, in place, and have each row's ascend again."""
        first = 0
        while first < self.shape[0]:
            begin = self.starts[first]
            after = int(np.searchsorted(self.starts, begin + _BLOCK_ENTRIES, side="right")) - 1
            after = max(first + 1, min(after, self.shape[0]))
            entries = slice(begin, self.starts[after])
            columns = numbers[self.columns[entries]]
            rows = np.repeat(np.arange(after - first), np.diff(self.starts[first : after + 1]))
            order = np.lexsort((columns, rows))
            self.columns[entries] = columns[order]
            self.values[entries] = self.values[entries][order]
            first = after

    def between(self, first: int, last: int, rows: NDArray[np.int64] | None = None) -> SparseRows:
        """The columns ``[first, last)`` of some rows (all by default), of a matrix whose columns ascend.

        Takes memory for those alone, however large the matrix is.
        """
        every = np.arange(self.shape[0]) if rows is None else rows
        begin, end = self._places(every, first), self._places(every, last)
        starts = _starts(end - begin)
        entries = np.repeat(begin - starts[:-1], end - begin) + np.arange(starts[-1])
        return SparseRows((len(every), self.shape[1]), starts, self.columns[entries], self.values[entries])

    def _places(self, rows: NDArray[np.int64], column: int) -> NDArray[np.int64]:
        """Of each row, its first entry that is not before a column: by bisection of all rows at once."""
        low, high = self.starts[rows], self.starts[rows + 1]
        while len(open_ := np.flatnonzero(low < high)):
            middle = (low[open_] + high[open_]) // 2
            before = self.columns[middle] < column
            low[open_[before]] = middle[before] + 1
            high[open_[~before]] = middle[~before]
        return low

    def toarray(self) -> NDArray[np.float32]:
        """It as a dense array."""
        dense = np.zeros(self.shape, np.float32)
        dense[self.rows, self.columns] = self.values
        return dense


def from_entries(
    rows: NDArray[np.integer],
    columns: NDArray[np.integer],
    values: NDArray[np.float32],
    shape: tuple[int, int],
) -> SparseRows:
    """A matrix of entries in any order: by row, and within it by column; repeated ones all stay."""
    # By row alone first: two-byte numbers are sorted in linear time, and files mostly have columns in order.
    narrow = rows.astype(np.uint16) if shape[0] <= 1 << 16 else rows
    order = np.argsort(narrow, kind="stable")
    starts = _starts(np.bincount(rows, minlength=shape[0]))
    if not _ascend(columns[order], starts):
        order = np.lexsort((columns, rows))
    return SparseRows(shape, starts, columns[order].astype(np.int32), values[order])


def repeated(matrix: SparseRows) -> tuple[int, int] | None:
    """Row and column of the first entry that is there twice, if any, of a matrix whose columns ascend."""
    same = np.flatnonzero(matrix.columns[1:] == matrix.columns[:-1]) + 1
    same = same[~np.isin(same, matrix.starts)]
    if not len(same):
        return None
    row = int(np.searchsorted(matrix.starts, same[0], side="right")) - 1
    return row, int(matrix.columns[same[0]])


def ordered(matrix: SparseRows) -> SparseRows:
    """The same with each row's columns ascending."""
    if _ascend(matrix.columns, matrix.starts):
        return matrix
    order = np.lexsort((matrix.columns, matrix.rows))
    return SparseRows(matrix.shape, matrix.starts, matrix.columns[order], matrix.values[order])


def _ascend(columns: NDArray[np.integer], starts: NDArray[np.int64]) -> bool:
    """Whether they do in every row; equal ones may follow each other."""
    falls = np.flatnonzero(columns[1:] < columns[:-1]) + 1
    return bool(np.isin(falls, starts).all())


def _starts(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
