"""S3 in this process, as far as conditional writes go; it can be made to lose answers, and to be busy."""

from __future__ import annotations

import hashlib
import io
import itertools
import threading
from collections.abc import Callable
from typing import Any, cast

from botocore.exceptions import ClientError, ReadTimeoutError

from lamella.storage import Bucket


class MemoryS3:
    """A client of one bucket.

    Attributes
    ----------
    before, after
        Called around each request with its operation and key, before and after it is applied; what they
        raise, the caller gets.
    """

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.asked: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda *_: None
        self.after: Callable[[str, str], None] = lambda *_: None
        self._lock = threading.Lock()
        self._versions = itertools.count()

    def put_object(
        self,
        Key: str,  # noqa: N803
        Body: bytes,  # noqa: N803
        IfMatch: str | None = None,  # noqa: N803
        IfNoneMatch: str | None = None,  # noqa: N803
        **_: Any,
    ) -> dict[str, Any]:
        self._ask("PutObject", Key)
        with self._lock:
            there = self.objects.get(Key)
            if IfNoneMatch == "*" and there is not None:
                raise refusal("PreconditionFailed", "PutObject")
            if IfMatch is not None and there is None:
                raise refusal("NoSuchKey", "PutObject")
            if IfMatch is not None and there is not None and there[1] != IfMatch:
                raise refusal("PreconditionFailed", "PutObject")
            # Also of equal bytes: an ETag need not be a hash of the content.
            tag = hashlib.md5(b"%d" % next(self._versions)).hexdigest()
            self.objects[Key] = (bytes(Body), tag)
        self.after("PutObject", Key)
        return {"ETag": tag}

    def get_object(self, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        self._ask("GetObject", Key)
        with self._lock:
            if Key not in self.objects:
                raise refusal("NoSuchKey", "GetObject")
            data, tag = self.objects[Key]
        return {"ContentLength": len(data), "Body": io.BytesIO(data), "ETag": tag}

    def head_object(self, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        self._ask("HeadObject", Key)
        with self._lock:
            if Key not in self.objects:
                raise refusal("404", "HeadObject")
            data, tag = self.objects[Key]
        return {"ContentLength": len(data), "ETag": tag}

    def bucket(self) -> Bucket:
        """The whole of it."""
        return Bucket(cast("Any", self), "bucket")

    def _ask(self, operation: str, key: str) -> None:
        self.asked.append((operation, key))
        self.before(operation, key)


def refusal(code: str, operation: str) -> ClientError:
    """As S3 refuses."""
    return ClientError({"Error": {"Code": code}}, operation)


def lost() -> ReadTimeoutError:
    """As an answer is lost."""
    return ReadTimeoutError(endpoint_url="https://s3")
