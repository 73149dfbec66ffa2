"""What buckets tell EventBridge."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.cloud.helpers import create_stack, make_queue, queue_arn, receive, resource, unique, wait_until
from workflows.embedded_cloud import EmbeddedCloud


def bucket_to_queue(cloud: EmbeddedCloud, pattern: dict[str, Any] | None = None) -> tuple[str, str]:
    """A bucket that sends its events, and a queue that gets those that match."""
    bucket, rule, url = unique("bucket"), unique("rule"), make_queue(cloud)
    s3, events = cloud.client("s3"), cloud.client("events")
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    detail = {"bucket": {"name": [bucket]}, **(pattern or {})}
    events.put_rule(Name=rule, EventPattern=json.dumps({"source": ["aws.s3"], "detail": detail}))
    events.put_targets(Rule=rule, Targets=[{"Id": "q", "Arn": queue_arn(url)}])
    return bucket, url


def take(cloud: EmbeddedCloud, url: str, count: int) -> list[dict[str, Any]]:
    """Wait for that many events and return them in the order of their sequencers."""
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        found.extend(json.loads(message["Body"]) for message in receive(cloud, url))
        return len(found) >= count

    wait_until(enough)
    time.sleep(0.1)
    found.extend(json.loads(message["Body"]) for message in receive(cloud, url, WaitTimeSeconds=0))
    assert len(found) == count
    return sorted(found, key=lambda event: str(event["detail"]["object"]["sequencer"]))


def test_buckets_send_events(cloud: EmbeddedCloud) -> None:
    s3 = cloud.client("s3")
    bucket, url = bucket_to_queue(cloud)
    key = "inputs/a b+ü.csv"
    etag = s3.put_object(Bucket=bucket, Key=key, Body=b"12345")["ETag"].strip('"')
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
    s3.delete_object(Bucket=bucket, Key=key)
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "copy"}, {"Key": "never"}]})
    made, copied, deleted, also_deleted = take(cloud, url, 4)
    assert (made["source"], made["detail-type"], made["version"]) == ("aws.s3", "Object Created", "0")
    assert made["resources"] == [f"arn:aws:s3:::{bucket}"]
    assert time.strptime(made["time"], "%Y-%m-%dT%H:%M:%SZ")
    detail = made["detail"]
    del detail["object"]["sequencer"]
    assert detail == {
        "version": "0",
        "bucket": {"name": bucket},
        "object": {"key": key, "size": 5, "etag": etag},
        "request-id": detail["request-id"],
        "requester": "123456789012",
        "source-ip-address": "127.0.0.1",
        "reason": "PutObject",
    }
    assert (copied["detail"]["object"]["key"], copied["detail"]["reason"]) == ("copy", "CopyObject")
    assert (deleted["detail-type"], deleted["detail"]["object"]["key"]) == ("Object Deleted", key)
    assert deleted["detail"]["reason"] == also_deleted["detail"]["reason"] == "DeleteObject"
    assert deleted["detail"]["deletion-type"] == "Permanently Deleted"
    assert "size" not in deleted["detail"]["object"]


def test_one_event_for_an_upload(cloud: EmbeddedCloud) -> None:
    s3 = cloud.client("s3")
    bucket, url = bucket_to_queue(cloud)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="large")["UploadId"]
    where = {"Bucket": bucket, "Key": "large", "UploadId": upload}
    parts = [
        {"PartNumber": number, "ETag": s3.upload_part(PartNumber=number, Body=body, **where)["ETag"]}
        for number, body in ((1, bytes(5 << 20)), (2, b"end"))
    ]
    s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **where)
    tags = {"TagSet": [{"Key": "k", "Value": "v"}]}
    s3.put_object_tagging(Bucket=bucket, Key="large", Tagging=tags)
    event, tagged = take(cloud, url, 2)
    assert tagged["detail-type"] == "Object Tags Added"
    assert event["detail"]["reason"] == "CompleteMultipartUpload"
    assert event["detail"]["object"]["size"] == (5 << 20) + 3
    assert event["detail"]["object"]["etag"].endswith("-2")


def test_versions_are_told_apart(cloud: EmbeddedCloud) -> None:
    s3 = cloud.client("s3")
    bucket, url = bucket_to_queue(cloud)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["VersionId"]
    marker = s3.delete_object(Bucket=bucket, Key="k")["VersionId"]
    s3.delete_object(Bucket=bucket, Key="k", VersionId=version)
    made, marked, deleted = take(cloud, url, 3)
    assert made["detail"]["object"]["version-id"] == version
    assert marked["detail"]["object"]["version-id"] == marker
    assert marked["detail"]["deletion-type"] == "Delete Marker Created"
    assert deleted["detail"]["object"]["version-id"] == version
    assert deleted["detail"]["deletion-type"] == "Permanently Deleted"


def test_rules_choose_by_key(cloud: EmbeddedCloud) -> None:
    s3 = cloud.client("s3")
    bucket, url = bucket_to_queue(cloud, {"object": {"key": [{"wildcard": "inputs/*.csv"}]}})
    for key in ("outputs/a.csv", "inputs/a.csv", "inputs/a.csv.tmp", "inputs/deep/b.csv"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    assert [event["detail"]["object"]["key"] for event in take(cloud, url, 2)] == [
        "inputs/a.csv",
        "inputs/deep/b.csv",
    ]


@pytest.mark.parametrize("enabled", [True, False])
def test_buckets_of_stacks_send_events(cloud: EmbeddedCloud, enabled: bool) -> None:
    url = make_queue(cloud)
    configuration = {"EventBridgeConfiguration": {"EventBridgeEnabled": enabled}}
    rule = resource(
        "AWS::Events::Rule",
        EventPattern={"source": ["aws.s3"], "detail": {"bucket": {"name": [{"Ref": "Bucket"}]}}},
        Targets=[{"Id": "q", "Arn": queue_arn(url)}],
    )
    bucket = resource("AWS::S3::Bucket", NotificationConfiguration=configuration)
    outputs = {"Name": {"Value": {"Ref": "Bucket"}}}
    stack = create_stack(cloud, {"Resources": {"Bucket": bucket, "Rule": rule}, "Outputs": outputs})
    cloud.client("s3").put_object(Bucket=stack["Outputs"]["Name"], Key="k", Body=b"")
    if enabled:
        take(cloud, url, 1)
    else:
        assert receive(cloud, url) == []
