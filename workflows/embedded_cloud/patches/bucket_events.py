"""Events of S3 buckets in EventBridge.

docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
"""

from __future__ import annotations

import secrets
import threading
import time
from typing import Any

from flask import has_request_context, request
from moto.s3 import notifications
from moto.s3.models import FakeBucket, S3Backend
from moto.s3.notifications import S3NotificationEvent

from workflows.embedded_cloud.event_bus import ServiceEvent
from workflows.embedded_cloud.patches.context import CloudContext

_REASONS = {
    S3NotificationEvent.OBJECT_CREATED_PUT_EVENT: "PutObject",
    S3NotificationEvent.OBJECT_CREATED_POST_EVENT: "POST Object",
    S3NotificationEvent.OBJECT_CREATED_COPY_EVENT: "CopyObject",
    S3NotificationEvent.OBJECT_CREATED_COMPLETE_MULTIPART_UPLOAD_EVENT: "CompleteMultipartUpload",
}
_ETAG_OF_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"


def buckets_send_events(context: CloudContext) -> None:
    """A bucket with an EventBridgeConfiguration sends its events to the default bus, as AWS shapes them.

    moto sends them to every bus, with made-up fields, to rules without a look at their InputTransformer, and
    waits for the targets; of deletions it sends only those that leave nothing of a key.
    """
    sequencer = Sequencer()
    original_delete = S3Backend.delete_object

    def publish(account: str, bucket: Any, detail_type: str, found: dict[str, Any], **detail: str) -> None:
        given = request if has_request_context() else None
        context.event_bus.publish(
            ServiceEvent(
                source="aws.s3",
                detail_type=detail_type,
                account=account,
                region=bucket.region_name,
                resources=(bucket.arn,),
                detail={
                    "version": "0",
                    "bucket": {"name": bucket.name},
                    "object": {**found, "sequencer": sequencer.next()},
                    "request-id": secrets.token_hex(8).upper(),
                    "requester": account,
                    "source-ip-address": (given and given.remote_addr) or "127.0.0.1",
                    **detail,
                },
            )
        )

    def send_event_bridge_message(account_id: str, bucket: Any, event_name: Any, key: Any) -> None:
        if "ObjectRemoved" in event_name:
            return
        found = {"key": key.name, "size": key.size, "etag": key.etag.replace('"', "")}
        if bucket.is_versioned:
            found["version-id"] = key.version_id
        reason = {"reason": _REASONS[event_name]} if event_name in _REASONS else {}
        publish(account_id, bucket, notifications._detail_type(event_name), found, **reason)

    def delete_object(
        self: Any, bucket_name: str, key_name: str, version_id: str | None = None, bypass: bool = False
    ) -> Any:
        bucket = self.get_bucket(bucket_name)
        before = [str(key.version_id) for key in bucket.keys.getlist(key_name, [])]
        done, answer = original_delete(self, bucket_name, key_name, version_id, bypass)
        configuration = bucket.notification_configuration
        if not done or configuration is None or configuration.event_bridge is None:
            return done, answer
        found, deletion = {"key": key_name}, "Permanently Deleted"
        if bucket.is_versioned and version_id is None:
            found |= {"etag": _ETAG_OF_NOTHING, "version-id": answer["version-id"]}
            deletion = "Delete Marker Created"
        elif bucket.is_versioned:
            found["version-id"] = str(version_id)
        if not bucket.is_versioned or version_id is None or str(version_id) in before:
            what = {"reason": "DeleteObject", "deletion-type": deletion}
            publish(self.account_id, bucket, "Object Deleted", found, **what)
        return done, answer

    notifications._send_event_bridge_message = send_event_bridge_message
    S3Backend.delete_object = delete_object


def one_event_for_an_upload(_context: CloudContext) -> None:
    """An upload is one event; moto adds some of tags and ACL, and PutObject to a multipart upload."""
    original = notifications.send_event
    own_operations = {
        S3NotificationEvent.OBJECT_TAGGING_PUT_EVENT: "tagging",
        S3NotificationEvent.OBJECT_ACL_UPDATE_EVENT: "acl",
    }

    def send_event(account_id: str, event_name: Any, bucket: Any, key: Any) -> None:
        if event_name in own_operations:
            wanted = has_request_context() and own_operations[event_name] in request.args
        else:
            wanted = event_name != S3NotificationEvent.OBJECT_CREATED_PUT_EVENT or key.multipart is None
        if wanted:
            original(account_id, event_name, bucket, key)

    notifications.send_event = send_event


def buckets_of_stacks_send_events(_context: CloudContext) -> None:
    """A template's EventBridgeConfiguration takes effect; moto forgets its NotificationConfiguration."""
    original_create = FakeBucket.create_from_cloudformation_json.__func__
    original_update = FakeBucket.update_from_cloudformation_json.__func__

    def create(
        cls: Any,
        /,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **more: Any,
    ) -> Any:
        bucket = original_create(cls, resource_name, cloudformation_json, account_id, region_name, **more)
        configure(bucket, cloudformation_json)
        return bucket

    def update(
        cls: Any,
        original_resource: Any,
        new_resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
    ) -> Any:
        bucket = original_update(
            cls, original_resource, new_resource_name, cloudformation_json, account_id, region_name
        )
        configure(bucket, cloudformation_json)
        return bucket

    def configure(bucket: Any, cloudformation_json: Any) -> None:
        wanted = cloudformation_json.get("Properties", {}).get("NotificationConfiguration") or {}
        event_bridge = wanted.get("EventBridgeConfiguration")
        enabled = (
            event_bridge is not None and str(event_bridge.get("EventBridgeEnabled", True)).lower() == "true"
        )
        if enabled:
            bucket.set_notification_configuration({"EventBridgeConfiguration": {}})
        elif bucket.notification_configuration is not None:
            bucket.notification_configuration.event_bridge = None

    FakeBucket.create_from_cloudformation_json = classmethod(create)
    FakeBucket.update_from_cloudformation_json = classmethod(update)


class Sequencer:
    """Hexadecimal numbers that grow: how AWS tells which event of a key came later."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def next(self) -> str:
        """Return a number larger than all before it, of equal length."""
        with self._lock:
            self._last = max(self._last + 1, time.time_ns())
            return f"{self._last:018X}"


PATCHES = (one_event_for_an_upload, buckets_send_events, buckets_of_stacks_send_events)
