"""Changes to how moto reads templates and keeps stacks."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

from moto.cloudformation import parsing, responses
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend, Event, Stack, cloudformation_backends
from moto.core.exceptions import ServiceException
from moto.logs.models import LogGroup, logs_backends
from moto.s3.models import FakeBucket, s3_backends
from werkzeug.exceptions import HTTPException

from workflows.embedded_cloud.patches.context import CloudContext


def drop_no_value_in_lists(_context: CloudContext) -> None:
    """AWS::NoValue in a list removes the element; moto leaves None there."""
    original = parsing.clean_json

    def clean_json(resource_json: Any, resources_map: Any) -> Any:
        cleaned = original(resource_json, resources_map)
        if isinstance(resource_json, list):
            return [item for item in cleaned if item is not None]
        return cleaned

    parsing.clean_json = clean_json


def split_default_lists(_context: CloudContext) -> None:
    """Parameters of list type are lists, passed or defaulted; moto splits those that are passed."""
    original = parsing.ResourceMap.load_parameters

    def load_parameters(self: Any) -> None:
        for name, slot in (self._template.get("Parameters") or {}).items():
            kind = str(slot.get("Type", "String"))
            default = slot.get("Default")
            parsed = kind in ("Number", "CommaDelimitedList") or kind.startswith("List")
            if parsed and default is not None and name not in self.input_parameters:
                self.input_parameters = {**self.input_parameters, name: str(default)}
        original(self)

    parsing.ResourceMap.load_parameters = load_parameters


def get_att_with_dots(_context: CloudContext) -> None:
    """YAML's short form gives Fn::GetAtt as one string, "Resource.Attribute"; moto takes only the list."""
    original = parsing.clean_json

    def clean_json(resource_json: Any, resources_map: Any) -> Any:
        if isinstance(resource_json, dict) and isinstance(resource_json.get("Fn::GetAtt"), str):
            resource_json = {"Fn::GetAtt": resource_json["Fn::GetAtt"].split(".", 1)}
        return original(resource_json, resources_map)

    parsing.clean_json = clean_json


def refuse_outputs_of_undefined_resources(_context: CloudContext) -> None:
    """An output of a resource that is not there is a validation error; moto answers with error 500."""
    original = parsing.ResourceMap.validate_outputs

    def validate_outputs(self: Any) -> None:
        for output in (self._template.get("Outputs") or {}).values():
            value = output.get("Value")
            reference = value.get("Fn::GetAtt") if isinstance(value, dict) else None
            if isinstance(reference, str):
                reference = value["Fn::GetAtt"] = reference.split(".", 1)
            if reference and reference[0] not in self._resource_json_map:
                missing = f"instance of Fn::GetAtt references undefined resource {reference[0]}"
                raise ValidationError(message=f"Template error: {missing}")
        original(self)

    parsing.ResourceMap.validate_outputs = validate_outputs


