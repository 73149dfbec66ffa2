"""S3: one object for all that a worker sends to one place. This is the paper's FSD-Inf-Object.

Keys are computed, so that nobody lists. An object is an index, which says where each peer's bytes are, and
those bytes, one after the other; a peer reads the head of it, in which a small object is whole, and the rest
of its own bytes by range.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from botocore.exceptions import BotoCoreError, ClientError
from numpy.typing import NDArray

from lamella.channels.base import Channel, Delivery, Place, Source
from lamella.errors import CloudError, MessageError
from lamella.storage import Bucket

HEAD_BYTES = 64 << 10
FIRST_WAIT_S, LONGEST_WAIT_S = 0.01, 0.25
_GROWTH = 1.5
_READERS = 16
_COUNT = struct.Struct("<4sI")
_MAGIC = b"LMO1"
_ENTRY_BYTES = 3 * 8  # peer, where its bytes begin and end


class S3Channel(Channel):
    """One worker's end.

    Parameters
    ----------
    bucket
        Below which the objects of this run and attempt are.
    """

    # A receiver holds it in memory, and a PUT takes five times as much.
    max_message_bytes = 1 << 30

    def __init__(self, bucket: Bucket, worker: int) -> None:
        self._bucket, self._worker = bucket, worker
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="halo")
        self._acknowledged: set[str] = set()

    def send(self, place: Place, messages: Sequence[tuple[int, bytes]]) -> None:
        path = object_path((place, self._worker))
        try:
            self._bucket.write(path, to_object(messages))
        except (BotoCoreError, ClientError) as error:
            raise CloudError(f"writing {self._bucket.location(path)} failed: {error}") from error

    def receive(self, wanted: Collection[Source], wait_s: float) -> list[Delivery]:
        """Ask for one object until it is there, and only then for the others.

        All of them are needed, and a miss is billed like a hit. The longer the one has been missing, the more
        rarely it is asked for. Without a wait, all are asked for.
        """
        until_s = time.monotonic() + wait_s
        paths = [path for path in map(object_path, sorted(wanted)) if path not in self._acknowledged]
        delay_s = FIRST_WAIT_S
        found: list[Delivery] = []
        while wait_s > 0 and not (paths and (found := self._read(paths[0]))):
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return []
            time.sleep(min(delay_s, left_s))
            delay_s = min(delay_s * _GROWTH, LONGEST_WAIT_S)
        for more in self._pool.map(self._read, paths[1:] if found else paths):
            found += more
        return found

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self._acknowledged.update(delivery.receipt for delivery in deliveries)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, path: str) -> list[Delivery]:
        """What an object has for this worker; nothing if it isn't there."""
        where = self._bucket.location(path)
        try:
            head = self._bucket.read(path, 0, HEAD_BYTES)
            spans = find(head, self._worker, where)
            begin, end = spans[0][0], spans[-1][1]
            data = head[begin:end]
            if len(data) < end - begin:
                data += self._bucket.read(path, begin + len(data), end)
        except FileNotFoundError:
            return []
        except (BotoCoreError, ClientError) as error:
            raise CloudError(f"reading {where} failed: {error}") from error
        return [Delivery(data[start - begin : stop - begin], path) for start, stop in spans]


def object_path(source: Source) -> str:
    """Where a worker leaves what it sends to a place, below the run's prefix."""
    (layer, first_sample), worker = source
    return f"{layer}/{first_sample}/{worker}"


def to_object(messages: Sequence[tuple[int, bytes]]) -> bytes:
    """An index, and the messages, those for one peer side by side."""
    ordered = sorted(messages, key=lambda message: message[0])
    lengths = np.array([len(data) for _, data in ordered], np.int64)
    ends = np.cumsum(lengths) + _COUNT.size + len(ordered) * _ENTRY_BYTES
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
    first = _COUNT.size + count * _ENTRY_BYTES
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
