"""Topics, queues and rules of templates, and how an update changes them in their place."""

from __future__ import annotations

from typing import Any

from moto.events.models import Rule, events_backends
from moto.sns.models import Topic, sns_backends
from moto.sqs.models import Queue, sqs_backends

from workflows.embedded_cloud.patches.cloudformation_resources import as_text
from workflows.embedded_cloud.patches.context import CloudContext

# Properties of a topic that are attributes in SNS's API, and what they are where nothing is said.
_TOPIC = {
    "DisplayName": "",
    "KmsMasterKeyId": "",
    "FifoTopic": False,
    "ContentBasedDeduplication": False,
    "SignatureVersion": "1",
    "TracingConfig": "PassThrough",
    "DeliveryPolicy": "",
}
_ATTRIBUTE_NAMES = {
    "DisplayName": "display_name",
    "KmsMasterKeyId": "kms_master_key_id",
    "FifoTopic": "fifo_topic",
    "ContentBasedDeduplication": "content_based_deduplication",
    "SignatureVersion": "signature_version",
    "TracingConfig": "tracing_config",
    "DeliveryPolicy": "delivery_policy",
}
_QUEUE = {
    "ContentBasedDeduplication": "false",
    "DelaySeconds": "0",
    "KmsDataKeyReusePeriodSeconds": "300",
    "KmsMasterKeyId": "",
    "MaximumMessageSize": "1048576",
    "MessageRetentionPeriod": "345600",
    "ReceiveMessageWaitTimeSeconds": "0",
    "RedriveAllowPolicy": "",
    "RedrivePolicy": "",
    "SqsManagedSseEnabled": "true",
    "VisibilityTimeout": "30",
}


def topics_change_in_their_place(_context: CloudContext) -> None:
    """A topic has tags, and keeps its subscriptions when it changes; moto deletes it and makes a new one."""

    def create(
        _cls: Any,
        /,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **_kwargs: Any,
    ) -> Any:
        properties, backend = cloudformation_json["Properties"], sns_backends[account_id][region_name]
        fifo = {"FifoTopic": True} if _is_true(properties.get("FifoTopic")) else None
        topic = backend.create_topic(resource_name, fifo)
        _set_topic(topic, properties, set())
        _subscribe(backend, topic, properties, {})
        topic.declared_properties = properties
        return topic

    def update(
        _cls: Any, original_resource: Any, _name: str, cloudformation_json: Any, account_id: str, region: str
    ) -> Any:
        properties, topic = cloudformation_json["Properties"], original_resource
        before = topic.declared_properties
        _set_topic(topic, properties, set(before) - set(properties))
        _subscribe(sns_backends[account_id][region], topic, properties, before)
        topic.declared_properties = properties
        return topic

    Topic.create_from_cloudformation_json = classmethod(create)
    Topic.update_from_cloudformation_json = classmethod(update)
    Topic.has_cfn_attr = classmethod(lambda _cls, name: name in ("TopicName", "TopicArn"))
    Topic.get_cfn_attribute = lambda self, name: self.arn if name == "TopicArn" else self.name


def _set_topic(topic: Any, properties: dict[str, Any], gone: set[str]) -> None:
    for name, default in _TOPIC.items():
        if name in properties or name in gone:
            value = properties.get(name, default)
            value = _is_true(value) if isinstance(default, bool) else as_text(value)
            setattr(topic, _ATTRIBUTE_NAMES[name], value)
    topic._tags = {tag["Key"]: str(tag["Value"]) for tag in properties.get("Tags", [])}


def _subscribe(backend: Any, topic: Any, properties: dict[str, Any], before: dict[str, Any]) -> None:
    wanted = {(each["Protocol"], each["Endpoint"]) for each in properties.get("Subscription", [])}
    had = {(each["Protocol"], each["Endpoint"]) for each in before.get("Subscription", [])}
    for protocol, endpoint in sorted(wanted - had):
        backend.subscribe(topic.arn, endpoint, protocol)
    for protocol, endpoint in had - wanted:
        subscription = backend._find_subscription(topic.arn, endpoint, protocol)
        if subscription is not None:
            backend.unsubscribe(subscription.arn)


def queues_change_in_their_place(_context: CloudContext) -> None:
    """Every attribute of a queue changes with its template, to its default too; moto changes two of them."""
    original = Queue.create_from_cloudformation_json.__func__

    def create(
        cls: Any,
        /,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **more: Any,
    ) -> Any:
        queue = original(cls, resource_name, cloudformation_json, account_id, region_name, **more)
        queue.declared_properties = cloudformation_json["Properties"]
        return queue

    def update(
        _cls: Any, original_resource: Any, _name: str, cloudformation_json: Any, account_id: str, region: str
    ) -> Any:
        properties = cloudformation_json["Properties"]
        queue = sqs_backends[account_id][region].get_queue(original_resource.name)
        attributes = {
            name: as_text(properties[name]) if name in properties else default
            for name, default in _QUEUE.items()
            if name in properties or name in queue.declared_properties
        }
        queue._set_attributes({**attributes, "Policy": queue.policy})
        queue.tags = {tag["Key"]: str(tag["Value"]) for tag in properties.get("Tags", [])}
        queue.declared_properties = properties
        return queue

    Queue.create_from_cloudformation_json = classmethod(create)
    Queue.update_from_cloudformation_json = classmethod(update)


def rules_change_in_their_place(_context: CloudContext) -> None:
    """A rule that changes stays, with targets that others gave it; moto deletes it and makes a new one."""

    def request(properties: dict[str, Any]) -> dict[str, Any]:
        pattern = properties.get("EventPattern")
        return {
            "description": properties.get("Description"),
            "event_bus_arn": properties.get("EventBusName"),
            "event_pattern": None if pattern is None else as_text(pattern),
            "role_arn": properties.get("RoleArn"),
            "scheduled_expression": properties.get("ScheduleExpression"),
            "state": properties.get("State", "ENABLED"),
            "tags": properties.get("Tags"),
        }

    def put(backend: Any, name: str, properties: dict[str, Any], before: set[str]) -> Any:
        rule = backend.put_rule(name, **request(properties))
        bus, targets = properties.get("EventBusName"), properties.get("Targets") or []
        rule.declared_targets = {target["Id"] for target in targets}
        if before - rule.declared_targets:
            backend.remove_targets(name, bus, sorted(before - rule.declared_targets))
        if targets:
            backend.put_targets(name, bus, targets)
        return rule

    def create(
        _cls: Any,
        /,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **_kwargs: Any,
    ) -> Any:
        backend = events_backends[account_id][region_name]
        return put(backend, resource_name, cloudformation_json["Properties"], set())

    def update(
        _cls: Any, original_resource: Any, _name: str, cloudformation_json: Any, account_id: str, region: str
    ) -> Any:
        backend = events_backends[account_id][region]
        backend.tagger.delete_all_tags_for_resource(original_resource.arn)
        before = original_resource.declared_targets
        return put(backend, original_resource.name, cloudformation_json["Properties"], before)

    Rule.create_from_cloudformation_json = classmethod(create)
    Rule.update_from_cloudformation_json = classmethod(update)


def _is_true(value: Any) -> bool:
    return str(value).lower() == "true"


PATCHES = (topics_change_in_their_place, queues_change_in_their_place, rules_change_in_their_place)
