"""Files below an S3 prefix."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from lamella.errors import CloudError, InputError
from lamella.files import checked_path

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

CREATE_TRIES = 5
# A LIST costs as much as 12.5 of them (https://aws.amazon.com/s3/pricing/).
HEADS_FOR_A_LIST = 12
_ABSENT = {"NoSuchKey", "NoSuchBucket", "404", "403", "AccessDenied"}


@dataclass(frozen=True)
class Bucket:
    """Objects below an S3 prefix (empty, or ending in a slash)."""

    client: S3Client
    bucket: str
    prefix: str = ""

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        if stop is not None and stop <= start:
            return b""
        key = self.prefix + checked_path(path)
        try:
            if start == 0 and stop is None:
                answer = self.client.get_object(Bucket=self.bucket, Key=key)
            else:
                bounds = f"bytes={start}-{'' if stop is None else stop - 1}"
                answer = self.client.get_object(Bucket=self.bucket, Key=key, Range=bounds)
            return answer["Body"].read()
        except ClientError as error:
            raise self._explained(error, path) from error

    def read_at_most(self, path: str, most_bytes: int) -> bytes:
        """All of one object, of which nothing is read if it is larger.

        Raises
        ------
        FileNotFoundError
            If there is no such object.
        InputError
            If it is larger.
        """
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + checked_path(path))
            if answer["ContentLength"] > most_bytes:
                answer["Body"].close()
                raise InputError(
                    f"{self.location(path)} has {answer['ContentLength']:,} bytes, and {most_bytes:,} can be "
                    "read: split it"
                )
            return answer["Body"].read()
        except ClientError as error:
            raise self._explained(error, path) from error

    def write(self, path: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Put one object."""
        key = self.prefix + checked_path(path)
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data, ContentType=content_type)

    def exists(self, path: str) -> bool:
        """Whether an object is there."""
        return self._size(path) is not None

    def create(self, path: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        """Put one object unless there is one; whether this call made it.

        Raises
        ------
        CloudError
            If others keep writing it.
        """
        key = self.prefix + checked_path(path)
        for _ in range(CREATE_TRIES):
            try:
                self.client.put_object(
                    Bucket=self.bucket, Key=key, Body=data, ContentType=content_type, IfNoneMatch="*"
                )
            except ClientError as error:
                code = error.response.get("Error", {}).get("Code")
                if code in {"PreconditionFailed", "412"}:
                    return False
                # Somebody is writing it at this moment.
                if code != "ConditionalRequestConflict":
                    raise
            else:
                return True
        raise CloudError(f"{self.location(path)} can't be written: others do so all the time: try again")

    def sizes(self, path: str = "") -> dict[str, int]:
        """Bytes of every object below a path, by its path here."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix + path
        )
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
            self.client.delete_objects(
                Bucket=self.bucket, Delete={"Objects": keys[start : start + 1000], "Quiet": True}
            )

    def below(self, path: str) -> Bucket:
        """The same bucket, further down."""
        return Bucket(self.client, self.bucket, self.prefix + path)

    def location(self, path: str = "") -> str:
        return f"s3://{self.bucket}/{self.prefix}{path}"

    def _size(self, path: str) -> int | None:
        """Bytes of an object; None where there is none."""
        try:
            answer = self.client.head_object(Bucket=self.bucket, Key=self.prefix + checked_path(path))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _ABSENT:
                return None
            raise
        return answer["ContentLength"]

    def _explained(self, error: ClientError, path: str) -> Exception:
        code = error.response.get("Error", {}).get("Code", "")
        where = self.location(path)
        if code in {"NoSuchKey", "NoSuchBucket", "404"}:
            return FileNotFoundError(f"there is no {where}")
        if code in {"AccessDenied", "403"}:
            return FileNotFoundError(f"{where} is not there, or may not be read (AccessDenied)")
        if code in {"InvalidRange", "416"}:
            return FileNotFoundError(f"{where} is empty, or ends before what is wanted of it")
        return CloudError(f"reading {where} failed: {code}: {error}")


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
