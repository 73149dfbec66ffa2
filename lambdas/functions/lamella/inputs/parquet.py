"""Samples in a ``.parquet``: a sample a row, a feature a column of numbers, in the file's order.

Decoded by another process, `lamella.inputs.parquet_decoder`: arro3 (the Rust parquet crate) ends the process
that it runs in where it stumbles over a damaged file, and takes what memory a hostile one asks for.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import IO

import numpy as np
from numpy.typing import NDArray

from lamella.errors import BatchError
from lamella.inputs.batch import MAX_BYTES, MOST, Batch, check_shape, dense_block, join
from lamella.inputs.sparse import SparseRows
from lamella.memory_bound import bounded_memory, spare_bytes

DECODER = "lamella.inputs.parquet_decoder"
# Address space of its process, beside the file: Python, a block, and a page of each column.
DECODER_BYTES = 2**31 + 2**29
_MAGIC = b"PAR1"
_MEMORY_ENDED = (b"memory allocation", b"MemoryError")


def read_parquet(data: bytes, name: str, features: int, samples: int | None, id_column: str | None) -> Batch:
    """Decode a table of numbers.

    Parameters
    ----------
    id_column
        Name of a column that holds no feature but each sample's id: text, or whole numbers.

    Raises
    ------
    BatchError
        If it isn't sound, grows without bound, doesn't fit the model, or holds a column that is no numbers or
        has nulls, naming it; or if there is no such column of ids.
    """
    if len(data) < 3 * len(_MAGIC) or not data.startswith(_MAGIC) or not data.endswith(_MAGIC):
        raise BatchError(f"{name} is no whole .parquet file: copy it again, or write it again")
    blocks: list[SparseRows] = []
    ids: list[str] = []
    count = 0
    spare = spare_bytes()
    # Half of what there is for the other process, and half for this one.
    half = None if spare is None else spare // 2
    with bounded_memory(half):
        for values, named in _decoded(data, name, features, id_column, half):
            blocks.append(dense_block(values, count, name))
            ids += named
            count += len(values)
        check_shape((count, features), features, samples, name)
        batch = join(blocks, count, 0, name)
    return batch if id_column is None else dataclasses.replace(batch, ids=tuple(ids))


def _decoded(
    data: bytes, name: str, features: int, id_column: str | None, spare: int | None
) -> Iterator[tuple[NDArray[np.float32], list[str]]]:
    """Blocks of samples x features, with their ids."""
    request = json.dumps(
        {
            "name": name,
            "features": features,
            "id_column": id_column,
            "most": MAX_BYTES,
            "memory": DECODER_BYTES + 2 * len(data),
            "spare": spare,
        }
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(  # noqa: S603 - this Python, and a module of ours
            [sys.executable, "-m", DECODER, request],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=os.environ | {"PYTHONPATH": paths, "RUST_BACKTRACE": "0", "OPENBLAS_NUM_THREADS": "1"},
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        writer = threading.Thread(target=_write, args=(process.stdin, data), daemon=True)
        writer.start()
        try:
            yield from _blocks(process.stdout, features)
        except EOFError:
            process.wait()
            complaints.seek(0)
            said = complaints.read()
            if any(words in said for words in _MEMORY_ENDED):
                raise _too_much(name) from None
            raise BatchError(
                f"{name} can't be decoded as .parquet: it is damaged: write it again, or save it as .npy"
            ) from None
        finally:
            process.kill()
            writer.join()


def _write(stream: IO[bytes], data: bytes) -> None:
    try:
        with stream:
            stream.write(data)
    except BrokenPipeError:
        pass  # it says why


def _blocks(stream: IO[bytes], features: int) -> Iterator[tuple[NDArray[np.float32], list[str]]]:
    """What `lamella.inputs.parquet_decoder.write_blocks` wrote, until it says that this is all."""
    while True:
        head = json.loads(_exactly(stream, int.from_bytes(_exactly(stream, 8), "little")))
        if "refusal" in head:
            raise BatchError(head["refusal"])
        if head["rows"] == 0:
            return
        values = np.frombuffer(_exactly(stream, head["rows"] * features * 4), np.float32)
        yield values.reshape(head["rows"], features), head["ids"]


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise EOFError
    return data


def _too_much(name: str) -> BatchError:
    return BatchError(f"{name} unpacks to more than {MOST}: split it into several runs")
