"""AWS::S3::Bucket, with all that a template says of one."""

from __future__ import annotations

from typing import Any

from moto.s3.models import FakeBucket, s3_backends

from workflows.embedded_cloud.patches.context import CloudContext
from workflows.embedded_cloud.stacks.failures import ResourceFailed


def keep_buckets_with_objects(_context: CloudContext) -> None:
    """A bucket that is not empty cannot be deleted, with its stack neither; moto keeps it without a word."""
    original = FakeBucket.delete_from_cloudformation_json.__func__

    def delete(cls: Any, name: str, resource_json: Any, account_id: str, region_name: str) -> None:
        bucket = s3_backends[account_id]["aws"].buckets.get(name)
        if bucket is not None and bucket.keys:
            versions = (
                "" if bucket.versioning_status is None else " You must delete all versions in the bucket."
            )
            raise ResourceFailed(
                f"The bucket you tried to delete is not empty.{versions} "
                f"(Service: S3, Status Code: 409, Error Code: BucketNotEmpty, Bucket: {name})"
            )
        original(cls, name, resource_json, account_id, region_name)

    FakeBucket.delete_from_cloudformation_json = classmethod(delete)


PATCHES = (keep_buckets_with_objects,)
