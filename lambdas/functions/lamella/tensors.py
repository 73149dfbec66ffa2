"""The bits of the safetensors format that its library keeps to itself."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray


def metadata(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file that the library has accepted.

    Raises
    ------
    KeyError
        If it has none.
    """
    size = int.from_bytes(data[:8], "little")
    found: dict[str, str] = json.loads(data[8 : 8 + size])["__metadata__"]
    return found


def bytes_tensor(data: bytes) -> NDArray[np.uint8]:
    """Bytes as a tensor."""
    return np.frombuffer(data, np.uint8)
