"""Graph Challenge images: lines of sample, feature and value, both numbers from 1, between tabs.

Text is parsed a few megabytes at a time, in arrays of bytes: a plain line (digits and single tabs) costs some
100 ns. What is not plain (signs, exponents, spaces) is parsed line by line, which also finds what is wrong.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.errors import BatchError
from lamella.inputs.batch import MAX_BYTES, MAX_SAMPLES, MOST, Batch, entry_block, join, reason
from lamella.inputs.sparse import SparseRows

_PIECE_BYTES = 2**22
_MAX_DIGITS = 9
_TAB, _LINE_FEED, _ZERO = 9, 10, 48


@dataclass(frozen=True)
class _Entries:
    """Lines of a file; numbers from 1."""

    samples: NDArray[np.int64]
    features: NDArray[np.int64]
    values: NDArray[np.float64]


def read_graph_challenge(data: bytes, name: str, features: int, samples: int | None) -> Batch:
    """Parse a ``.tsv``, or a gzip of one.

    The samples are as many as ``samples`` says, or as the highest number; those that no line names are zero.

    Raises
    ------
    BatchError
        If a line is no sample, feature and value within bounds, or repeats another; naming the line.
    """
    highest = min(samples or MAX_SAMPLES, MAX_SAMPLES)
    blocks: list[SparseRows] = []
    line, last = 1, 0
    # Each piece becomes a block with a number for every feature: of that there is to be no more than of text.
    size = max(_PIECE_BYTES, 8 * features)
    pieces = _decompressed(data, name, size) if name.lower().endswith(".gz") else _pieces(data, size)
    for text in _whole_lines(pieces):
        if not text.strip():
            line += text.count(b"\n")
            continue
        entries = _parse_plain(text)
        if entries is None or not _within(entries, highest, features):
            entries = _parse_lines(text, line, name, highest, features)
        line += text.count(b"\n")
        last = max(last, int(entries.samples.max(initial=0)))
        blocks.append(
            entry_block(entries.samples - 1, entries.features - 1, entries.values, features, 1, name)
        )
    if not last:
        raise BatchError(f"{name} is empty: give lines of sample, feature and value between tabs")
    return join(blocks, samples or last, 1, name)


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def _decompressed(data: bytes, name: str, size: int) -> Iterator[bytes]:
    """Text of a gzip file of one or more members, bounded in what it may grow to."""
    total = 0
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        while True:
            try:
                text = stream.read(size)
            except EOFError as error:
                raise BatchError(
                    f"{name} ends in the middle of its gzip stream: copy it again, whole"
                ) from error
            except (OSError, zlib.error) as error:
                raise BatchError(f"{name} is no sound gzip file ({reason(error)}): make it again") from error
            total += len(text)
            if total > MAX_BYTES:
                raise BatchError(f"{name} unpacks to more than {MOST}: split it into several runs")
            if not text:
                return
            yield text


def _whole_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        cut = piece.rfind(b"\n") + 1
        if cut:
            yield rest + piece[:cut]
            rest = piece[cut:]
        else:
            rest += piece
        if len(rest) > _PIECE_BYTES:
            # No line is this long: let the parser refuse it before more is gathered.
            yield rest
            rest = b""
    if rest:
        yield rest


def _parse_plain(text: bytes) -> _Entries | None:
    """Lines of three unsigned whole numbers between single tabs; None if there is anything else."""
    if not text.endswith(b"\n"):
        text += b"\n"
    letters = np.frombuffer(text, np.uint8)
    marks = np.flatnonzero(letters < _ZERO)
    if len(marks) % 3:
        return None
    ends = marks.reshape(-1, 3)
    kinds = letters[ends]
    if not ((kinds[:, :2] == _TAB).all() and (kinds[:, 2] == _LINE_FEED).all()):
        return None
    starts = np.concatenate([[0], marks[:-1] + 1]).reshape(-1, 3)
    columns = [_parse_digits(letters, starts[:, i], ends[:, i]) for i in range(3)]
    sample, feature, value = columns
    if sample is None or feature is None or value is None:
        return None
    return _Entries(sample, feature, value.astype(np.float64))


def _parse_digits(
    letters: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    widths = ends - starts
    longest = int(widths.max(initial=0))
    if longest > _MAX_DIGITS or int(widths.min(initial=1)) < 1:
        return None
    number = np.zeros(len(starts), np.int64)
    # From the last digit to the first: shorter numbers drop out, and what is read before them counts nothing.
    for place in range(longest):
        digit = letters[np.maximum(ends - 1 - place, 0)].astype(np.int64) - _ZERO
        inside = widths > place
        if (((digit < 0) | (digit > 9)) & inside).any():
            return None
        number += np.where(inside, digit, 0) * 10**place
    return number


def _within(piece: _Entries, samples: int, features: int) -> bool:
    return bool(
        piece.samples.min(initial=1) >= 1
        and piece.samples.max(initial=1) <= samples
        and piece.features.min(initial=1) >= 1
        and piece.features.max(initial=1) <= features
    )


def _parse_lines(text: bytes, first_line: int, name: str, samples: int, features: int) -> _Entries:
    numbers: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    for line, words in enumerate((line.split() for line in text.split(b"\n")), first_line):
        if not words:
            continue
        entry = _parse_entry(words)
        if entry is None:
            shown = b" ".join(words)[:40].decode("ascii", "replace")
            raise BatchError(f"{name}, line {line:,}: {shown!r} is no sample, feature and value between tabs")
        number, column, amount = entry
        if not 1 <= number <= samples:
            raise BatchError(
                f"{name}, line {line:,} names sample {number:,}: use numbers from 1 to {samples:,}"
            )
        if not 1 <= column <= features:
            raise BatchError(
                f"{name}, line {line:,} names feature {column:,}: the model takes features 1 to {features:,}"
            )
        numbers.append(number)
        columns.append(column)
        values.append(amount)
    return _Entries(np.array(numbers, np.int64), np.array(columns, np.int64), np.array(values, np.float64))


def _parse_entry(words: list[bytes]) -> tuple[int, int, float] | None:
    # Python reads 1_0 as 10; no other reader of these files would.
    if len(words) != 3 or any(b"_" in word for word in words):
        return None
    try:
        return int(words[0]), int(words[1]), float(words[2])
    except ValueError:
        return None
