"""Objects in S3 that workers leave for each other: all of the channel s3, and large letters of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from lamella.channels.base import Place, Source
from lamella.channels.object_format import HEAD_BYTES, find, object_path, to_object
from lamella.errors import MessageError
from lamella.messages import HEADER_BYTES
from lamella.storage import Bucket

_READERS = 16


class Objects:
    """What the workers of a run leave for each other, as one of them sees it.

    Parameters
    ----------
    bucket
        Below which the objects of this run and attempt are.
    expected
        The letters that may come, and the most bytes of each, as `lamella.mailbox.Mailbox` has them.
    """

    def __init__(self, bucket: Bucket, worker: int, expected: Mapping[Source, int] | None = None) -> None:
        self._bucket, self._worker, self._expected = bucket, worker, expected
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="halo")

    def write(self, place: Place, messages: Sequence[tuple[int, bytes]]) -> None:
        """Leave all that this worker sends to a place.

        Raises
        ------
        CloudError
            If S3 does not take it.
        """
        self._bucket.write(object_path((place, self._worker)), to_object(messages))

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
        reads = [self._readers.submit(copy_context().run, self._read, source) for source in sources]
        return [read.result() for read in reads]

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
            self._check_expected(source, end - begin - HEADER_BYTES * len(spans), where)
            data = head[begin:end]
            if len(data) < end - begin:
                data += self._bucket.read(path, begin + len(data), end)
        except FileNotFoundError:
            return None
        return [data[start - begin : stop - begin] for start, stop in spans]

    def _check_expected(self, source: Source, size_bytes: int, where: str) -> None:
        if self._expected is not None and size_bytes > self._expected.get(source, 0):
            raise MessageError(f"{where} has {size_bytes:,} bytes for worker {self._worker}, which can't be")
