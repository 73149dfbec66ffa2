"""Changes to how moto keeps stacks: operations on them are ours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from moto.cloudformation import parsing, responses
from moto.cloudformation.exceptions import AlreadyExistsException, ValidationError
from moto.cloudformation.models import CloudFormationBackend, Stack, cloudformation_backends
from moto.cloudformation.utils import generate_stack_id
from moto.core.responses import ActionResult, EmptyResult
from moto.utilities.utils import get_partition

from workflows.embedded_cloud.patches.context import CloudContext
from workflows.embedded_cloud.stacks.failures import ResourceFailed
from workflows.embedded_cloud.stacks.operations import (
    DO_NOTHING,
    ROLLBACK,
    StackOperations,
    cancel,
    provisioned_in,
    target_of,
    wait_for,
)
from workflows.embedded_cloud.stacks.records import states_of

UPDATABLE = (
    "CREATE_COMPLETE",
    "UPDATE_COMPLETE",
    "UPDATE_ROLLBACK_COMPLETE",
    "CREATE_FAILED",
    "UPDATE_FAILED",
)
_REQUEST = ("DisableRollback", "OnFailure", "OnStackFailure", "RetainResources", "DeletionMode")
_NO_OPTIONS: Mapping[str, Any] = {}
_options: ContextVar[Mapping[str, Any]] = ContextVar("options")
_beginning = threading.RLock()


def operate_on_stacks_as_aws_does(_context: CloudContext) -> None:
    """Operations return at once and go on; they roll back, replace, clean up and refuse each other.

    moto does all while the client waits, in an order of its own, deletes before it makes, changes what it can
    and forgets the rest, and leaves behind a stack that is for ever CREATE_IN_PROGRESS if something fails.
    """

    def create_stack(
        self: Any,
        name: str,
        template: str,
        parameters: dict[str, Any],
        notification_arns: list[str] | None = None,
        tags: dict[str, str] | None = None,
        role_arn: str | None = None,
        enable_termination_protection: bool | None = False,
        timeout_in_mins: int | None = None,
        stack_policy_body: str | None = None,
    ) -> Any:
        with _beginning:
            if any(stack.name == name for stack in self.stacks.values()):
                raise AlreadyExistsException(f"Stack {name} already exists")
            stack = Stack(
                stack_id=generate_stack_id(name, self.region_name, self.account_id),
                name=name,
                template=template,
                parameters=parameters,
                account_id=self.account_id,
                region_name=self.region_name,
                notification_arns=notification_arns,
                tags=tags,
                role_arn=role_arn,
                cross_stack_resources=self.exports,
                enable_termination_protection=enable_termination_protection,
                timeout_in_mins=timeout_in_mins,
                stack_policy_body=stack_policy_body,
            )
            target = target_of(stack, template, parameters)
            stack.cross_stack_resources = target.resources.cross_stack_resources = self.exports
            self.stacks[stack.stack_id] = stack
            _operations(self, stack).create(target)
        return stack

    def update_stack(self: Any, name: str, template: str, role_arn: Any, parameters: Any, tags: Any) -> Any:
        stack = self.get_stack(name)
        resolved = self._resolve_update_parameters(instance=stack, incoming_params=parameters)
        with _beginning:
            require_updatable(stack)
            _operations(self, stack).update(target_for_update(stack, template, resolved), role_arn, tags)
        return stack

    def delete_stack(self: Any, name_or_stack_id: str) -> None:
        with _beginning:
            found = [each for each in self.stacks.values() if name_or_stack_id in (each.name, each.stack_id)]
            for stack in found:
                if stack.status == "DELETE_IN_PROGRESS":
                    continue
                if stack.enable_termination_protection in (True, "true"):
                    why = "cannot be deleted while TerminationProtection is enabled"
                    raise ValidationError(message=f"Stack [{stack.name}] {why}")
                if stack.status.endswith("_IN_PROGRESS") and stack.status not in (
                    "CREATE_IN_PROGRESS",
                    "REVIEW_IN_PROGRESS",
                ):
                    raise ValidationError(
                        message=f"Stack [{stack.name}] cannot be deleted while in status {stack.status}"
                    )
                retained = set(_options.get(_NO_OPTIONS).get("RetainResources") or ())
                if stack.status == "DELETE_FAILED" and (
                    _options.get(_NO_OPTIONS).get("DeletionMode") == "FORCE_DELETE_STACK"
                ):
                    retained |= set(provisioned_in(stack))
                StackOperations(self, stack).delete(retained)

    def create_resources(self: Any) -> None:
        backend = cloudformation_backends[self.account_id][self.region_name]
        StackOperations(backend, self).create(target_of(self, self.template, self.parameters))
        wait_for(self)

    def delete(self: Any) -> None:
        StackOperations(cloudformation_backends[self.account_id][self.region_name], self).delete()
        wait_for(self)

    def get_item(self: Any, key: str) -> Any:
        if key in self._parsed_resources:
            return self._parsed_resources[key]
        body = self._resource_json_map.get(key) or {}
        if "Condition" in body and not self.lazy_condition_map[body["Condition"]]:
            return None
        raise KeyError(key)  # asking for a resource is no reason to make it

    CloudFormationBackend.create_stack = create_stack
    CloudFormationBackend.update_stack = update_stack
    CloudFormationBackend.delete_stack = delete_stack
    Stack.create_resources = create_resources
    Stack.delete = delete
    parsing.ResourceMap.__getitem__ = get_item
    _tell_what_there_is()


def _operations(backend: Any, stack: Any) -> StackOperations:
    options = _options.get(_NO_OPTIONS)
    on_failure = options.get("OnFailure")
    if not on_failure:
        on_failure = DO_NOTHING if str(options.get("DisableRollback")).lower() == "true" else ROLLBACK
    stack.disable_rollback = on_failure == DO_NOTHING
    return StackOperations(backend, stack, on_failure)


def execute(backend: Any, change_set: Any, then: Callable[[], None]) -> None:
    """Begin what a change set describes.

    Raises
    ------
    ValidationError
        If something else is under way on its stack.
    """
    stack = backend.stacks[change_set.stack_id]
    with _beginning:
        if change_set.change_set_type != "CREATE":
            require_updatable(stack)
        target = target_for_update(stack, change_set.template, dict(change_set.parameters))
        target.resources.cross_stack_resources = stack.cross_stack_resources = backend.exports
        change_set.execution_status = "EXECUTE_IN_PROGRESS"
        with_options = {**_options.get(_NO_OPTIONS), **getattr(change_set, "failure_options", {})}
        token = _options.set(with_options)
        try:
            operations = _operations(backend, stack)
        finally:
            _options.reset(token)
        if change_set.change_set_type == "CREATE":
            operations.create(target, then)
        else:
            operations.update(target, change_set.role_arn, change_set.tags or None, then)


def failure_options() -> dict[str, Any]:
    """Return what the request at hand says about failures, for when its change set is executed."""
    asked = _options.get(_NO_OPTIONS).get("OnStackFailure")
    return {"OnFailure": asked} if asked else {}


def require_updatable(stack: Any) -> None:
    """Refuse to update a stack that has no state to start from.

    Raises
    ------
    ValidationError
        In CloudFormation's words.
    """
    if stack.status not in UPDATABLE:
        raise ValidationError(
            message=f"Stack:{stack.stack_id} is in {stack.status} state and can not be updated."
        )


def target_for_update(stack: Any, template: str, parameters: dict[str, Any]) -> Any:
    """Check a template for a stack that there is.

    Raises
    ------
    ValidationError
        In CloudFormation's words.
    """
    target = target_of(stack, template, parameters)
    target.resources.cross_stack_resources = stack.cross_stack_resources
    other = [
        name
        for name, resource in provisioned_in(stack).items()
        if name in target.bodies and target.bodies[name].get("Type") != resource.kind
    ]
    if other:
        raise ValidationError(
            message="Update of resource type is not permitted. The new template modifies resource type of "
            f"the following resources: [{', '.join(other)}]"
        )
    return target


def _tell_what_there_is() -> None:
    """Answer from what is recorded; moto makes what it is asked for on the way."""

    class Described:
        def __init__(self, stack: Any, resource: Any) -> None:
            self.stack_id, self.stack_name = stack.stack_id, stack.name
            self.logical_resource_id = resource.logical_resource_id
            self.physical_resource_id = resource.physical_resource_id or None
            self.resource_type = resource.cf_resource_type
            self.resource_status = resource.resource_status
            self.resource_status_reason = resource.resource_status_reason
            self.timestamp = self.last_updated_timestamp = resource.timestamp

    def list_stack_resources(self: Any) -> ActionResult:
        stack, resources = self.cloudformation_backend.list_stack_resources(self._get_param("StackName"))
        return ActionResult({"StackResourceSummaries": [Described(stack, each) for each in resources]})

    def outputs(self: Any) -> list[dict[str, Any]] | None:
        exported = {export.value: export.name for export in self.exports}
        return [
            {
                "OutputKey": output.key,
                "OutputValue": output.value,
                "Description": output.description,
                "ExportName": exported.get(output.value),
            }
            for output in getattr(self, "published_outputs", [])
        ] or None

    Stack.outputs = property(outputs)
    Stack.exports = property(lambda self: getattr(self, "published_exports", []))
    Stack.published_exports = []
    Stack.stack_resources = property(lambda self: list(states_of(self).values()))
    responses.StackResourceDTO = Described
    responses.CloudFormationResponse.list_stack_resources = list_stack_resources


def requests_say_what_to_do_on_failure(_context: CloudContext) -> None:
    """DisableRollback, OnFailure and RetainResources count, and updates can be cancelled; moto has none."""

    def heeding(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def respond(self: Any) -> Any:
            token = _options.set({name: self._get_param(name) for name in _REQUEST})
            try:
                return original(self)
            finally:
                _options.reset(token)

        return respond

    def cancel_update_stack(self: Any) -> EmptyResult:
        stack = self.cloudformation_backend.get_stack(self._get_param("StackName"))
        if stack.status != "UPDATE_IN_PROGRESS":
            raise ValidationError(message="CancelUpdateStack cannot be called from current stack status")
        cancel(stack)
        return EmptyResult()

    def update_termination_protection(self: Any) -> ActionResult:
        stack = self.cloudformation_backend.get_stack(self._get_param("StackName"))
        stack.enable_termination_protection = self._get_param("EnableTerminationProtection")
        return ActionResult({"StackId": stack.stack_id})

    kind = responses.CloudFormationResponse
    for name in ("create_stack", "update_stack", "delete_stack", "create_change_set", "execute_change_set"):
        setattr(kind, name, heeding(getattr(kind, name)))
    kind.cancel_update_stack = cancel_update_stack
    kind.update_termination_protection = update_termination_protection


def nested_stacks_are_stacks(_context: CloudContext) -> None:
    """A stack in a stack is made, updated and deleted with it, and its outputs are attributes.

    moto deletes and makes it again to update it, and has no Outputs.
    """

    def stack_of(physical_id: str, account_id: str, region_name: str) -> Any:
        return cloudformation_backends[account_id][region_name].get_stack(physical_id)

    def given(properties: Any, account_id: str, region_name: str) -> tuple[str, dict[str, str]]:
        partition = get_partition(region_name)
        template = responses.get_stack_from_s3_url(
            properties["TemplateURL"], account_id=account_id, partition=partition
        )
        values = {
            name: ",".join(map(str, value)) if isinstance(value, list) else str(value)
            for name, value in (properties.get("Parameters") or {}).items()
        }
        return template, values

    def ended(stack: Any, done: str, verb: str) -> Any:
        wait_for(stack)
        if stack.status not in done:
            why = f"Embedded stack {stack.stack_id} was not successfully {verb}: {stack.status_reason}"
            raise ResourceFailed(why, stack if verb == "created" else None)
        return stack

    def create(
        _cls: Any,
        /,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> Any:
        template, values = given(cloudformation_json["Properties"], account_id, region_name)
        backend = cloudformation_backends[account_id][region_name]
        return ended(backend.create_stack(resource_name, template, values), "CREATE_COMPLETE", "created")

    def update(
        _cls: Any,
        original_resource: Any,
        _name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
    ) -> Any:
        template, values = given(cloudformation_json["Properties"], account_id, region_name)
        parameters = [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]
        backend = cloudformation_backends[account_id][region_name]
        try:
            backend.update_stack(original_resource.stack_id, template, None, parameters, None)
        except ValidationError as error:
            if "No updates are to be performed" not in str(error.message):
                raise
            return original_resource
        return ended(original_resource, "UPDATE_COMPLETE", "updated")

    def delete(
        _cls: Any, resource_name: str, _cloudformation_json: Any, account_id: str, region_name: str
    ) -> None:
        stack = stack_of(resource_name, account_id, region_name)
        if stack.status != "DELETE_COMPLETE":
            cloudformation_backends[account_id][region_name].delete_stack(stack.stack_id)
            ended(stack, "DELETE_COMPLETE", "deleted")

    def get_cfn_attribute(self: Any, attribute_name: str) -> str:
        for output in self.outputs or []:
            if f"Outputs.{output['OutputKey']}" == attribute_name:
                return str(output["OutputValue"])
        raise ResourceFailed(f"Output '{attribute_name}' not found in stack '{self.stack_id}'")

    Stack.create_from_cloudformation_json = classmethod(create)
    Stack.update_from_cloudformation_json = classmethod(update)
    Stack.delete_from_cloudformation_json = classmethod(delete)
    Stack.get_cfn_attribute = get_cfn_attribute
    Stack.physical_resource_id = property(lambda self: self.stack_id)


PATCHES = (operate_on_stacks_as_aws_does, requests_say_what_to_do_on_failure, nested_stacks_are_stacks)
