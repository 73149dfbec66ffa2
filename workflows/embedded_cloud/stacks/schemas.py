"""What AWS's resource schemas say of a type; moto brings cfn-lint, which brings them."""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_REGION = "us-east-1"


@cache
def _folder() -> Path | None:
    spec = find_spec("cfnlint")  # importing it would take seconds
    return Path(spec.origin).parent / "data" / "schemas" if spec and spec.origin else None


@cache
def _files() -> dict[str, str]:
    folder = _folder()
    index = folder / "providers" / f"{_REGION}.json" if folder else None
    return dict(json.loads(index.read_text())) if index and index.exists() else {}


@cache
def create_only_properties(resource_type: str) -> tuple[tuple[str, ...], ...]:
    """Paths of the properties whose change replaces a resource; none for a type without a schema."""
    folder, file = _folder(), _files().get(resource_type)
    if folder is None or file is None:
        return ()
    schema: dict[str, Any] = json.loads((folder / "resources" / f"{file}.json").read_text())
    paths = schema.get("createOnlyProperties", [])
    return tuple(tuple(str(path).removeprefix("/properties/").split("/")) for path in paths)


def requires_replacement(resource_type: str, before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether a change of properties makes CloudFormation replace the resource."""
    return any(_value(before, path) != _value(after, path) for path in create_only_properties(resource_type))


def _value(properties: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        if not isinstance(properties, dict):
            return None
        properties = properties.get(step)
    return properties
