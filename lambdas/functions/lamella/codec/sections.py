"""A message's bytes: whole numbers, and sections of a length that the reader knows beforehand."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lamella.codec.deflate import Bytes, deflate, inflate
from lamella.errors import MessageError

_Scalar = TypeVar("_Scalar", bound=np.generic)

_MOST_NUMBER_BYTES = 5  # of 7 bits: numbers up to 2**32 and a little more


class Writer:
    """Puts a message together."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def raw(self, data: bytes) -> None:
        """As they are."""
        self._pieces.append(data)

    def number(self, number: int) -> None:
        """In as many bytes as it needs: LEB128."""
        written = bytearray()
        while number > 0x7F:
            written.append(number & 0x7F | 0x80)
            number >>= 7
        written.append(number)
        self._pieces.append(bytes(written))

    def section(self, values: NDArray[Any]) -> None:
        """An array's bytes, deflated where that is worth it. Its length is not written."""
        data: Bytes = values.reshape(-1).view(np.uint8)
        if not len(data):
            return
        deflated = deflate(data)
        self.number(0 if deflated is None else len(deflated))
        self._pieces.append(data.tobytes() if deflated is None else deflated)

    def to_bytes(self) -> bytes:
        """All that was written."""
        return b"".join(self._pieces)


class Reader:
    """Takes apart what a `Writer` put together.

    Every method raises MessageError where the bytes are anything else.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._at = memoryview(data), 0

    def raw(self, count: int) -> bytes:
        """The next ones."""
        return bytes(self._take(count))

    def number(self) -> int:
        """What `Writer.number` wrote."""
        number = 0
        for place in range(_MOST_NUMBER_BYTES):
            byte = self._take(1)[0]
            number |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return number
        raise MessageError("activations hold a number that is too large")

    def section(self, dtype: np.dtype[_Scalar], count: int) -> NDArray[_Scalar]:
        """What `Writer.section` wrote: so many values."""
        size = count * dtype.itemsize
        if not size:
            return np.zeros(0, dtype)
        deflated = self.number()
        body = inflate(self._take(deflated), size) if deflated else self._take(size)
        return np.frombuffer(body, dtype)

    def end(self) -> None:
        """Nothing must be left."""
        if self._at != len(self._data):
            raise MessageError("activations go on after their end")

    def _take(self, count: int) -> memoryview:
        start, self._at = self._at, self._at + count
        if self._at > len(self._data):
            raise MessageError(f"activations cut short: {len(self._data)} of at least {self._at} bytes")
        return self._data[start : self._at]


def narrowest(largest: int) -> int:
    """Which of `UNSIGNED` holds numbers up to ``largest``."""
    return 0 if largest < 1 << 8 else 1 if largest < 1 << 16 else 2


UNSIGNED = (np.dtype("u1"), np.dtype("<u2"), np.dtype("<u4"))
