"""The format of objects that hold what a worker sends to a place: an index, and each peer's bytes.

Keys are computed, so that nobody lists. The index says where each peer's bytes are, which lie one after the
other; a peer reads the head of it, in which a small object is whole, and the rest of its own bytes by range.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lamella.channels.base import Source
from lamella.errors import MessageError

HEAD_BYTES = 64 << 10
_COUNT = struct.Struct("<4sI")
_MAGIC = b"LMO1"
_ENTRY_BYTES = 3 * 8  # peer, where its bytes begin and end


def index_bytes(messages: int) -> int:
    """What stands before the first of so many messages."""
    return _COUNT.size + messages * _ENTRY_BYTES


def object_path(source: Source) -> str:
    """Where a worker leaves what it sends to a place, below the run's prefix."""
    (layer, first_sample), worker = source
    return f"{layer}/{first_sample}/{worker}"


def to_object(messages: Sequence[tuple[int, bytes]]) -> bytes:
    """An index, and the messages, those for one peer side by side."""
    ordered = sorted(messages, key=lambda message: message[0])
    lengths = np.array([len(data) for _, data in ordered], np.int64)
    ends = np.cumsum(lengths) + index_bytes(len(ordered))
    peers = np.array([peer for peer, _ in ordered], np.int64)
    index = np.stack([peers, ends - lengths, ends], axis=1).astype("<i8")
    return b"".join([_COUNT.pack(_MAGIC, len(ordered)), index.tobytes(), *(data for _, data in ordered)])


def find(head: bytes, peer: int, where: str) -> list[tuple[int, int]]:
    """Where each message for a peer begins and ends, side by side, by an object's head.

    Raises
    ------
    MessageError
        If it is no such object, or holds nothing for the peer.
    """
    if len(head) < _COUNT.size or head[:4] != _MAGIC:
        raise MessageError(f"{where} is not what a worker sends")
    count = _COUNT.unpack_from(head)[1]
    first = index_bytes(count)
    if len(head) < first:
        raise MessageError(f"{where} ends before its index does")
    index: NDArray[np.int64] = np.frombuffer(head, "<i8", 3 * count, _COUNT.size).reshape(count, 3)
    spans = [(begin, end) for number, begin, end in index.tolist() if number == peer]
    if not spans:
        raise MessageError(f"{where} has nothing for worker {peer}")
    bounds = [first, *(bound for span in spans for bound in span)]
    if bounds != sorted(bounds) or any(one[1] != next_[0] for one, next_ in pairwise(spans)):
        raise MessageError(f"{where} contradicts its own index")
    return spans