def fail_stacks_as_aws_does(_context: CloudContext) -> None:
    """A resource that cannot be made fails the stack, with an event that names it, and what was is restored.

    moto answers the request with an error and keeps a stack that is for ever CREATE_IN_PROGRESS.
    """
    original_create = Stack.create_resources
    original_update = Stack.update
    original_parse_create = parsing.parse_and_create_resource
    original_parse_update = parsing.parse_and_update_resource

    def naming(original: Callable[..., Any]) -> Callable[..., Any]:
        def parse(logical_id: str, resource_json: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return original(logical_id, resource_json, *args, **kwargs)
            except Exception as error:
                if not hasattr(error, "failed_resource"):
                    error.failed_resource = (logical_id, resource_json.get("Type", ""))  # type: ignore[attr-defined]
                raise

        return parse

    def create_resources(self: Any) -> None:
        try:
            original_create(self)
        except Exception as error:
            _record_failure(self, error, "CREATE_FAILED")
            self._add_stack_event("ROLLBACK_IN_PROGRESS", resource_status_reason=_stack_reason(error))
            with contextlib.suppress(Exception):
                self.resource_map.delete()
            # What is described of it later would otherwise be created on the way.
            self.resource_map._resource_json_map = {}
            self.template_dict.pop("Outputs", None)
            self.output_map = self._create_output_map()
            self._add_stack_event("ROLLBACK_COMPLETE")
            self.status = "ROLLBACK_COMPLETE"
            self.status_reason = _stack_reason(error)

    def update(self: Any, *args: Any, **kwargs: Any) -> None:
        before, parameters, tags = self.template, dict(self.parameters), dict(self.tags)
        try:
            original_update(self, *args, **kwargs)
        except Exception as error:
            _record_failure(self, error, "UPDATE_FAILED")
            reason = _stack_reason(error, "update")
            self._add_stack_event("UPDATE_ROLLBACK_IN_PROGRESS", resource_status_reason=reason)
            self.status, self.status_reason = "UPDATE_ROLLBACK_COMPLETE", reason
            try:
                self.template, self.parameters, self.tags = before, parameters, tags
                self._parse_template()
                self.resource_map.update(self.template_dict, parameters)
                self.output_map = self._create_output_map()
            except Exception as again:
                self.status, self.status_reason = "UPDATE_ROLLBACK_FAILED", _reason(again)
            self._add_stack_event(self.status)

    parsing.parse_and_create_resource = naming(original_parse_create)
    parsing.parse_and_update_resource = naming(original_parse_update)
    Stack.create_resources = create_resources
    Stack.update = update


def tell_of_every_resource(_context: CloudContext) -> None:
    """A stack's events tell of each resource that is made or changed; moto tells of the stack alone."""

    def telling(original: Callable[..., Any], verb: str) -> Callable[..., Any]:
        def parse(logical_id: str, resource_json: Any, resources: Any, **place: str) -> Any:
            stack = cloudformation_backends[place["account_id"]][place["region_name"]].stacks.get(
                resources.stack_id
            )
            condition = resource_json.get("Condition")
            if stack is None or (condition and not resources.lazy_condition_map[condition]):
                return original(logical_id, resource_json, resources, **place)
            kind = str(resource_json.get("Type"))
            _record(stack, (logical_id, kind), f"{verb}_IN_PROGRESS")
            made = original(logical_id, resource_json, resources, **place)
            physical_id = str(getattr(made, "physical_resource_id", ""))
            _record(stack, (logical_id, kind), f"{verb}_COMPLETE", physical_id=physical_id)
            return made

        return parse

    parsing.parse_and_create_resource = telling(parsing.parse_and_create_resource, "CREATE")
    parsing.parse_and_update_resource = telling(parsing.parse_and_update_resource, "UPDATE")


def replace_what_cannot_be_updated(_context: CloudContext) -> None:
    """A changed resource of a type without update is replaced, one whose condition became false is deleted.

    moto forgets both, and leaves them behind when the stack goes.
    """
    original = parsing.parse_and_update_resource

    def parse_and_update_resource(logical_id: str, resource_json: Any, resources: Any, **place: str) -> Any:
        before = resources._parsed_resources.get(logical_id)
        condition = resource_json.get("Condition")
        wanted = condition is None or resources.lazy_condition_map[condition]
        if before is None:  # its condition was false
            return parsing.parse_and_create_resource(logical_id, resource_json, resources, **place)
        changed = original(logical_id, resource_json, resources, **place) if wanted else None
        if changed is not None:
            return changed
        if wanted and isinstance(before, LogGroup):
            _set_retention(before, parsing.clean_json(resource_json, resources)["Properties"], place)
            return before
        resources._delete_resource(before, resource_json)
        if not wanted:
            return None
        return parsing.parse_and_create_resource(logical_id, resource_json, resources, **place)

    parsing.parse_and_update_resource = parse_and_update_resource


def _set_retention(group: LogGroup, properties: Any, place: dict[str, str]) -> None:
    backend = logs_backends[place["account_id"]][place["region_name"]]
    days = properties.get("RetentionInDays")
    if days is None:
        backend.delete_retention_policy(group.name)
    else:
        backend.put_retention_policy(group.name, int(days))


def fail_deletions_as_aws_does(_context: CloudContext) -> None:
    """A stack that has what cannot be deleted, a bucket with objects for one, is DELETE_FAILED and says why.

    moto forgets the stack and answers with an error; it keeps such a bucket without a word.
    """
    original_bucket = FakeBucket.delete_from_cloudformation_json.__func__
    original_resource = parsing.ResourceMap._delete_resource
    original_stack = CloudFormationBackend.delete_stack

    def delete_bucket(cls: Any, name: str, resource_json: Any, account_id: str, region_name: str) -> None:
        bucket = s3_backends[account_id]["aws"].buckets.get(name)
        if bucket is not None and bucket.keys:
            raise ValidationError(message=f"The bucket you tried to delete is not empty: {name}")
        original_bucket(cls, name, resource_json, account_id, region_name)

    def delete_resource(self: Any, resource: Any, resource_json: Any) -> None:
        try:
            original_resource(self, resource, resource_json)
        except Exception as error:
            error.failed_resource = (resource.logical_resource_id, resource_json["Type"])  # type: ignore[attr-defined]
            raise

    def delete_stack(self: Any, name_or_stack_id: str) -> None:
        stack = next(
            (each for each in self.stacks.values() if name_or_stack_id in (each.name, each.stack_id)), None
        )
        if stack is None:
            return
        _ = stack.outputs  # what is told of it later must not be made again for that
        try:
            original_stack(self, stack.stack_id)
        except Exception as error:
            self.stacks[stack.stack_id] = stack
            _record_failure(stack, error, "DELETE_FAILED")
            stack.status, stack.status_reason = "DELETE_FAILED", _stack_reason(error, "delete")
            stack._add_stack_event("DELETE_FAILED", resource_status_reason=stack.status_reason)
        else:
            for key, change_set in list(self.change_sets.items()):
                if change_set.stack_id == stack.stack_id:
                    del self.change_sets[key]

    FakeBucket.delete_from_cloudformation_json = classmethod(delete_bucket)
    parsing.ResourceMap._delete_resource = delete_resource
    CloudFormationBackend.delete_stack = delete_stack


def retain_except_on_create(_context: CloudContext) -> None:
    """DeletionPolicy RetainExceptOnCreate keeps a resource when its stack goes; moto knows Retain only."""
    original = Stack.delete

    def delete(self: Any) -> None:
        for resource in self.resource_map._resource_json_map.values():
            if resource.get("DeletionPolicy") == "RetainExceptOnCreate":
                resource["DeletionPolicy"] = "Retain"
        original(self)

    Stack.delete = delete


def templates_at_our_own_address(_context: CloudContext) -> None:
    """TemplateURL may point at this cloud's S3; moto takes the first part of 127.0.0.1 for a bucket."""
    original = responses.get_stack_from_s3_url
    ours = re.compile(r"http://(?:127\.0\.0\.1|localhost):\d+/(?P<bucket>[^/]+)/(?P<key>[^?]+)(?:\?.*)?")

    def get_stack_from_s3_url(template_url: str, account_id: str, partition: str) -> str:
        match = ours.fullmatch(template_url)
        url = f"https://{match['bucket']}.s3.amazonaws.com/{match['key']}" if match else template_url
        return str(original(url, account_id=account_id, partition=partition))

    responses.get_stack_from_s3_url = get_stack_from_s3_url


def _record_failure(stack: Any, error: Exception, status: str) -> None:
    resource = getattr(error, "failed_resource", (stack.name, "AWS::CloudFormation::Stack"))
    _record(stack, resource, status, reason=_reason(error))


def _record(
    stack: Any, resource: tuple[str, str], status: str, *, physical_id: str = "", reason: str | None = None
) -> None:
    """Add an event of a resource, which is given by its logical id and type."""
    stack.events.append(
        Event(
            stack_id=stack.stack_id,
            stack_name=stack.name,
            logical_resource_id=resource[0],
            physical_resource_id=physical_id,
            resource_type=resource[1],
            resource_status=status,
            resource_status_reason=reason,
            resource_properties=None,
        )
    )


def _reason(error: Exception) -> str:
    if isinstance(error, ServiceException):
        return str(error.message)
    if isinstance(error, HTTPException):
        return str(getattr(error, "message", None) or error.description)
    if isinstance(error, KeyError):
        return f"Unresolved resource dependencies [{error.args[0]}] in the Resources block of the template"
    return str(error) or type(error).__name__


def _stack_reason(error: Exception, operation: str = "create") -> str:
    failed = getattr(error, "failed_resource", None)
    return (
        f"The following resource(s) failed to {operation}: [{failed[0]}]. {_reason(error)}"
        if failed
        else _reason(error)
    )


PATCHES = (
    drop_no_value_in_lists,
    split_default_lists,
    get_att_with_dots,
    refuse_outputs_of_undefined_resources,
    replace_what_cannot_be_updated,
    tell_of_every_resource,
    fail_stacks_as_aws_does,
    fail_deletions_as_aws_does,
    retain_except_on_create,
    templates_at_our_own_address,
)
