"""Writing safetensors files whose bytes are settled: tensors lie in the order given, offsets are known."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lamella.manifest import DTYPES, StoredFile
from lamella.numbers import BFLOAT16

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class WrittenFile:
    """A file, and where in it each tensor's bytes begin."""

    stored: StoredFile
    offsets: dict[str, int]


def dtype_name(array: NDArray[Any]) -> Any:
    """What safetensors calls an array's type: one of `lamella.manifest.DType`."""
    if array.dtype == BFLOAT16:
        return "BF16"
    return _NAMES[array.dtype.newbyteorder("<")]


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]]) -> WrittenFile:
    """Write a safetensors file.

    The header's length, eight bytes, then the header padded with spaces to a multiple of eight, then the
    tensors one after the other (https://huggingface.co/docs/safetensors, "Format").
    """
    header: dict[str, object] = {}
    begins: dict[str, int] = {}
    size = 0
    for name, array in tensors.items():
        begins[name] = size
        size += array.nbytes
        header[name] = {
            "dtype": dtype_name(array),
            "shape": list(array.shape),
            "data_offsets": [begins[name], size],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    state = hashlib.sha256(head)
    with path.open("wb") as file:
        file.write(head)
        for array in tensors.values():
            data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data
            state.update(data)
            file.write(data)
    offsets = {name: len(head) + begin for name, begin in begins.items()}
    return WrittenFile(StoredFile(len(head) + size, state.hexdigest()), offsets)
