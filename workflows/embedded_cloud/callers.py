"""Who makes a request: functions sign with a key of their role's, and its policies say what it may do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID
from moto.iam.models import iam_backends

_CREDENTIAL = "Credential="


def access_key_of(role_arn: str) -> str:
    """The access key with which functions of a role sign."""
    return "ASIA" + hashlib.sha256(role_arn.encode()).hexdigest()[:16].upper()


def calling_role(authorization: str) -> Any | None:
    """The role, as moto keeps it, that signed a request; None for anybody else."""
    key = authorization.partition(_CREDENTIAL)[2].split("/")[0]
    if not key.startswith("ASIA"):
        return None
    roles = list(iam_backends[DEFAULT_ACCOUNT_ID]["aws"].roles.values())
    return next((role for role in roles if access_key_of(role.arn) == key), None)


def may(role: Any, action: str, resource: str) -> bool:
    """Whether a role's own policies allow an action on a resource; their conditions are taken as met."""
    managed = [
        version.document
        for policy in role.managed_policies.values()
        for version in policy.versions
        if version.version_id == policy.default_version_id
    ]
    documents = [*role.policies.values(), *managed]
    effects = {
        statement.get("Effect")
        for document in documents
        for statement in _statements(document)
        if _covers(statement, "Action", action) and _covers(statement, "Resource", resource)
    }
    return "Allow" in effects and "Deny" not in effects


def _statements(document: str | Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    parsed = json.loads(document) if isinstance(document, str) else document
    found = parsed.get("Statement", [])
    yield from found if isinstance(found, list) else [found]


def _covers(statement: Mapping[str, Any], element: str, value: str) -> bool:
    if f"Not{element}" in statement:
        return not _matches(statement[f"Not{element}"], value)
    return _matches(statement.get(element, []), value)


def _matches(patterns: str | Iterable[str], value: str) -> bool:
    each = [patterns] if isinstance(patterns, str) else patterns
    return any(fnmatchcase(value.lower(), pattern.lower().replace("[", "[[]")) for pattern in each)
