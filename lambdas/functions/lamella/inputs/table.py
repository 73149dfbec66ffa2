"""Samples in a ``.csv``: a sample a line, a feature a column; a first line that is no numbers is a header."""

from __future__ import annotations

import csv
import io

import numpy as np

from lamella.errors import BatchError
from lamella.inputs.batch import Batch, check_shape, dense_blocks, join, reason


def read_csv(data: bytes, name: str, features: int, samples: int | None) -> Batch:
    """Parse comma-separated numbers.

    Raises
    ------
    BatchError
        If a field is no number or a line has another length than the first, naming the line; or if the table
        doesn't fit the model.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BatchError(f"{name} is not text in UTF-8 (byte {error.start:,}): save it again") from error
    if not text.strip():
        raise BatchError(f"{name} is empty: give a line of {features:,} numbers for each sample")
    skipped = _header_lines(text)
    stream = io.StringIO(text)
    for _ in range(skipped):
        stream.readline()
    if not text[stream.tell() :].strip():
        raise BatchError(f"{name} has a header and no samples: give a line of numbers for each sample")
    try:
        values = np.loadtxt(stream, np.float64, comments=None, delimiter=",", quotechar='"', ndmin=2)
    except ValueError as error:
        raise _located(text, skipped, name) or BatchError(
            f"{name} can't be read as numbers: {reason(error)}"
        ) from error
    check_shape(values.shape, features, samples, name)
    return join(dense_blocks(values, name), len(values), 0, name)


def _header_lines(text: str) -> int:
    """Lines up to and with the header; 0 if the first line that isn't blank is numbers."""
    for number, line in enumerate(io.StringIO(text), 1):
        if line.strip():
            fields = _fields(line)
            return 0 if any(_is_number(field) for field in fields) else number
    return 0


def _located(text: str, skipped: int, name: str) -> BatchError | None:
    """The first line that is wrong, and what is wrong with it."""
    width = 0
    for number, line in enumerate(io.StringIO(text), 1):
        if number <= skipped or not line.strip():
            continue
        fields = _fields(line)
        for column, value in enumerate(fields, 1):
            if not _is_number(value):
                return BatchError(
                    f"{name}, line {number:,}, column {column:,}: {value[:40]!r} is not a number"
                )
        if width and len(fields) != width:
            return BatchError(
                f"{name}, line {number:,} has {len(fields):,} numbers, the lines before it {width:,}"
            )
        width = len(fields)
    return None


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
