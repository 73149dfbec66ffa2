"""Objects that are written piece by piece, in bounded memory: S3's multipart uploads.

Limits are S3's: 10,000 parts, each of 5 MiB to 5 GiB but for the last, which may be smaller; 5 TiB in all
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import BoundedSemaphore
from types import TracebackType
from typing import TYPE_CHECKING, cast

from botocore.exceptions import BotoCoreError, ClientError

from lamella.errors import CloudError
from lamella.files import checked_path
from lamella.storage import Bucket
from lamella.usage import Count, Usage

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

LEAST_PART_BYTES = 5 << 20
PART_BYTES = 8 << 20
MOST_PARTS = 10_000
MOST_OBJECT_BYTES = 5 << 40
SENDERS = 4
"""Parts on their way at a time; beside them, the first is held, and one is being filled."""


def part_bytes_for(expected_bytes: int) -> int:
    """A part's size with which an object of so many bytes has few enough of them."""
    return max(PART_BYTES, -(-expected_bytes // (MOST_PARTS - 1)))


def _sent_at_once(expected_bytes: int) -> bool:
    """Whether an object is no more than what is held of a larger one anyway: one PUT costs least."""
    return 0 < expected_bytes <= (SENDERS + 2) * PART_BYTES


class Upload:
    """One object: by a single PUT where it is small, by parts where it isn't. Use it in a ``with``.

    Nothing is to be seen of it before `finish`; where that isn't reached, nothing is left of it. The first
    part is sent last, so what stands at the head may depend on all that follows.

    Parameters
    ----------
    expected_bytes
        About the most it may come to, where that is known: many bytes need large parts.
    once
        Whether an object that is already there stays as it is.
    """

    def __init__(
        self,
        bucket: Bucket,
        path: str,
        content_type: str = "application/octet-stream",
        expected_bytes: int = 0,
        part_bytes: int | None = None,
        *,
        once: bool = False,
    ) -> None:
        self._bucket, self._path, self._content_type = bucket, path, content_type
        self._key = bucket.prefix + checked_path(path)
        self._once = once
        self._part_bytes = part_bytes or part_bytes_for(expected_bytes)
        if part_bytes is None and _sent_at_once(expected_bytes):
            # Two parts are held before the first is sent.
            self._part_bytes *= (SENDERS + 2) // 2
        self._first: bytearray | None = None
        self._filling = bytearray()
        self._id: str | None = None
        self._sent: list[Future[str]] = []
        self._room = BoundedSemaphore(SENDERS)
        self._senders: ThreadPoolExecutor | None = None

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._senders is not None:
            self._senders.shutdown(cancel_futures=True)
        if self._id is not None:
            # What can't be aborted, the bucket's lifecycle removes in a day; the error to be told is another.
            with contextlib.suppress(ClientError, BotoCoreError):
                self._bucket.client.abort_multipart_upload(
                    Bucket=self._bucket.bucket, Key=self._key, UploadId=self._id
                )

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes.

        Raises
        ------
        CloudError
            If S3 refuses a part of what was written before.
        """
        rest = memoryview(data).cast("B") if len(data) else memoryview(b"")
        while rest:
            if len(self._filling) == self._part_bytes:
                self._put_aside()
            taken = min(len(rest), self._part_bytes - len(self._filling))
            self._filling += rest[:taken]
            rest = rest[taken:]

    def settle(self) -> None:
        """Wait until everything that can be sent is: `ending` then says what is still to come.

        Raises
        ------
        CloudError
            If S3 refuses a part.
        """
        if self._id is not None and self._filling:
            self._send(self._filling)
            self._filling = bytearray()
        for sent in self._sent:
            sent.result()

    def ending(self, head_bytes: int) -> Usage:
        """What `finish` will request, with a head of so many bytes, after `settle`."""
        size = head_bytes + len(self._first or b"") + len(self._filling)
        if self._id is None:
            return Usage({"s3.put_object": Count(1, 1, size)})
        return Usage({"s3.upload_part": Count(1, 1, size), "s3.complete_multipart_upload": Count(1, 1, 0)})

    def finish(self, head: bytes = b"") -> bool:
        """Have the object be there, with ``head`` before what was written; False if one was there before.

        Raises
        ------
        CloudError
            If S3 refuses it, or a part of it.
        """
        self.settle()
        beginning = b"".join([head, self._first or b"", self._filling])
        if self._id is None:
            with self._explained():
                if self._once:
                    return self._bucket.create(self._path, beginning, self._content_type)
                self._bucket.write(self._path, beginning, self._content_type)
            return True
        tags = [self._send_part(1, beginning), *(sent.result() for sent in self._sent)]
        parts: list[CompletedPartTypeDef] = [
            {"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)
        ]
        with self._explained():
            if not self._complete(parts):
                return False
        self._id = None
        return True

    def _complete(self, parts: list[CompletedPartTypeDef]) -> bool:
        assert self._id is not None
        complete = self._bucket.client.complete_multipart_upload
        if self._once:
            complete = partial(complete, IfNoneMatch="*")
        try:
            complete(
                Bucket=self._bucket.bucket,
                Key=self._key,
                UploadId=self._id,
                MultipartUpload={"Parts": parts},
            )
        except ClientError as error:
            if self._once and error.response.get("Error", {}).get("Code") in {"PreconditionFailed", "412"}:
                return False
            raise
        return True

    def _put_aside(self) -> None:
        """A full part: the first is held, others are sent while the next is filled."""
        full, self._filling = self._filling, bytearray()
        if self._first is None:
            self._first = full
        else:
            self._send(full)

    def _send(self, data: bytearray) -> None:
        if self._id is None:
            with self._explained():
                self._id = self._bucket.client.create_multipart_upload(
                    Bucket=self._bucket.bucket, Key=self._key, ContentType=self._content_type
                )["UploadId"]
            self._senders = ThreadPoolExecutor(SENDERS, thread_name_prefix="upload")
        assert self._senders is not None
        self._room.acquire()
        # One that failed ends the upload here, not only at its end.
        for sent in self._sent:
            if sent.done():
                sent.result()
        self._sent.append(self._senders.submit(self._send_and_make_room, len(self._sent) + 2, data))

    def _send_and_make_room(self, number: int, data: bytearray) -> str:
        try:
            return self._send_part(number, data)
        finally:
            self._room.release()

    def _send_part(self, number: int, data: bytes | bytearray) -> str:
        assert self._id is not None
        with self._explained():
            answer = self._bucket.client.upload_part(
                Bucket=self._bucket.bucket,
                Key=self._key,
                UploadId=self._id,
                PartNumber=number,
                # botocore takes a bytearray as it is; its types don't say so.
                Body=cast("bytes", data),
            )
        return answer["ETag"]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            raise CloudError(f"writing {self._bucket.location(self._path)} failed: {error}") from error
