"""Changes to moto's IAM, which keeps roles and enforces nothing."""

from __future__ import annotations

import json
from typing import Any

from moto.iam.models import Role

from workflows.embedded_cloud.patches.context import CloudContext


def roles_keep_their_policies_as_json(_context: CloudContext) -> None:
    """A role's inline policies are JSON, and a stack's update changes them.

    moto answers a template's policies as Python would print them, and leaves a role's as they were created.
    """
    original_put = Role.put_policy
    original_update = Role.update_from_cloudformation_json.__func__

    def put_policy(self: Any, policy_name: str, policy_json: Any) -> None:
        original_put(
            self, policy_name, policy_json if isinstance(policy_json, str) else json.dumps(policy_json)
        )

    def update_from_cloudformation_json(
        cls: Any,
        original_resource: Any,
        new_resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
    ) -> Any:
        role = original_update(
            cls, original_resource, new_resource_name, cloudformation_json, account_id, region_name
        )
        role.policies.clear()
        for policy in cloudformation_json["Properties"].get("Policies", []):
            role.put_policy(policy["PolicyName"], policy["PolicyDocument"])
        return role

    Role.put_policy = put_policy
    Role.update_from_cloudformation_json = classmethod(update_from_cloudformation_json)


PATCHES = (roles_keep_their_policies_as_json,)
