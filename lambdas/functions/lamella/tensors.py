"""The bits of the safetensors format that its library keeps to itself.

A file is eight bytes of length, a header in JSON, and the tensors' bytes one after the other:
https://huggingface.co/docs/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

LENGTH_BYTES = 8
# The format's own limit (safetensors, MAX_HEADER_SIZE).
MOST_HEADER_BYTES = 100_000_000
_ALIGNMENT_BYTES = 8
_ITEM_BYTES = {"U8": 1, "F32": 4}


def loaded(data: bytes) -> dict[str, NDArray[Any]]:
    """The tensors of a safetensors file, whose header is held against the bytes that are there.

    Takes as much memory again as the file, and 4 KiB for each tensor.

    Raises
    ------
    ValueError
        If it is no such file, or has a type of numbers that numpy has not; says why, on one line.
    """
    try:
        return load(data)
    # For what it does not know the library raises what its own code happens to.
    except (SafetensorError, AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        lines = str(error).splitlines() or [""]
        raise ValueError(f"{type(error).__name__}: {lines[0][:80]}") from error


def metadata(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file that the library has accepted.

    Raises
    ------
    KeyError
        If it has none.
    """
    size = int.from_bytes(data[:LENGTH_BYTES], "little")
    found: dict[str, str] | None = json.loads(data[LENGTH_BYTES : LENGTH_BYTES + size])["__metadata__"]
    if found is None:
        raise KeyError("__metadata__")
    return found


def bytes_tensor(data: bytes) -> NDArray[np.uint8]:
    """Bytes as a tensor."""
    return np.frombuffer(data, np.uint8)


def head(
    tensors: Iterable[tuple[str, Literal["U8", "F32"], tuple[int, ...]]],
    described: Mapping[str, str] | None = None,
) -> bytes:
    """What stands before the bytes of tensors (name, type, shape), which follow in this order.

    So that a file can be written that is larger than memory.
    """
    entries: dict[str, object] = {"__metadata__": dict(described)} if described else {}
    start = 0
    for name, dtype, shape in tensors:
        stop = start + _ITEM_BYTES[dtype] * int(np.prod(shape, dtype=object))
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT_BYTES)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text
