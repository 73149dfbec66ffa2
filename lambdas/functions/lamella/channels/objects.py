"""Objects in S3 that hold what a worker sends to a place: an index, and each peer's bytes.

Keys are computed, so that nobody lists. The index says where each peer's bytes are, which lie one after the
other; a peer reads the head of it, in which a small object is whole, and the rest of its own bytes by range.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from botocore.exceptions import BotoCoreError, ClientError
from numpy.typing import NDArray

from lamella.channels.base import Place, Source
from lamella.errors import CloudError, MessageError
from lamella.storage import Bucket

HEAD_BYTES = 64 << 10
_READERS = 16
_COUNT = struct.Struct("<4sI")
_MAGIC = b"LMO1"
_ENTRY_BYTES = 3 * 8  # peer, where its bytes begin and end


class Objects:
    """What the workers of a run leave for each other, as one of them sees it.

    Parameters
    ----------
    bucket
        Below which the objects of this run and attempt are.
    """

    def __init__(self, bucket: Bucket, worker: int) -> None:
        self._bucket, self._worker = bucket, worker
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="halo")

    def write(self, place: Place, messages: Sequence[tuple[int, bytes]]) -> None:
        """Leave all that this worker sends to a place.

        Raises
        ------
        CloudError
            If S3 does not take it.
        """
        path = object_path((place, self._worker))
        try:
            self._bucket.write(path, to_object(messages))
        except (BotoCoreError, ClientError) as error:
            raise CloudError(f"writing {self._bucket.location(path)} failed: {error}") from error

    def read(self, sources: Sequence[Source]) -> list[list[bytes] | None]:
        """What each of other workers left for this one, several at a time; None where it is not there.

        Raises
        ------
        CloudError
            If S3 does not give it.
        MessageError
            If it is no such object, or has nothing for this worker.
        """
        if len(sources) == 1:
            return [self._read(sources[0])]
        return list(self._readers.map(self._read, sources))

    def read_all(self, sources: Sequence[Source]) -> list[bytes]:
        """The same, of those that have said that they left one message.

        Raises
        ------
        CloudError, MessageError
            As `read`; and if one is not there, or not one.
        """
        messages = []
        for source, found in zip(sources, self.read(sources), strict=True):
            if found is None or len(found) != 1:
                where = self._bucket.location(object_path(source))
                raise MessageError(f"{where} is not the one message that worker {source[1]} spoke of")
            messages.append(found[0])
        return messages

    def close(self) -> None:
        """Read no more; may be called twice."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _read(self, source: Source) -> list[bytes] | None:
        path = object_path(source)
        where = self._bucket.location(path)
        try:
            head = self._bucket.read(path, 0, HEAD_BYTES)
            spans = find(head, self._worker, where)
            begin, end = spans[0][0], spans[-1][1]
            data = head[begin:end]
            if len(data) < end - begin:
                data += self._bucket.read(path, begin + len(data), end)
        except FileNotFoundError:
            return None
        except (BotoCoreError, ClientError) as error:
            raise CloudError(f"reading {where} failed: {error}") from error
        return [data[start - begin : stop - begin] for start, stop in spans]


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
