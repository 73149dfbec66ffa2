"""AWS::S3::Bucket, with all that a template says of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from moto.s3.cloud_formation import cfn_to_api_encryption
from moto.s3.models import FakeBucket, PublicAccessBlock, s3_backends

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


def buckets_are_what_templates_say(_context: CloudContext) -> None:
    """Lifecycle, ownership, public access, versions and CORS of a bucket, and that an update takes them back.

    moto has encryption and tags alone, and cannot update the tags of a bucket without a name.
    """

    def create(
        _cls: Any,
        /,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **_more: Any,
    ) -> Any:
        bucket = s3_backends[account_id]["aws"].create_bucket(resource_name, region_name)
        _configure(bucket, cloudformation_json.get("Properties", {}), {}, account_id)
        return bucket

    def update(
        _cls: Any,
        original_resource: Any,
        _name: str,
        cloudformation_json: Any,
        account_id: str,
        _region: str,
    ) -> Any:
        before = getattr(original_resource, "declared_properties", {})
        _configure(original_resource, cloudformation_json["Properties"], before, account_id)
        return original_resource

    FakeBucket.create_from_cloudformation_json = classmethod(create)
    FakeBucket.update_from_cloudformation_json = classmethod(update)


def _configure(
    bucket: Any, properties: Mapping[str, Any], before: Mapping[str, Any], account_id: str
) -> None:
    for name, (configure, reset) in _CONFIGURATIONS.items():
        if properties.get(name) is not None:
            configure(bucket, properties[name])
        elif name in before:
            reset(bucket)
    tags = {tag["Key"]: str(tag["Value"]) for tag in properties.get("Tags", [])}
    s3_backends[account_id]["aws"].put_bucket_tagging(bucket.name, tags)
    bucket.declared_properties = properties


def _encrypt(bucket: Any, given: Any) -> None:
    bucket.encryption = cfn_to_api_encryption(given)


def _block_public_access(bucket: Any, given: Any) -> None:
    keys = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    bucket.public_access_block = PublicAccessBlock(*(str(given.get(key, False)).lower() for key in keys))


def _own(bucket: Any, given: Any) -> None:
    bucket.ownership_rule = given["Rules"][0]["ObjectOwnership"]


def _version(bucket: Any, given: Any) -> None:
    bucket.versioning_status = given["Status"]


def _share(bucket: Any, given: Any) -> None:
    names = {
        "AllowedHeaders": "AllowedHeader",
        "AllowedMethods": "AllowedMethod",
        "AllowedOrigins": "AllowedOrigin",
        "ExposedHeaders": "ExposeHeader",
        "MaxAge": "MaxAgeSeconds",
    }
    bucket.set_cors(
        [
            {
                names[key]: value if isinstance(value, list) else str(value)
                for key, value in rule.items()
                if key in names
            }
            for rule in given["CorsRules"]
        ]
    )


def _keep_for(bucket: Any, given: Any) -> None:
    bucket.set_lifecycle([lifecycle_rule(rule) for rule in given["Rules"]])


def lifecycle_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a template's lifecycle rule as S3's API has it, in XML read into dictionaries."""
    result: dict[str, Any] = {"Status": rule["Status"]}
    if "Id" in rule:
        result["ID"] = rule["Id"]
    tags = list(rule.get("TagFilters", []))
    if not tags:
        result["Filter"] = {"Prefix": rule.get("Prefix", "")}
    elif len(tags) == 1 and "Prefix" not in rule:
        result["Filter"] = {"Tag": tags[0]}
    else:
        result["Filter"] = {"And": {"Prefix": rule.get("Prefix", ""), "Tag": tags}}
    expiration = {
        "Days": rule.get("ExpirationInDays"),
        "Date": rule.get("ExpirationDate"),
        "ExpiredObjectDeleteMarker": rule.get("ExpiredObjectDeleteMarker"),
    }
    if any(value is not None for value in expiration.values()):
        result["Expiration"] = {key: value for key, value in expiration.items() if value is not None}
    old = rule.get("NoncurrentVersionExpiration") or {}
    days = old.get("NoncurrentDays", rule.get("NoncurrentVersionExpirationInDays"))
    if days is not None:
        result["NoncurrentVersionExpiration"] = {**old, "NoncurrentDays": days}
    if "AbortIncompleteMultipartUpload" in rule:
        result["AbortIncompleteMultipartUpload"] = rule["AbortIncompleteMultipartUpload"]
    moves = rule.get("Transitions") or ([rule["Transition"]] if "Transition" in rule else [])
    if moves:
        result["Transition"] = [
            {
                "StorageClass": move["StorageClass"],
                "Days": move.get("TransitionInDays"),
                "Date": move.get("TransitionDate"),
            }
            for move in moves
        ]
    moves = rule.get("NoncurrentVersionTransitions") or []
    if moves:
        result["NoncurrentVersionTransition"] = [
            {
                "StorageClass": move["StorageClass"],
                "NoncurrentDays": move["TransitionInDays"],
                "NewerNoncurrentVersions": move.get("NewerNoncurrentVersions"),
            }
            for move in moves
        ]
    return result


def _unset(attribute: str) -> Callable[[Any], None]:
    return lambda bucket: setattr(bucket, attribute, None)


_CONFIGURATIONS: dict[str, tuple[Callable[[Any, Any], None], Callable[[Any], None]]] = {
    "BucketEncryption": (_encrypt, _unset("encryption")),
    "CorsConfiguration": (_share, lambda bucket: bucket.delete_cors()),
    "LifecycleConfiguration": (_keep_for, lambda bucket: bucket.delete_lifecycle()),
    "OwnershipControls": (_own, _unset("ownership_rule")),
    "PublicAccessBlockConfiguration": (_block_public_access, _unset("public_access_block")),
    "VersioningConfiguration": (_version, lambda bucket: _version(bucket, {"Status": "Suspended"})),
}
PATCHES = (keep_buckets_with_objects, buckets_are_what_templates_say)
