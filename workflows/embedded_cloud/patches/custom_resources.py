"""Custom resources, whose providers are functions or topics."""

from __future__ import annotations

from typing import Any

from moto.cloudformation import parsing

from workflows.embedded_cloud.patches.cloudformation_resources import ResourceModel
from workflows.embedded_cloud.patches.context import CloudContext
from workflows.embedded_cloud.stacks.custom_resources import (
    CUSTOM_RESOURCE,
    Answer,
    ProviderMissing,
    Providers,
    Subject,
    as_strings,
    is_custom,
)
from workflows.embedded_cloud.stacks.failures import ResourceFailed


def custom_resources_ask_their_provider(context: CloudContext) -> None:
    """A custom resource is made, changed and deleted by its provider, whose answer counts.

    moto calls the function through Docker, knows no Update, Delete or failure, and makes up the id.
    """
    original = parsing.resource_class_from_type
    providers = Providers(context.functions, context.inbox)

    class Custom(CustomResource):
        asked = providers

    def resource_class_from_type(resource_type: str) -> Any:
        return Custom if is_custom(resource_type) else original(resource_type)

    parsing.resource_class_from_type = resource_class_from_type


class CustomResource(ResourceModel):
    """A resource that a provider makes.

    Parameters
    ----------
    properties
        Resolved.
    answer
        The provider's last.
    """

    resource_type = CUSTOM_RESOURCE
    replaces_by_physical_id = True
    asked: Providers

    def __init__(
        self, physical_id: str, subject: Subject, properties: dict[str, Any], answer: Answer | None = None
    ) -> None:
        super().__init__(physical_id, properties)
        self.subject = subject
        self._data = answer.data if answer else {}

    def get_cfn_attribute(self, attribute_name: str) -> Any:
        """Value of the provider's Data; names may have dots."""
        if attribute_name not in self._data:
            raise ResourceFailed(
                f"CustomResource attribute error: Vendor response doesn't contain {attribute_name} attribute "
                f"in object {self.subject.stack_id}|{self.subject.logical_id}"
            )
        return self._data[attribute_name]

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, _account_id: str, _region: str, /, **kwargs: Any
    ) -> CustomResource:
        """Have the provider create it."""
        properties = cloudformation_json["Properties"]
        subject = Subject(kwargs["StackId"], kwargs["LogicalId"], kwargs["ResourceType"])
        unanswered = cls(resource_name, subject, properties)
        try:
            answer, request_id = cls.asked.request("Create", subject, properties)
        except ProviderMissing:
            raise
        except ResourceFailed as error:
            raise ResourceFailed(str(error), unanswered) from error
        made = cls(answer.physical_id or resource_name, subject, properties, answer)
        if answer.succeeded and not answer.physical_id:
            raise ResourceFailed("Invalid PhysicalResourceId", made)
        _require_success(answer, request_id, made)
        return made

    @classmethod
    def update_from_cloudformation_json(
        cls, original_resource: Any, _name: str, cloudformation_json: Any, _account_id: str, _region: str, /
    ) -> CustomResource:
        """Have the provider update it; another physical id means that the old one is to be deleted."""
        properties, before = cloudformation_json["Properties"], original_resource
        if properties.get("ServiceToken") != before.properties.get("ServiceToken"):
            raise ResourceFailed("Modifying service token is not allowed.")
        answer, request_id = cls.asked.request(
            "Update",
            before.subject,
            properties,
            PhysicalResourceId=before.physical_resource_id,
            OldResourceProperties=as_strings(before.properties),
        )
        _require_success(answer, request_id)
        return cls(answer.physical_id or before.physical_resource_id, before.subject, properties, answer)

    def delete(self, _account_id: str, _region: str) -> None:
        """Have the provider delete it."""
        answer, request_id = self.asked.request(
            "Delete", self.subject, self.properties, PhysicalResourceId=self.physical_resource_id
        )
        _require_success(answer, request_id)


def _require_success(answer: Answer, request_id: str, model: CustomResource | None = None) -> None:
    if not answer.succeeded:
        message = answer.reason or "See the details in CloudWatch Log Stream"
        raise ResourceFailed(
            "Received response status [FAILED] from custom resource. "
            f"Message returned: {message} (RequestId: {request_id})",
            model,
        )


PATCHES = (custom_resources_ask_their_provider,)
