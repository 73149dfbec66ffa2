"""Limits of S3 that moto does not have.

docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html, and UsingMetadata.html there
"""

from __future__ import annotations

from typing import Any

from moto.s3.exceptions import MalformedXML, MissingKey, S3ClientError
from moto.s3.responses import S3Response

from workflows.embedded_cloud.callers import calling_role, may
from workflows.embedded_cloud.patches.context import CloudContext

KEY_BYTES = 1024
METADATA_BYTES = 2048
DELETIONS = 1000
_METADATA = "x-amz-meta-"


class KeyTooLongError(S3ClientError):  # type: ignore[misc]
    """A key has too many bytes."""

    def __init__(self) -> None:
        super().__init__("KeyTooLongError", "Your key is too long")


class AccessDenied(S3ClientError):  # type: ignore[misc]
    """The caller may not know."""

    def __init__(self) -> None:
        super().__init__("AccessDenied", "Access Denied")


class MetadataTooLarge(S3ClientError):  # type: ignore[misc]
    """An object's own metadata have too many bytes."""

    def __init__(self) -> None:
        super().__init__("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size")


def limit_keys_and_metadata(_context: CloudContext) -> None:
    """A key has at most 1,024 bytes, and an object's own metadata 2 KiB; moto takes any."""

    def checked(original: Any) -> Any:
        def write(self: Any) -> Any:
            if len(self.parse_key_name().encode()) > KEY_BYTES:
                raise KeyTooLongError
            own = {name.lower(): value for name, value in self.headers.items()}
            metadata = {name: value for name, value in own.items() if name.startswith(_METADATA)}
            size = sum(len(name) - len(_METADATA) + len(str(value)) for name, value in metadata.items())
            if size > METADATA_BYTES:
                raise MetadataTooLarge
            return original(self)

        return write

    S3Response.put_object = checked(S3Response.put_object)


def limit_deletions(_context: CloudContext) -> None:
    """A DeleteObjects names at most a thousand; moto deletes any number."""
    original = S3Response._bucket_response_delete_keys

    def delete_keys(self: Any, bucket_name: str, *args: Any, **more: Any) -> Any:
        body = self.body if isinstance(self.body, bytes) else str(self.body).encode()
        if body.count(b"<Object>") > DELETIONS:
            raise MalformedXML
        return original(self, bucket_name, *args, **more)

    S3Response._bucket_response_delete_keys = delete_keys


def hide_missing_keys(_context: CloudContext) -> None:
    """Who may not list a bucket is told 403 for a key that it lacks, not 404; moto looks at no permissions.

    docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    """
    original_get, original_head = S3Response.get_object, S3Response.head_object

    def hidden(response: Any, bucket: str) -> bool:
        role = calling_role(response.headers.get("Authorization") or "")
        return role is not None and not may(role, "s3:ListBucket", f"arn:aws:s3:::{bucket}")

    def get_object(self: Any) -> Any:
        try:
            return original_get(self)
        except MissingKey as error:
            if hidden(self, self.bucket_name):
                raise AccessDenied from error
            raise

    def head_object(self: Any, bucket_name: str, *args: Any, **more: Any) -> Any:
        answer = original_head(self, bucket_name, *args, **more)
        return (403, *answer[1:]) if answer[0] == 404 and hidden(self, bucket_name) else answer

    S3Response.get_object = get_object
    S3Response.head_object = head_object


PATCHES = (limit_keys_and_metadata, limit_deletions, hide_missing_keys)
