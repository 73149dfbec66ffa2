"""Changes to moto's S3."""

from __future__ import annotations

import hashlib
import re
import tempfile
import threading
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from moto.iam.access_control import PermissionResult
from moto.s3.exceptions import EntityTooSmall, InvalidPart, MalformedXML, NoSuchUpload
from moto.s3.models import FakeBucket, FakeKey, FakeMultipart, MultipartChecksumBuilder, S3Backend
from moto.s3.responses import S3Response
from moto.settings import S3_UPLOAD_PART_MIN_SIZE, get_s3_default_key_buffer_size

from workflows.embedded_cloud.patches.context import CloudContext

_LOCKS = 64
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_reading_range: ContextVar[bool] = ContextVar("reading_range", default=False)


def conditional_writes_are_atomic(_context: CloudContext) -> None:
    """If-Match and If-None-Match compare and write as one step; in moto two writers can both win."""
    locks = [threading.Lock() for _ in range(_LOCKS)]

    def one_at_a_time(original: Any) -> Any:
        def locked(self: Any) -> Any:
            with locks[hash((self.bucket_name, self.parse_key_name())) % _LOCKS]:
                return original(self)

        return locked

    S3Response.put_object = one_at_a_time(S3Response.put_object)
    S3Response.delete_object = one_at_a_time(S3Response.delete_object)


def bucket_policies_are_kept_not_enforced(_context: CloudContext) -> None:
    """Moto enforces bucket policies without their Conditions: "TLS only" denies everything."""
    FakeBucket.get_permission = lambda *_: PermissionResult.NEUTRAL


def ranged_reads_read_the_range(_context: CloudContext) -> None:
    """A ranged GET reads its range; moto reads the whole object for each, which a large one makes slow."""
    original_get = S3Response.get_object
    original_value = FakeKey.value.fget

    def get_object(self: Any) -> Any:
        match = _RANGE.fullmatch(self.headers.get("Range") or "")
        simple = match is not None and (not match[2] or int(match[1]) <= int(match[2]))
        token = _reading_range.set(simple)
        try:
            return original_get(self)
        finally:
            _reading_range.reset(token)

    def value(self: Any) -> Any:
        return ObjectBody(self) if _reading_range.get() else original_value(self)

    S3Response.get_object = get_object
    FakeKey.value = property(value, FakeKey.value.fset)


class ObjectBody:
    """Content of an object that is read where it is sliced.

    Parameters
    ----------
    key
        Moto's object.
    """

    def __init__(self, key: Any) -> None:
        self._key = key

    def __len__(self) -> int:
        return int(self._key.size)

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(len(self))
        with self._key.lock:
            self._key._value_buffer.seek(start)
            data: bytes = self._key._value_buffer.read(max(0, stop - start))
        return data


def uploads_are_joined_part_by_part_and_once(_context: CloudContext) -> None:
    """An upload is completed in the memory of a part, and by one request; moto holds all of it, thrice.

    That takes a large one longer than a client waits. Its next try then meets the first under way, and ends
    in an internal error; so does the completion of an upload that is not there: S3 says NoSuchUpload.
    """
    locks = [threading.Lock() for _ in range(_LOCKS)]
    original_complete = S3Backend.complete_multipart_upload
    original_set = FakeKey.value.fset

    def complete_multipart_upload(self: Any, bucket_name: str, multipart_id: str, body: Any) -> Any:
        with locks[hash(multipart_id) % _LOCKS]:
            bucket = self.get_bucket(bucket_name)
            if multipart_id in bucket.multiparts:
                return original_complete(self, bucket_name, multipart_id, body)
            for key in list(bucket.keys.values()):
                if key.multipart and key.multipart.id == multipart_id:
                    return key
            raise NoSuchUpload(upload_id=multipart_id)

    def set_value(self: Any, value: Any) -> None:
        if isinstance(value, JoinedParts):
            self._value_buffer.close()
            self._value_buffer, self.contentsize = value.file, len(value)
        else:
            original_set(self, value)

    S3Backend.complete_multipart_upload = complete_multipart_upload
    FakeMultipart.complete = _complete
    FakeKey.value = property(FakeKey.value.fget, set_value)


class JoinedParts:
    """Content of an object, in a file already: moto disposes of the parts before it makes the object."""

    def __init__(self) -> None:
        self.file = tempfile.SpooledTemporaryFile(get_s3_default_key_buffer_size())  # noqa: SIM115 - the object's
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, data: bytes) -> None:
        """Add a part's content."""
        self._size += self.file.write(data)


def _complete(self: Any, body: Iterable[tuple[int, str]]) -> tuple[JoinedParts, str, Any]:
    """What moto's does, but for where it puts the whole."""
    algorithm, kind = (self.metadata.get(f"x-amz-checksum-{name}") for name in ("algorithm", "type"))
    checksums, digests = MultipartChecksumBuilder(algorithm, kind), hashlib.md5(usedforsecurity=False)
    joined, count, last = JoinedParts(), 0, None
    for count, (number, tag) in enumerate(body, 1):  # noqa: B007 - how many there were
        part = self.parts.get(number)
        if part is None or part.etag.strip('"') != tag.strip('"'):
            raise InvalidPart
        if last is not None and last.contentsize < S3_UPLOAD_PART_MIN_SIZE:
            raise EntityTooSmall
        digests.update(bytes.fromhex(part.etag.strip('"')))
        data = part.value
        checksums.addPart(data)
        joined.append(data)
        last = part
    if last is None:
        raise MalformedXML
    return joined, f"{digests.hexdigest()}-{count}", checksums.build()


PATCHES = (
    conditional_writes_are_atomic,
    ranged_reads_read_the_range,
    bucket_policies_are_kept_not_enforced,
    uploads_are_joined_part_by_part_and_once,
)
