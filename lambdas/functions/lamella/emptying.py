"""Empty a bucket: CloudFormation deletes none that holds anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from lamella.errors import CloudError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef


def empty(s3: S3Client, bucket: str) -> int:
    """Remove every object, in all its versions, and every unfinished upload; how many there were.

    A bucket that is gone is empty.

    Raises
    ------
    CloudError
        If S3 refuses to remove one.
    """
    try:
        return _remove_versions(s3, bucket) + _abort_uploads(s3, bucket)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "NoSuchBucket":
            return 0
        raise


def _remove_versions(s3: S3Client, bucket: str) -> int:
    """Objects of a bucket that never had versions are listed too, each as its version ``null``."""
    removed = 0
    # The first page each time, 1,000 of them: those before it are gone.
    while versions := _some_versions(s3, bucket):
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": versions, "Quiet": True})
        for error in answer.get("Errors", []):
            raise CloudError(
                f"s3://{bucket}/{error.get('Key')} can't be removed: {error.get('Code')}: "
                f"{error.get('Message')}"
            )
        removed += len(versions)
    return removed


def _some_versions(s3: S3Client, bucket: str) -> list[ObjectIdentifierTypeDef]:
    page = s3.list_object_versions(Bucket=bucket)
    found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
    return [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in found]


def _abort_uploads(s3: S3Client, bucket: str) -> int:
    aborted = 0
    while uploads := s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        for upload in uploads:
            s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        aborted += len(uploads)
    return aborted
