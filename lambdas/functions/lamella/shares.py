"""A worker's share of the input, as Plan writes and the worker reads it.

It is cut into blocks of samples, so that Plan never holds more than a block as dense numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from lamella.activations import Activations
from lamella.codec import decode, encode
from lamella.errors import RunError
from lamella.inputs import Batch
from lamella.plan import Range
from lamella.tensors import bytes_tensor

BLOCK_BYTES = 16 << 20


def share_to_bytes(batch: Batch, features: NDArray[np.int64] | None, samples: Range) -> bytes:
    """The named features (all by default) of the samples ``[start, stop)``."""
    rows = batch.features if features is None else len(features)
    blocks = {}
    for start, stop in _blocks(rows, samples):
        blocks[str(start)] = bytes_tensor(encode(batch.block(features, (start, stop)), (start, stop)))
    return save_tensors(blocks)


def share_from_bytes(data: bytes, rows: int, samples: Range, where: str) -> Activations:
    """Read what `share_to_bytes` wrote of ``rows`` features.

    Raises
    ------
    RunError
        If it is something else.
    """
    try:
        tensors = load_tensors(data)
        parts = [
            decode(tensors[str(start)].tobytes(), rows, (start, stop))
            for start, stop in _blocks(rows, samples)
        ]
    except (SafetensorError, KeyError) as error:
        raise RunError(f"{where} is no share of an input: {error}") from error
    live = np.concatenate([part.live for part in parts])
    return Activations(live, np.concatenate([part.values for part in parts], axis=1))


def _blocks(rows: int, samples: Range) -> list[Range]:
    length = max(1, BLOCK_BYTES // (4 * max(rows, 1)))
    return [(start, min(start + length, samples[1])) for start in range(*samples, length)]
