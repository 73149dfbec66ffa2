"""Resource types that ordinary SAM templates have and moto's CloudFormation lacks."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Any, ClassVar

from moto.awslambda.models import lambda_backends
from moto.cloudformation import parsing
from moto.core.common_models import CloudFormationModel
from moto.logs.models import LogGroup, logs_backends
from moto.s3.models import s3_backends
from moto.sns.models import sns_backends
from moto.sqs.models import sqs_backends

from workflows.embedded_cloud.patches.context import CloudContext

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """A resource that a template describes.

    Attributes
    ----------
    name
        Given by the template, or made up by CloudFormation.
    """

    name: str
    properties: dict[str, Any]
    account_id: str
    region: str


class ResourceModel(CloudFormationModel):  # type: ignore[misc]
    """Base of the types below: a physical id, attributes, and re-creation as the way to update."""

    resource_type: ClassVar[str] = ""
    name_property: ClassVar[str] = ""

    def __init__(self, physical_resource_id: str, properties: dict[str, Any] | None = None) -> None:
        self.physical_resource_id = physical_resource_id
        self.properties = properties or {}

    @classmethod
    def create(cls, wanted: Wanted) -> str:
        """Make the resource and return its physical id."""
        return wanted.name

    @classmethod
    def remove(cls, physical_id: str, wanted: Wanted) -> None:
        """Undo :meth:`create`."""

    # moto's interface

    @classmethod
    def cloudformation_name_type(cls) -> str:
        """Property that names the resource."""
        return cls.name_property

    @classmethod
    def cloudformation_type(cls) -> str:
        """AWS's name of the type."""
        return cls.resource_type

    @classmethod
    def has_cfn_attr(cls, _attr: str) -> bool:
        """Accept any: AWS's schema is for cfn-lint to check."""
        return True

    def get_cfn_attribute(self, attribute_name: str) -> str:
        """Value of Fn::GetAtt."""
        return str(self.properties.get(attribute_name, self.physical_resource_id))

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        /,
        **_kwargs: Any,
    ) -> ResourceModel:
        """Make the resource."""
        return cls(
            cls.create(Wanted(resource_name, cloudformation_json["Properties"], account_id, region_name))
        )

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Any,
        new_resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        /,
    ) -> ResourceModel:
        """Replace the resource by its new self."""
        cls.delete_from_cloudformation_json(
            original_resource.physical_resource_id, cloudformation_json, account_id, region_name
        )
        return cls.create_from_cloudformation_json(
            new_resource_name, cloudformation_json, account_id, region_name
        )

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, /
    ) -> None:
        """Delete the resource."""
        properties = cloudformation_json.get("Properties", {})
        cls.remove(resource_name, Wanted(resource_name, properties, account_id, region_name))


def define(model: type[ResourceModel]) -> None:
    """Make a type known; moto keeps tables of the direct subclasses of its own base class."""
    parsing.get_model_list().append(model)
    parsing.get_model_map()[model.resource_type] = model
    parsing.get_name_type_map()[model.resource_type] = model.name_property


def sns_subscription(_context: CloudContext) -> None:
    """AWS::SNS::Subscription, with RawMessageDelivery, FilterPolicy, FilterPolicyScope and RedrivePolicy."""

    class Subscription(ResourceModel):
        resource_type = "AWS::SNS::Subscription"

        @classmethod
        def create(cls, wanted: Wanted) -> str:
            backend = sns_backends[wanted.account_id][wanted.region]
            endpoint, protocol = wanted.properties["Endpoint"], wanted.properties["Protocol"]
            subscription = backend.subscribe(wanted.properties["TopicArn"], endpoint, protocol)
            for key in (
                "RawMessageDelivery",
                "FilterPolicyScope",
                "FilterPolicy",
                "RedrivePolicy",
                "DeliveryPolicy",
            ):
                if key in wanted.properties:
                    backend.set_subscription_attributes(
                        subscription.arn, key, as_text(wanted.properties[key])
                    )
            return str(subscription.arn)

        @classmethod
        def remove(cls, physical_id: str, wanted: Wanted) -> None:
            sns_backends[wanted.account_id][wanted.region].unsubscribe(physical_id)

    define(Subscription)


def sns_topic_policy(_context: CloudContext) -> None:
    """AWS::SNS::TopicPolicy."""

    class TopicPolicy(ResourceModel):
        resource_type = "AWS::SNS::TopicPolicy"

        @classmethod
        def create(cls, wanted: Wanted) -> str:
            for arn in wanted.properties["Topics"]:
                backend = sns_backends[wanted.account_id][wanted.region]
                backend.set_topic_attribute(arn, "policy", as_text(wanted.properties["PolicyDocument"]))
            return wanted.name

        @classmethod
        def remove(cls, _physical_id: str, wanted: Wanted) -> None:
            backend = sns_backends[wanted.account_id][wanted.region]
            for arn in wanted.properties["Topics"]:
                topic = backend.topics.get(arn)
                if topic is not None:
                    topic._policy_json = topic._create_default_topic_policy(
                        wanted.region, wanted.account_id, topic.name
                    )

    define(TopicPolicy)


def sqs_queue_policy(_context: CloudContext) -> None:
    """AWS::SQS::QueuePolicy."""

    class QueuePolicy(ResourceModel):
        resource_type = "AWS::SQS::QueuePolicy"

        @classmethod
        def create(cls, wanted: Wanted) -> str:
            for url in wanted.properties["Queues"]:
                queue = str(url).rsplit("/", 1)[-1]
                policy = {"Policy": as_text(wanted.properties["PolicyDocument"])}
                sqs_backends[wanted.account_id][wanted.region].set_queue_attributes(queue, policy)
            return wanted.name

        @classmethod
        def remove(cls, _physical_id: str, wanted: Wanted) -> None:
            queues = sqs_backends[wanted.account_id][wanted.region].queues
            for url in wanted.properties["Queues"]:
                queue = queues.get(str(url).rsplit("/", 1)[-1])
                if queue is not None:
                    queue.policy = None

    define(QueuePolicy)


