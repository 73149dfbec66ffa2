"""Changes to moto's CloudFormation: templates are transformed, and change sets are what executes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from moto.cloudformation import responses
from moto.cloudformation.exceptions import AlreadyExistsException, ValidationError
from moto.cloudformation.models import ChangeSet, CloudFormationBackend, Stack
from moto.cloudformation.utils import generate_changeset_id, generate_stack_id, validate_create_change_set
from moto.core.responses import ActionResult

from workflows.embedded_cloud import transforms
from workflows.embedded_cloud.errors import EmbeddedCloudError
from workflows.embedded_cloud.language_extensions import FOR_EACH
from workflows.embedded_cloud.parameters import as_parameter, parameter_values
from workflows.embedded_cloud.patches.cloudformation_stacks import (
    execute,
    failure_options,
    require_updatable,
    target_for_update,
)
from workflows.embedded_cloud.patches.context import CloudContext
from workflows.embedded_cloud.stacks.changes import changes

NO_CHANGES = (
    "The submitted information didn't contain changes. Submit different information to create a change set."
)
_EMPTY = json.dumps({"Resources": {}})


class ProcessedTemplate(str):
    """A template's text after its transforms; moto takes it for a template.

    Attributes
    ----------
    original
        As it was given.
    parameters
        Value of every parameter, the defaults too.
    """

    original: str
    parameters: Mapping[str, str]

    def __new__(cls, text: str, original: str, parameters: Mapping[str, str]) -> ProcessedTemplate:
        """Keep all three."""
        template = super().__new__(cls, text)
        template.original = original
        template.parameters = parameters
        return template


def transform_templates(_context: CloudContext) -> None:
    """AWS::LanguageExtensions and AWS::Serverless are applied by CloudFormation, and parameters checked.

    moto leaves both transforms to the client, and Serverless resources undone.
    """
    original_create = CloudFormationBackend.create_stack
    original_update = CloudFormationBackend.update_stack

    def create_stack(self: Any, name: str, template: str, parameters: Any, *args: Any, **options: Any) -> Any:
        processed = _refusing(self, name, template, parameters)
        return original_create(self, name, processed, dict(processed.parameters), *args, **options)

    def update_stack(self: Any, name: str, template: str, role_arn: Any, parameters: Any, tags: Any) -> Any:
        stack = self.get_stack(name)
        require_updatable(stack)
        values = self._resolve_update_parameters(instance=stack, incoming_params=parameters)
        processed = _refusing(self, name, template, values)
        if _unchanged(stack, processed, tags):
            raise ValidationError(message="No updates are to be performed.")
        complete = [
            {"ParameterKey": key, "ParameterValue": value} for key, value in processed.parameters.items()
        ]
        return original_update(self, name, processed, role_arn, complete, tags)

    CloudFormationBackend.create_stack = create_stack
    CloudFormationBackend.update_stack = update_stack


def templates_as_given(_context: CloudContext) -> None:
    """GetTemplate gives the template as it was sent, or as it was processed; GetTemplateSummary takes loops.

    `sam delete` looks into the first for what it uploaded; `sam deploy` asks the second for the parameters.
    """
    original_summary = responses.get_template_summary_response_from_template

    def get_template(self: Any) -> ActionResult:
        name = self._get_param("StackName")
        template = self.cloudformation_backend.get_template(name)
        original = getattr(template, "original", template)
        wanted = template if self._get_param("TemplateStage") == "Processed" else original
        return ActionResult({"TemplateBody": str(wanted), "StagesAvailable": ["Original", "Processed"]})

    def summary(template_body: str) -> dict[str, Any]:
        try:
            document = transforms.parse(getattr(template_body, "original", template_body))
        except EmbeddedCloudError as error:
            raise ValidationError(message=str(error)) from error
        flat = {**document, "Resources": dict(_without_loops(document["Resources"]))}
        found: dict[str, Any] = original_summary(json.dumps(flat))
        return {**found, "DeclaredTransforms": transforms.declared(document)}

    responses.CloudFormationResponse.get_template = get_template
    responses.get_template_summary_response_from_template = summary


def json_is_read_as_json(_context: CloudContext) -> None:
    r"""A template in JSON is read as such: moto reads YAML, far slower, and takes "\ud83d\ude00" apart."""
    original = Stack.parse_template

    def parse_template(template: str) -> Any:
        try:
            return json.loads(template)
        except ValueError:
            return original(template)

    def parse_change_set(self: Any) -> None:
        self.template_dict = parse_template(self.template)

    Stack.parse_template = staticmethod(parse_template)
    ChangeSet._parse_template = parse_change_set


def change_sets_are_made_as_aws_does(_context: CloudContext) -> None:
    """A change set is of the transformed template, tells what it would change, and is FAILED where it is bad.

    moto refuses typed parameters with UsePreviousValue, and makes a second stack of the same name for each.
    """

    def create_change_set(
        self: Any,
        stack_name: str,
        change_set_name: str,
        template: str,
        parameters: dict[str, Any],
        description: str,
        change_set_type: str,
        notification_arns: list[str] | None = None,
        tags: dict[str, str] | None = None,
        role_arn: str | None = None,
    ) -> tuple[str, str]:
        validate_create_change_set(change_set_name)
        values = {name: as_parameter(value) for name, value in parameters.items()}
        settings = {"notification_arns": notification_arns, "tags": tags, "role_arn": role_arn}
        stack = _stack_for(self, stack_name, change_set_type, values, settings)
        failure, processed, found = "", ProcessedTemplate(_EMPTY, template, values), []
        try:
            processed = _process(self, stack_name, template, values)
            if change_set_type == "UPDATE" and _unchanged(stack, processed, tags):
                failure = NO_CHANGES
            else:
                found = changes(stack, target_for_update(stack, processed, dict(processed.parameters)))
        except EmbeddedCloudError as error:
            failure = str(error)
        except ValidationError as error:
            failure = str(error.message)
        change_set = ChangeSet(
            change_set_type=change_set_type,
            change_set_id=generate_changeset_id(change_set_name, self.region_name, self.account_id),
            change_set_name=change_set_name,
            stack=stack,
            template=processed,
            parameters=dict(processed.parameters),
            description=description,
            **settings,
        )
        change_set.changes = found
        change_set.failure_options = failure_options()
        change_set.status = "FAILED" if failure else "CREATE_COMPLETE"
        change_set.execution_status = "UNAVAILABLE" if failure else "AVAILABLE"
        change_set.status_reason = failure or None
        self.change_sets[change_set.change_set_id] = change_set
        return change_set.change_set_id, stack.stack_id

    CloudFormationBackend.create_change_set = create_change_set
    ChangeSet.diff = lambda _self: []


def change_sets_execute_as_stacks_do(_context: CloudContext) -> None:
    """Executing a change set is creating or updating its stack: outputs, dependencies, failures and rollback.

    moto creates the resources alone, in any order, and answers error 500 where one of them fails.
    """

    def execute_change_set(self: Any, change_set_name: str, stack_name: str | None = None) -> None:
        change_set = _find_change_set(self, change_set_name, stack_name)
        if change_set.execution_status != "AVAILABLE":
            raise ValidationError(
                message=f"ChangeSet [{change_set.change_set_id}] cannot be executed in its current status of "
                f"[{change_set.status}]"
            )
        stack = self.stacks[change_set.stack_id]

        def ended() -> None:
            done = stack.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
            change_set.execution_status = "EXECUTE_COMPLETE" if done else "EXECUTE_FAILED"

        execute(self, change_set, ended)

    CloudFormationBackend.execute_change_set = execute_change_set


def _find_change_set(backend: Any, name_or_arn: str, stack_name: str | None) -> Any:
    if name_or_arn in backend.change_sets:
        return backend.change_sets[name_or_arn]
    for change_set in reversed(backend.change_sets.values()):
        of_stack = stack_name in (None, change_set.stack_name, change_set.stack_id)
        if change_set.change_set_name == name_or_arn and of_stack:
            return change_set
    raise ValidationError(message=f"ChangeSet [{name_or_arn}] does not exist")


def _process(
    backend: Any, stack_name: str, template: str, parameters: Mapping[str, Any]
) -> ProcessedTemplate:
    given = getattr(template, "original", template)  # UsePreviousTemplate gives us our own
    document = transforms.parse(given)
    pseudo_parameters = {
        "AWS::AccountId": backend.account_id,
        "AWS::Partition": "aws",
        "AWS::Region": backend.region_name,
        "AWS::StackName": stack_name,
        "AWS::URLSuffix": "amazonaws.com",
    }
    processed = transforms.process(document, parameters, pseudo_parameters)
    return ProcessedTemplate(json.dumps(processed), given, parameter_values(document, parameters))


def _refusing(
    backend: Any, stack_name: str, template: str, parameters: Mapping[str, Any]
) -> ProcessedTemplate:
    try:
        return _process(backend, stack_name, template, parameters)
    except EmbeddedCloudError as error:
        raise ValidationError(message=str(error)) from error


def _unchanged(stack: Any, processed: ProcessedTemplate, tags: Mapping[str, str] | None) -> bool:
    before = stack.template
    return (
        isinstance(before, ProcessedTemplate)
        and before.parameters == processed.parameters
        and json.loads(before) == json.loads(processed)
        and (not tags or dict(tags) == stack.tags)
        and stack.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
    )


def _stack_for(
    backend: Any, name: str, change_set_type: str, parameters: dict[str, str], settings: dict[str, Any]
) -> Any:
    """Return the stack that a change set is for; the first one of a new stack makes it."""
    existing = next((stack for stack in backend.stacks.values() if stack.name == name), None)
    if change_set_type == "UPDATE":
        if existing is None:
            raise ValidationError(name)
        require_updatable(existing)
        return existing
    if existing is not None and existing.status == "REVIEW_IN_PROGRESS":
        return existing
    if existing is not None:
        raise AlreadyExistsException(
            f"Stack [{name}] already exists and cannot be created with the changeset"
        )
    stack = Stack(
        stack_id=generate_stack_id(name, backend.region_name, backend.account_id),
        name=name,
        template={},
        parameters=parameters,
        account_id=backend.account_id,
        region_name=backend.region_name,
        cross_stack_resources=backend.exports,
        **settings,
    )
    backend.stacks[stack.stack_id] = stack
    stack.status = "REVIEW_IN_PROGRESS"
    stack._add_stack_event("REVIEW_IN_PROGRESS", resource_status_reason="User Initiated")
    return stack


def _without_loops(members: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, member in members.items():
        if name.startswith(FOR_EACH):
            yield from _without_loops(member[-1])
        else:
            yield name, member


PATCHES = (
    transform_templates,
    templates_as_given,
    json_is_read_as_json,
    change_sets_are_made_as_aws_does,
    change_sets_execute_as_stacks_do,
)
"""Changes to moto; :mod:`.apply` applies them."""
