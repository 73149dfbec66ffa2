"""Changes to moto's S3."""

from __future__ import annotations

import re
import threading
from contextvars import ContextVar
from typing import Any

from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket, FakeKey
from moto.s3.responses import S3Response

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


PATCHES = (conditional_writes_are_atomic, ranged_reads_read_the_range, bucket_policies_are_kept_not_enforced)