def s3_bucket_policy(_context: CloudContext) -> None:
    """AWS::S3::BucketPolicy."""

    class BucketPolicy(ResourceModel):
        resource_type = "AWS::S3::BucketPolicy"

        @classmethod
        def create(cls, wanted: Wanted) -> str:
            policy = as_text(wanted.properties["PolicyDocument"]).encode()
            s3_backends[wanted.account_id]["aws"].put_bucket_policy(wanted.properties["Bucket"], policy)
            return str(wanted.properties["Bucket"])

        @classmethod
        def remove(cls, _physical_id: str, wanted: Wanted) -> None:
            s3_backends[wanted.account_id]["aws"].delete_bucket_policy(wanted.properties["Bucket"])

    define(BucketPolicy)


def log_groups_change_their_retention(_context: CloudContext) -> None:
    """A log group's retention and tags change in its place; moto has no update, and events would be lost."""

    def update(
        _cls: Any,
        original_resource: Any,
        _name: str,
        cloudformation_json: Any,
        account_id: str,
        region: str,
    ) -> Any:
        backend, properties = logs_backends[account_id][region], cloudformation_json["Properties"]
        days = properties.get("RetentionInDays")
        if days is None:
            backend.delete_retention_policy(original_resource.name)
        else:
            backend.put_retention_policy(original_resource.name, int(days))
        before = list(backend.list_tags_log_group(original_resource.name))
        backend.untag_log_group(original_resource.name, before)
        tags = {tag["Key"]: tag["Value"] for tag in properties.get("Tags", [])}
        backend.tag_log_group(original_resource.name, tags)
        return original_resource

    LogGroup.update_from_cloudformation_json = classmethod(update)


def lambda_event_invoke_config(_context: CloudContext) -> None:
    """AWS::Lambda::EventInvokeConfig: how often an asynchronous invocation is tried again."""

    class EventInvokeConfig(ResourceModel):
        resource_type = "AWS::Lambda::EventInvokeConfig"

        @classmethod
        def create(cls, wanted: Wanted) -> str:
            keys = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
            config = {key: wanted.properties[key] for key in keys if key in wanted.properties}
            for key in keys[:2]:
                if key in config:
                    config[key] = int(config[key])
            backend = lambda_backends[wanted.account_id][wanted.region]
            backend.put_function_event_invoke_config(wanted.properties["FunctionName"], config)
            return wanted.name

        @classmethod
        def remove(cls, _physical_id: str, wanted: Wanted) -> None:
            backend = lambda_backends[wanted.account_id][wanted.region]
            backend.delete_function_event_invoke_config(wanted.properties["FunctionName"])

    define(EventInvokeConfig)


def lambda_alias(_context: CloudContext) -> None:
    """AWS::Lambda::Alias, which SAM's AutoPublishAlias makes."""

    class Alias(ResourceModel):
        resource_type = "AWS::Lambda::Alias"

        @classmethod
        def create(cls, wanted: Wanted) -> str:
            alias = lambda_backends[wanted.account_id][wanted.region].create_alias(
                wanted.properties["Name"],
                wanted.properties["FunctionName"],
                str(wanted.properties["FunctionVersion"]),
                wanted.properties.get("Description", ""),
                wanted.properties.get("RoutingConfig"),
            )
            return str(alias.arn)

        @classmethod
        def remove(cls, _physical_id: str, wanted: Wanted) -> None:
            lambda_backends[wanted.account_id][wanted.region].delete_alias(
                wanted.properties["Name"], wanted.properties["FunctionName"]
            )

    define(Alias)


def accept_inert_resources(_context: CloudContext) -> None:
    """A type that moto has no model of becomes a resource without effect, instead of a Ref to nothing.

    What such a type does on AWS does not happen here; a warning says so.
    """
    original = parsing.resource_class_from_type
    classes: dict[str, type[ResourceModel]] = {}

    def resource_class_from_type(resource_type: str) -> Any:
        if resource_type in parsing.get_model_map():
            return original(resource_type)
        if resource_type not in classes:
            _log.warning("%s has no effect in the embedded cloud", resource_type)
            classes[resource_type] = type("Inert", (InertResource,), {"inert_type": resource_type})
        return classes[resource_type]

    parsing.resource_class_from_type = resource_class_from_type


class InertResource(ResourceModel):
    """Stands in for a resource of an unknown type."""

    resource_type = "Embedded::Inert"
    inert_type: ClassVar[str] = ""

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        /,
        **_kwargs: Any,
    ) -> ResourceModel:
        """Keep the properties, for Fn::GetAtt."""
        properties = dict(cloudformation_json["Properties"])
        service = cls.inert_type.split("::")[1].lower()
        digest = hashlib.sha256(resource_name.encode()).hexdigest()[:12]
        properties.setdefault("Arn", f"arn:aws:{service}:{region_name}:{account_id}:{resource_name}-{digest}")
        name = str(properties.get("Name", resource_name))
        return cls(name, properties)


def as_text(value: Any) -> str:
    """A property as an attribute of SNS or SQS: policies are JSON."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value)


PATCHES = (
    sns_subscription,
    sns_topic_policy,
    sqs_queue_policy,
    s3_bucket_policy,
    log_groups_change_their_retention,
    lambda_event_invoke_config,
    lambda_alias,
    accept_inert_resources,
)
