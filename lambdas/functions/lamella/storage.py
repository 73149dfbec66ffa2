"""Files below an S3 prefix."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from lamella.errors import CloudError, InputError
from lamella.files import checked_path

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef, ObjectIdentifierTypeDef

CREATE_TRIES = 5
# botocore tries a request again, but not for a body that ends early.
READ_TRIES = 3
# A LIST costs as much as 12.5 of them (https://aws.amazon.com/s3/pricing/).
HEADS_FOR_A_LIST = 12
_READING = "reading"
_BODY_ENDED = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)
_ABSENT = {"NoSuchKey", "NoSuchBucket", "404", "403", "AccessDenied"}


@dataclass(frozen=True)
class Bucket:
    """Objects below an S3 prefix (empty, or ending in a slash)."""

    client: S3Client
    bucket: str
    prefix: str = ""

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """An object, or its bytes from ``start`` to ``stop``.

        Raises
        ------
        FileNotFoundError
            If it is not there.
        CloudError
            If S3 does not give it, after retries.
        """
        if stop is not None and stop <= start:
            return b""
        if start == 0 and stop is None:
            return self._get(path)[0]
        return self._get(path, Range=f"bytes={start}-{'' if stop is None else stop - 1}")[0]

    def read_tagged(self, path: str) -> tuple[bytes, str]:
        """A whole object, and the ETag that `put_if` takes.

        Raises
        ------
        FileNotFoundError, CloudError
            As `read`.
        """
        return self._get(path)

    def read_at_most(self, path: str, most_bytes: int) -> bytes:
        """All of one object, of which nothing is read if it is larger.

        Raises
        ------
        FileNotFoundError
            If there is no such object.
        InputError
            If it is larger.
        CloudError
            If S3 does not give it, after retries.
        """
        return self._get(path, most_bytes)[0]

    def write(self, path: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Put one object.

        Raises
        ------
        CloudError
            If S3 does not take it, after retries.
        """
        key = self.prefix + checked_path(path)
        with self._explained("writing", path):
            self.client.put_object(Bucket=self.bucket, Key=key, Body=data, ContentType=content_type)

    def exists(self, path: str) -> bool:
        """Whether an object is there."""
        return self._size(path) is not None

    def create(self, path: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        """Put one object unless there is one; whether this call made it.

        Raises
        ------
        CloudError
            If S3 does not take it, or others keep writing it.
        """
        return self._put(path, data, ContentType=content_type, IfNoneMatch="*") is not None

    def put_if(self, path: str, data: bytes, etag: str | None) -> str | None:
        """Put one object in the place of a version of it that is known, or, for None, of nothing.

        An answer may be lost: then the object is there, and a second try is refused because of the first. So
        what is there after a refusal is compared; ``data`` must differ from what anyone else writes.

        Returns
        -------
        str or None
            The new ETag; None if another version is there, or none at all.

        Raises
        ------
        CloudError
            If S3 does not take it, or others keep writing it.
        """
        tag = self._put(path, data, IfNoneMatch="*") if etag is None else self._put(path, data, IfMatch=etag)
        if tag is not None:
            return tag
        try:
            there, tag = self.read_tagged(path)
        except FileNotFoundError:
            return None
        return tag if there == data else None

    def etag(self, path: str) -> str | None:
        """Which version of an object is there; None if none is.

        Raises
        ------
        CloudError
            If S3 does not say.
        """
        head = self._head(path)
        return head["ETag"] if head else None

    def sizes(self, path: str = "") -> dict[str, int]:
        """Bytes of every object below a path, by its path here."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix + path
        )
        with self._explained("listing", path):
            return {
                item["Key"].removeprefix(self.prefix): item["Size"]
                for page in pages
                for item in page.get("Contents", [])
            }

    def sizes_of(self, paths: Collection[str]) -> dict[str, int]:
        """Bytes of those of some objects that are there, by the cheaper of HEADs and a LIST."""
        if len(paths) > HEADS_FOR_A_LIST:
            return {path: size for path, size in self.sizes().items() if path in paths}
        with ThreadPoolExecutor(HEADS_FOR_A_LIST) as pool:
            found = dict(zip(paths, pool.map(self._size, paths), strict=True))
        return {path: size for path, size in found.items() if size is not None}

    def delete(self, paths: Iterable[str]) -> None:
        """Remove objects; those that aren't there are no matter. S3 takes 1,000 at a time."""
        keys: list[ObjectIdentifierTypeDef] = [{"Key": self.prefix + path} for path in paths]
        for start in range(0, len(keys), 1000):
            with self._explained("removing objects below", ""):
                answer = self.client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": keys[start : start + 1000], "Quiet": True}
                )
            for refused in answer.get("Errors", []):
                where = f"s3://{self.bucket}/{refused.get('Key')}"
                raise CloudError(f"{where} can't be removed: {refused.get('Code')}: {refused.get('Message')}")

    def below(self, path: str) -> Bucket:
        """The same bucket, further down."""
        return Bucket(self.client, self.bucket, self.prefix + path)

    def location(self, path: str = "") -> str:
        return f"s3://{self.bucket}/{self.prefix}{path}"

    def _size(self, path: str) -> int | None:
        """Bytes of an object; None where there is none."""
        head = self._head(path)
        return head["ContentLength"] if head else None

    def _get(self, path: str, most_bytes: float = math.inf, **bounds: Any) -> tuple[bytes, str]:
        """Bytes and ETag."""
        with self._explained(_READING, path):
            for tries_left in reversed(range(READ_TRIES)):
                answer = self.client.get_object(
                    Bucket=self.bucket, Key=self.prefix + checked_path(path), **bounds
                )
                if answer["ContentLength"] > most_bytes:
                    answer["Body"].close()
                    raise InputError(
                        f"{self.location(path)} has {answer['ContentLength']:,} bytes, and {most_bytes:,} "
                        "can be read: split it"
                    )
                try:
                    return answer["Body"].read(), answer["ETag"]
                except _BODY_ENDED:
                    if not tries_left:
                        raise
        raise AssertionError

    def _put(self, path: str, data: bytes, **condition: Any) -> str | None:
        """The new ETag, or None where the condition does not hold."""
        for _ in range(CREATE_TRIES):
            with self._explained("writing", path):
                try:
                    return self.client.put_object(
                        Bucket=self.bucket, Key=self.prefix + checked_path(path), Body=data, **condition
                    )["ETag"]
                except ClientError as error:
                    code = error.response.get("Error", {}).get("Code")
                    # If-Match with nothing there is answered by NoSuchKey.
                    if code in {"PreconditionFailed", "412", "NoSuchKey", "404"}:
                        return None
                    # Somebody is writing it at this moment.
                    if code != "ConditionalRequestConflict":
                        raise
        raise CloudError(f"{self.location(path)} can't be written: others do so all the time: try again")

    def _head(self, path: str) -> HeadObjectOutputTypeDef | None:
        with self._explained("looking for", path):
            try:
                return self.client.head_object(Bucket=self.bucket, Key=self.prefix + checked_path(path))
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in _ABSENT:
                    return None
                raise

    @contextmanager
    def _explained(self, doing: str, path: str) -> Iterator[None]:
        """Turn what boto3 raises into one line."""
        where = self.location(path)
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if doing == _READING and code in {"NoSuchKey", "NoSuchBucket", "404"}:
                raise FileNotFoundError(f"there is no {where}") from error
            if doing == _READING and code in {"AccessDenied", "403"}:
                raise FileNotFoundError(f"{where} is not there, or may not be read (AccessDenied)") from error
            if doing == _READING and code in {"InvalidRange", "416"}:
                raise FileNotFoundError(f"{where} is empty, or ends before what is wanted of it") from error
            raise CloudError(f"{doing} {where} failed: {code}: {error}") from error
        except BotoCoreError as error:
            raise CloudError(f"{doing} {where} failed: {error}") from error


def folder(client: S3Client, uri: str) -> Bucket:
    """The files below ``s3://bucket/prefix``, whether or not it ends in a slash.

    Raises
    ------
    InputError
        If it is no S3 address.
    """
    bucket, prefix = split_s3_uri(uri)
    return Bucket(client, bucket, f"{prefix.rstrip('/')}/" if prefix.strip("/") else "")


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``.

    Raises
    ------
    InputError
        If it is no such address.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket:
        raise InputError(f"{uri!r} is no S3 address: write s3://bucket/key")
    return bucket, key
