"""Decodes a ``.parquet`` from stdin for `lamella.inputs.parquet`, a block of samples at a time, to stdout.

A process of its own, of bounded memory. Nothing else imports this, nor arro3.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterator, Sequence
from typing import IO, Any

import arro3.io
import numpy as np
from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader
from numpy.typing import NDArray

from lamella.errors import BatchError
from lamella.inputs.batch import MAX_SAMPLES, MOST, reason
from lamella.inputs.ids import checked_id, id_position

with contextlib.suppress(ImportError):
    import resource

_VIA = "C Data interface error: "
# Of what a block is gathered to, values.
BLOCK_VALUES = 2**22


def decoded(
    data: bytes, name: str, features: int, id_column: str | None, most_bytes: int
) -> Iterator[tuple[NDArray[np.float32], list[str]]]:
    """Blocks of samples x features, with their ids.

    Raises
    ------
    BatchError
        As `lamella.inputs.parquet.read_parquet`.
    """
    reader = _opened(data, name)
    columns = _columns(reader, name, features, id_column)
    position = None if id_column is None else id_position(reader.schema.names, id_column, name)
    gathered: list[NDArray[np.float32]] = []
    ids: list[str] = []
    count = 0
    for batch in _batches(reader, name):
        rows = batch.num_rows
        if count + rows > MAX_SAMPLES:
            raise BatchError(f"{name} holds more than {MAX_SAMPLES:,} samples: split it")
        if (count + rows) * features * 4 > most_bytes:
            raise BatchError(f"{name} unpacks to more than {MOST}: split it into several runs")
        values = np.empty((rows, features), np.float32)
        for place, column in enumerate(columns):
            values[:, place] = _numbers(batch, column, count, name)
        gathered.append(values)
        if position is not None:
            ids += _ids(batch, position, count, name)
        count += rows
        if sum(each.size for each in gathered) >= BLOCK_VALUES:
            yield np.concatenate(gathered), ids
            gathered, ids = [], []
    if gathered:
        yield np.concatenate(gathered), ids


def write_blocks(blocks: Iterator[tuple[NDArray[np.float32], list[str]]], stream: IO[bytes]) -> None:
    """Each block as the length of a JSON object, the object, and the values; one of no rows ends it.

    An error instead says what is wrong.
    """
    try:
        for values, ids in blocks:
            if len(values):
                _write_head(stream, {"rows": len(values), "ids": ids})
                stream.write(np.ascontiguousarray(values).data)
        _write_head(stream, {"rows": 0, "ids": []})
    except BatchError as error:
        _write_head(stream, {"refusal": str(error)})
    stream.flush()


def _write_head(stream: IO[bytes], head: dict[str, Any]) -> None:
    text = json.dumps(head).encode()
    stream.write(len(text).to_bytes(8, "little") + text)


def _opened(data: bytes, name: str) -> RecordBatchReader:
    try:
        return arro3.io.read_parquet(io.BytesIO(data))
    except Exception as error:
        raise _damaged(name, error) from error


def _batches(reader: RecordBatchReader, name: str) -> Iterator[RecordBatch]:
    """Some thousand rows at a time."""
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except Exception as error:
            raise _damaged(name, error) from error
        yield batch


def _damaged(name: str, error: Exception) -> BatchError:
    what = reason(RuntimeError(str(error).removeprefix(_VIA)))
    return BatchError(f"{name} can't be decoded as .parquet ({what}): write it again, or save it as .npy")


def _columns(reader: RecordBatchReader, name: str, features: int, id_column: str | None) -> list[int]:
    """Places of the features' columns, each of which must be of numbers."""
    schema = reader.schema
    if id_column is not None:
        id_position(schema.names, id_column, name)
    found = []
    for place in range(len(schema)):
        field = schema.field(place)
        if field.name == id_column:
            if not (DataType.is_integer(field.type) or _is_text(field)):
                raise BatchError(
                    f"{name}: column {field.name[:40]!r} is of type {_type(field)}: ids are text or whole "
                    "numbers"
                )
            continue
        if not (DataType.is_integer(field.type) or DataType.is_floating(field.type) or _is_boolean(field)):
            raise BatchError(
                f"{name}: column {field.name[:40]!r} is of type {_type(field)}: store it as float32, "
                "leave it out, or name it as the column of ids with id_column (--id-column)"
            )
        found.append(place)
    if len(found) != features:
        raise BatchError(
            f"{name} has {len(found):,} columns of numbers, the model takes {features:,} features: "
            f"give one column for each{_where_ids_go(len(found), features, id_column)}"
        )
    return found


def _where_ids_go(found: int, features: int, id_column: str | None) -> str:
    if found == features + 1 and id_column is None:
        return ", or name the one of ids with id_column (--id-column)"
    return ""


def _is_boolean(field: Field) -> bool:
    return DataType.is_boolean(field.type)


def _is_text(field: Field) -> bool:
    kinds = (DataType.is_string, DataType.is_large_string, DataType.is_string_view)
    return any(kind(field.type) for kind in kinds)


def _type(field: Field) -> str:
    text = str(field.type).strip().removeprefix("arro3.core.DataType<").removesuffix(">")
    return text.splitlines()[0][:40]


def _numbers(batch: RecordBatch, column: int, first: int, name: str) -> NDArray[np.float32]:
    array, label = batch.column(column), batch.schema.field(column).name
    _check_present(array, label, first, name, "every sample needs a number")
    given: NDArray[Any] = np.asarray(array)
    with np.errstate(over="ignore"):
        values = given.astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        value = float(given[wrong[0]])
        what = "is too large for float32" if np.isfinite(value) else "is not a finite number"
        raise BatchError(
            f"{name}: column {label[:40]!r}, row {first + int(wrong[0]):,}: {value:g} {what}: "
            "clean or scale the input"
        )
    return values


def _ids(batch: RecordBatch, column: int, first: int, name: str) -> Sequence[str]:
    array, label = batch.column(column), batch.schema.field(column).name
    _check_present(array, label, first, name, "give every sample an id")
    return [
        checked_id(str(array[row].as_py()), f"{name}: column {label[:40]!r}, row {first + row:,}")
        for row in range(len(array))
    ]


def _check_present(array: Array, label: str, first: int, name: str, wanted: str) -> None:
    if array.null_count:
        row = next(row for row in range(len(array)) if not array[row].is_valid)
        raise BatchError(f"{name}: column {label[:40]!r}, row {first + row:,} is null: {wanted}")


def main() -> None:
    """Read a file from stdin; the argument says of what model it should be."""
    asked = json.loads(sys.argv[1])
    if "resource" in globals():
        limit = asked["memory"]
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        if asked["spare"] is not None:
            spare = asked["spare"]
            resource.setrlimit(resource.RLIMIT_DATA, (spare, spare))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    data = sys.stdin.buffer.read()
    blocks = decoded(data, asked["name"], asked["features"], asked["id_column"], asked["most"])
    write_blocks(blocks, sys.stdout.buffer)


if __name__ == "__main__":
    main()
