"""Samples in a ``.csv``: a sample a line, a feature a column; a first line that is no numbers is a header.

One column may hold ids instead; the first line then is a header, which names it.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator, Sequence

import numpy as np

from lamella.errors import BatchError
from lamella.inputs.batch import Batch, check_shape, dense_blocks, join, reason
from lamella.inputs.ids import checked_id, id_position

_NUMBERS_ALONE = "give numbers alone, or name a column of ids with id_column (--id-column)"


def read_csv(data: bytes, name: str, features: int, samples: int | None, id_column: str | None) -> Batch:
    """Parse comma-separated numbers.

    Parameters
    ----------
    id_column
        Name of a column that holds no feature but each sample's id.

    Raises
    ------
    BatchError
        If a field is no number or a line has another length than the first, naming the line; if the table
        doesn't fit the model; or if there is no such column.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BatchError(f"{name} is not text in UTF-8 (byte {error.start:,}): save it again") from error
    if not text.strip():
        raise BatchError(f"{name} is empty: give a line of {features:,} numbers for each sample")
    if id_column is None:
        skipped, position, used, ids = _header_lines(text), None, None, None
    else:
        skipped, header = _header(text)
        position = id_position(header, id_column, name)
        used = [column for column in range(len(header)) if column != position]
        # Reading some columns alone, the parser of numbers passes over how many there are.
        ids = tuple(_ids(text, skipped, position, len(header), name))
    stream = io.StringIO(text)
    for _ in range(skipped):
        stream.readline()
    if not text[stream.tell() :].strip():
        raise BatchError(f"{name} has a header and no samples: give a line of numbers for each sample")
    if used == []:
        raise BatchError(f"{name} has a column of ids and no other: give {features:,} columns of numbers")
    try:
        values = np.loadtxt(
            stream, np.float64, comments=None, delimiter=",", quotechar='"', ndmin=2, usecols=used
        )
    except ValueError as error:
        raise _located(text, skipped, position, name) or BatchError(
            f"{name} can't be read as numbers ({reason(error)}): {_NUMBERS_ALONE}"
        ) from error
    check_shape(values.shape, features, samples, name)
    if ids is not None and len(ids) != len(values):
        raise BatchError(f"{name} has {len(ids):,} ids and {len(values):,} samples: save it again")
    batch = join(dense_blocks(values, name), len(values), 0, name)
    return dataclasses.replace(batch, ids=ids)


def _header_lines(text: str) -> int:
    """Lines up to and with the header; 0 if the first line that isn't blank is numbers."""
    number, fields = _header(text)
    return 0 if any(_is_number(field) for field in fields) else number


def _header(text: str) -> tuple[int, list[str]]:
    """Number, from 1, and fields of the first line that isn't blank."""
    for number, line in enumerate(io.StringIO(text), 1):
        if line.strip():
            return number, [field.strip() for field in _fields(line)]
    return 0, []


def _ids(text: str, skipped: int, position: int, width: int, name: str) -> Iterator[str]:
    for number, fields in _lines(text, skipped):
        if len(fields) != width:
            raise _uneven(name, number, len(fields), width)
        yield checked_id(fields[position].strip(), f"{name}, line {number:,}")


def _lines(text: str, skipped: int) -> Iterator[tuple[int, Sequence[str]]]:
    """Fields of each line of samples, with its number."""
    for number, line in enumerate(io.StringIO(text), 1):
        if number > skipped and line.strip():
            yield number, _fields(line)


def _located(text: str, skipped: int, position: int | None, name: str) -> BatchError | None:
    """The first line that is wrong, and what is wrong with it."""
    width = 0
    for number, fields in _lines(text, skipped):
        for column, value in enumerate(fields):
            if column != position and not _is_number(value):
                return BatchError(
                    f"{name}, line {number:,}, column {column + 1:,}: {value[:40]!r} is not a number: "
                    f"{_NUMBERS_ALONE}"
                )
        if width and len(fields) != width:
            return _uneven(name, number, len(fields), width)
        width = len(fields)
    return None


def _uneven(name: str, line: int, found: int, width: int) -> BatchError:
    return BatchError(
        f"{name}, line {line:,} has {found:,} columns, those before it {width:,}: give one for each feature"
    )


def _fields(line: str) -> list[str]:
    try:
        return next(csv.reader([line]))
    except csv.Error:
        # A field of more than 128 KiB, which no number is.
        return line.split(",")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text
