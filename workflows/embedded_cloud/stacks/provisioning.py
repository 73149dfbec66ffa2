"""Making, changing and deleting one resource, through moto's models."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from moto.cloudformation import parsing
from moto.ec2.models import ec2_backends
from moto.ec2.models.core import TaggedEC2Resource

from workflows.embedded_cloud.stacks.failures import ResourceFailed, is_gone
from workflows.embedded_cloud.stacks.schemas import requires_replacement

# The name is not what tells one of these from another.
_VERSIONS = ("AWS::Lambda::LayerVersion", "AWS::Lambda::Version")
POLICIES = {
    "DeletionPolicy": ("Delete", "Retain", "RetainExceptOnCreate", "Snapshot"),
    "UpdateReplacePolicy": ("Delete", "Retain", "Snapshot"),
}


@dataclass(frozen=True)
class Provisioned:
    """A resource that a stack has.

    Attributes
    ----------
    model
        Moto's.
    declared
        Its part of the template with every function resolved: Type, Properties, policies.
    name
        Given by the template, or made up.
    certain
        Whether it is as declared; a failed update leaves that open.
    """

    logical_id: str
    model: Any
    declared: dict[str, Any]
    name: str
    depends_on: frozenset[str]
    certain: bool = True

    @property
    def kind(self) -> str:
        """AWS's name of the type."""
        return str(self.declared["Type"])

    @property
    def physical_id(self) -> str:
        """What Ref gives."""
        return str(getattr(self.model, "physical_resource_id", None) or self.name)

    def kept_by(self, policy: str, *, on_create: bool = False) -> bool:
        """Whether a policy of its keeps it when the stack has no more use for it."""
        value = self.declared.get(policy, "Delete")
        return value == "Retain" or (value == "RetainExceptOnCreate" and not on_create)


@dataclass(frozen=True)
class Place:
    """Where the resources of a stack are made."""

    account_id: str
    region: str
    stack_id: str


@dataclass(frozen=True)
class Update:
    """What an update made of a resource; ``before`` is to be deleted afterwards if another took its place."""

    after: Provisioned
    replaced: bool


def resolve(body: dict[str, Any], resources: Any) -> dict[str, Any]:
    """Return a resource's part of the template without functions."""
    declared: dict[str, Any] = parsing.clean_json({"Properties": {}, **body}, resources)
    return declared


def create(
    logical_id: str,
    body: dict[str, Any],
    depends_on: Iterable[str],
    resources: Any,
    place: Place,
    others: Iterable[Provisioned],
) -> Provisioned:
    """Make a resource.

    Parameters
    ----------
    body
        Its part of the template.
    resources
        Moto's map of the stack's resources and parameters.
    others
        Resources that the stack has.

    Raises
    ------
    Exception
        Whatever the service says; :exc:`ResourceFailed` with what there is of it nevertheless.
    """
    declared = resolve(body, resources)
    name, given = _name(logical_id, declared, resources)
    same = [each for each in others if given and each.kind == declared["Type"] and each.name == name]
    if same and declared["Type"] not in _VERSIONS:
        raise ResourceFailed(f"{name} already exists in stack {place.stack_id}")
    return _make(logical_id, declared, name, depends_on, place)


def update(
    before: Provisioned,
    body: dict[str, Any],
    depends_on: Iterable[str],
    resources: Any,
    place: Place,
    others: Iterable[Provisioned],
) -> Update:
    """Change a resource, in its place if its type allows that, else by another one.

    Raises
    ------
    Exception
        Whatever the service says.
    """
    declared = resolve(body, resources)
    name, given = _name(before.logical_id, declared, resources)
    if requires_replacement(before.kind, before.declared["Properties"], declared["Properties"]):
        if given and name == before.name and before.kind not in _VERSIONS:
            raise ResourceFailed(
                "CloudFormation cannot update a stack when a custom-named resource requires replacing. "
                f"Rename {name} and update the stack again."
            )
        return Update(create(before.logical_id, body, depends_on, resources, place, others), replaced=True)
    if not _can_update(declared) and not (given and before.kind not in _VERSIONS):
        return Update(create(before.logical_id, body, depends_on, resources, place, others), replaced=True)
    return in_place(before, declared, depends_on, place)


