"""A worker's share of the input, as Plan writes and the worker reads it.

It is cut into blocks of samples, so that Plan never holds more than a block as dense numbers, nor a whole
share as bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lamella.activations import Activations
from lamella.codec import decode, encode
from lamella.errors import RunError
from lamella.inputs import Batch
from lamella.plan import Range
from lamella.storage import Bucket
from lamella.tensors import head, loaded
from lamella.uploads import PART_BYTES, SENDERS, Upload

BLOCK_BYTES = 4 << 20
# What goes with a task, which is a request less; and what is tried at all, before it is encoded.
SMALL_BYTES, SMALL_DENSE_BYTES = 4 << 20, 32 << 20
# A block while it is encoded: its numbers, which cells are not zero, what they are, deflated or not.
_ENCODING_ARRAYS = 6


def encoded_share(batch: Batch, features: NDArray[np.int64] | None, samples: Range) -> Iterator[bytes]:
    """The named features (all by default) of the samples ``[start, stop)``, a block at a time."""
    rows = batch.features if features is None else len(features)
    for bounds in _blocks(rows, samples):
        yield encode(batch.block(features, bounds), bounds)


def share_head(rows: int, samples: Range, sizes: list[int]) -> bytes:
    """What stands before blocks of these sizes, bytes: a safetensors file's head."""
    named = zip(_blocks(rows, samples), sizes, strict=True)
    return head([(str(start), "U8", (size,)) for (start, _), size in named])


def share_to_bytes(batch: Batch, features: NDArray[np.int64] | None, samples: Range) -> bytes:
    """A whole share, for one that is small."""
    rows = batch.features if features is None else len(features)
    blocks = list(encoded_share(batch, features, samples))
    return b"".join([share_head(rows, samples, [len(block) for block in blocks]), *blocks])


def small_share(batch: Batch, features: NDArray[np.int64] | None, samples: Range) -> bytes | None:
    """A whole share, if it is small enough to go with its worker's task; None if it isn't."""
    rows = batch.features if features is None else len(features)
    if 4 * rows * (samples[1] - samples[0]) > SMALL_DENSE_BYTES:
        return None
    share = share_to_bytes(batch, features, samples)
    return share if len(share) <= SMALL_BYTES else None


def write_share(
    bucket: Bucket, path: str, batch: Batch, features: NDArray[np.int64] | None, samples: Range
) -> None:
    """Write a share that may be large."""
    rows = batch.features if features is None else len(features)
    sizes = []
    with Upload(bucket, path, expected_bytes=4 * rows * (samples[1] - samples[0])) as upload:
        for block in encoded_share(batch, features, samples):
            sizes.append(len(block))
            upload.write(block)
        upload.finish(share_head(rows, samples, sizes))


def writing_bytes(rows: int, samples: Range) -> int:
    """Memory that `write_share` takes at most."""
    dense = 4 * rows * (samples[1] - samples[0])
    return _ENCODING_ARRAYS * min(dense, max(BLOCK_BYTES, 4 * rows)) + min(dense, (SENDERS + 3) * PART_BYTES)


def share_from_bytes(data: bytes, rows: int, samples: Range, where: str) -> Activations:
    """Read what `share_to_bytes` wrote of ``rows`` features.

    Raises
    ------
    RunError
        If it is something else.
    """
    try:
        tensors = loaded(data)
        parts = [
            decode(tensors[str(start)].tobytes(), rows, (start, stop))
            for start, stop in _blocks(rows, samples)
        ]
    except (KeyError, ValueError) as error:
        raise RunError(f"{where} is no share of an input: {error}") from error
    live = np.concatenate([part.live for part in parts])
    return Activations(live, np.concatenate([part.values for part in parts], axis=1))


def _blocks(rows: int, samples: Range) -> list[Range]:
    length = max(1, BLOCK_BYTES // (4 * max(rows, 1)))
    return [(start, min(start + length, samples[1])) for start in range(*samples, length)]
