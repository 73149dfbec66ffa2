"""Changes to moto's IAM, which keeps roles and policies and enforces nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from moto.iam.models import AWSManagedPolicy, ManagedPolicy, Role, iam_backends

from workflows.embedded_cloud.patches.context import CloudContext
from workflows.embedded_cloud.stacks.failures import ResourceFailed

_VERSIONS = 5  # of a managed policy, at most
_HOLDERS = {"Roles": "role", "Users": "user", "Groups": "group"}


def roles_keep_their_policies_as_json(_context: CloudContext) -> None:
    """A role's inline policies are JSON, and a stack's update changes all of the role.

    moto answers a template's policies as Python would print them, and changes a role's description alone.
    """
    original_put = Role.put_policy

    def put_policy(self: Any, policy_name: str, policy_json: Any) -> None:
        original_put(
            self, policy_name, policy_json if isinstance(policy_json, str) else json.dumps(policy_json)
        )

    def update_from_cloudformation_json(
        _cls: Any,
        original_resource: Any,
        _name: str,
        cloudformation_json: Any,
        _account_id: str,
        _region: str,
    ) -> Any:
        role, properties = original_resource, cloudformation_json["Properties"]
        role.assume_role_policy_document = _text(properties["AssumeRolePolicyDocument"])
        role.description = properties.get("Description", "")
        role.max_session_duration = properties.get("MaxSessionDuration", 3600)
        role.permissions_boundary_arn = properties.get("PermissionsBoundary") or None
        role.tags = list(properties.get("Tags", []))
        role.policies.clear()
        for policy in properties.get("Policies", []):
            role.put_policy(policy["PolicyName"], policy["PolicyDocument"])
        return role

    Role.put_policy = put_policy
    Role.update_from_cloudformation_json = classmethod(update_from_cloudformation_json)


def roles_have_managed_policies(_context: CloudContext) -> None:
    """A role's ManagedPolicyArns are attached to it, and detached when it goes; moto forgets them."""
    original_create = Role.create_from_cloudformation_json.__func__
    original_update = Role.update_from_cloudformation_json.__func__
    original_delete = Role.delete_from_cloudformation_json.__func__

    def create(
        cls: Any,
        /,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **more: Any,
    ) -> Any:
        for arn in cloudformation_json["Properties"].get("ManagedPolicyArns", []):
            _require_policy(_backend(account_id), arn)
        role = original_create(cls, resource_name, cloudformation_json, account_id, region_name, **more)
        attach(role, set(), cloudformation_json["Properties"])
        return role

    def update(
        cls: Any, original_resource: Any, name: str, cloudformation_json: Any, account_id: str, region: str
    ) -> Any:
        before: set[str] = getattr(original_resource, "declared_policies", set())
        role = original_update(cls, original_resource, name, cloudformation_json, account_id, region)
        attach(role, before, cloudformation_json["Properties"])
        return role

    def attach(role: Any, before: set[str], properties: dict[str, Any]) -> None:
        backend, wanted = _backend(role.account_id), set(properties.get("ManagedPolicyArns", []))
        for arn in sorted(wanted - before):
            _require_policy(backend, arn)
            backend.attach_role_policy(arn, role.name)
        for arn in (before - wanted) & set(role.managed_policies):
            backend.detach_role_policy(arn, role.name)
        role.declared_policies = wanted

    def delete(cls: Any, name: str, cloudformation_json: Any, account_id: str, region_name: str) -> None:
        backend = _backend(account_id)
        role = backend.get_role(name)
        for arn in getattr(role, "declared_policies", set()) & set(role.managed_policies):
            backend.detach_role_policy(arn, name)
        original_delete(cls, name, cloudformation_json, account_id, region_name)

    Role.create_from_cloudformation_json = classmethod(create)
    Role.update_from_cloudformation_json = classmethod(update)
    Role.delete_from_cloudformation_json = classmethod(delete)


def managed_policies_change_and_go(_context: CloudContext) -> None:
    """A managed policy gets a new version when it changes, and goes with its stack; moto keeps it."""

    def update(
        _cls: Any, original_resource: Any, _name: str, cloudformation_json: Any, account_id: str, _region: str
    ) -> Any:
        policy, properties = original_resource, cloudformation_json["Properties"]
        backend = _backend(account_id)
        old = [each.version_id for each in policy.versions if not each.is_default]
        if len(policy.versions) >= _VERSIONS:
            backend.delete_policy_version(policy.arn, old[0])
        backend.create_policy_version(policy.arn, _text(properties["PolicyDocument"]), True)
        for kind, holder in _HOLDERS.items():
            wanted = set(properties.get(kind, []))
            had = {name for each, name in _attached(backend, policy) if each == holder}
            for name in wanted - had:
                getattr(backend, f"attach_{holder}_policy")(policy.arn, name)
            for name in had - wanted:
                getattr(backend, f"detach_{holder}_policy")(policy.arn, name)
        return policy

    def delete(_cls: Any, arn: str, cloudformation_json: Any, account_id: str, _region: str) -> None:
        backend, properties = _backend(account_id), cloudformation_json["Properties"]
        policy = backend.get_policy(arn)
        for holder, name in list(_attached(backend, policy)):
            kind = next(each for each, of in _HOLDERS.items() if of == holder)
            if name not in properties.get(kind, []):
                raise ResourceFailed(f"Cannot delete a policy attached to entities: {holder} {name}")
            getattr(backend, f"detach_{holder}_policy")(arn, name)
        backend.delete_policy(arn)

    ManagedPolicy.update_from_cloudformation_json = classmethod(update)
    ManagedPolicy.delete_from_cloudformation_json = classmethod(delete)


def _attached(backend: Any, policy: Any) -> Iterator[tuple[str, str]]:
    for holder, entities in (("role", backend.roles), ("user", backend.users), ("group", backend.groups)):
        for entity in entities.values():
            if policy.arn in entity.managed_policies:
                yield holder, entity.name


@cache
def _policies_of_aws() -> dict[str, Any]:
    from moto.iam.aws_managed_policies import aws_managed_policies_data  # 10 MB

    return {
        f"arn:aws:iam::aws:policy{policy['Path']}{name}": (name, policy)
        for name, policy in json.loads(aws_managed_policies_data).items()
    }


def _require_policy(backend: Any, arn: str) -> None:
    """Have a policy that can be attached; moto knows AWS's own only if told to load all of them."""
    if arn.startswith("arn:aws:iam::aws:") and arn not in backend.managed_policies:
        name, policy = _policies_of_aws().get(arn, (None, None))
        if name is not None:
            made = AWSManagedPolicy.from_data(name, backend.account_id, backend.region_name, policy)
            backend.managed_policies[arn] = made
    if arn not in backend.managed_policies:
        raise ResourceFailed(f"Policy {arn} does not exist or is not attachable.")


def _backend(account_id: str) -> Any:
    return iam_backends[account_id]["aws"]


def _text(document: Any) -> str:
    return document if isinstance(document, str) else json.dumps(document)


PATCHES = (
    roles_keep_their_policies_as_json,
    roles_have_managed_policies,
    managed_policies_change_and_go,
)