def in_place(
    before: Provisioned, declared: dict[str, Any], depends_on: Iterable[str], place: Place
) -> Update:
    """Change a resource that stays the same one; where moto cannot, it is deleted and made again.

    Parameters
    ----------
    declared
        What it is to be, resolved.
    """
    if not _can_update(declared):
        delete(before, place)
        return Update(_make(before.logical_id, declared, before.name, depends_on, place), replaced=False)
    old_id = before.physical_id
    model = _model_class(declared).update_from_cloudformation_json(
        before.model, before.name, deepcopy(declared), place.account_id, place.region
    )
    after = Provisioned(
        before.logical_id,
        _labelled(model, before.logical_id, declared),
        declared,
        before.name,
        frozenset(depends_on),
    )
    replaced = after.physical_id != old_id and getattr(model, "replaces_by_physical_id", False)
    return Update(after, replaced=replaced)


def is_changed(before: Provisioned, declared: dict[str, Any]) -> bool:
    """Whether there is anything to do for it."""
    return not before.certain or before.declared["Properties"] != declared["Properties"]


def with_policies(before: Provisioned, declared: dict[str, Any], depends_on: Iterable[str]) -> Provisioned:
    """Return it as it is, with what a new template says of its end."""
    return replace(before, declared=declared, depends_on=frozenset(depends_on))


def delete(resource: Provisioned, place: Place) -> None:
    """Delete a resource; one that is gone is no error.

    Raises
    ------
    Exception
        Whatever the service says.
    """
    model = resource.model
    try:
        if hasattr(model, "delete"):
            try:
                model.delete(place.account_id, place.region)
                return
            except (TypeError, AttributeError):
                pass  # another method of that name
        if model is not None:
            parsing.parse_and_delete_resource(
                resource.physical_id, deepcopy(resource.declared), place.account_id, place.region
            )
    except Exception as error:
        if not is_gone(error):
            raise


def _name(logical_id: str, declared: dict[str, Any], resources: Any) -> tuple[str, bool]:
    kind = str(declared["Type"])
    name_property = parsing.resource_name_property_from_type(kind)
    given = declared["Properties"].get(name_property) if name_property else None
    if given is not None:
        return str(given), True
    return str(parsing.generate_resource_name(kind, resources["AWS::StackName"], logical_id)), False


def _make(
    logical_id: str, declared: dict[str, Any], name: str, depends_on: Iterable[str], place: Place
) -> Provisioned:
    model = _model_class(declared).create_from_cloudformation_json(
        name,
        deepcopy(declared),
        place.account_id,
        place.region,
        LogicalId=logical_id,
        StackId=place.stack_id,
        ResourceType=declared["Type"],
    )
    if isinstance(model, TaggedEC2Resource):
        tags = {"aws:cloudformation:logical-id": logical_id, "aws:cloudformation:stack-id": place.stack_id}
        ec2_backends[place.account_id][place.region].create_tags([model.physical_resource_id], tags)
    return Provisioned(
        logical_id, _labelled(model, logical_id, declared), declared, name, frozenset(depends_on)
    )


def _can_update(declared: dict[str, Any]) -> bool:
    method = _model_class(declared).update_from_cloudformation_json
    return not hasattr(method, "__isabstractmethod__")


def _model_class(declared: dict[str, Any]) -> Any:
    return parsing.resource_class_from_type(str(declared["Type"]))


def _labelled(model: Any, logical_id: str, declared: dict[str, Any]) -> Any:
    model.cf_resource_type = declared["Type"]
    model.logical_resource_id = logical_id
    return model
