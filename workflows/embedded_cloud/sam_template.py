"""A SAM template and its folders → a template without folders, and the archives that it refers to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workflows.embedded_cloud import language_extensions, transforms
from workflows.embedded_cloud.errors import EmbeddedCloudError
from workflows.embedded_cloud.packaging import BuildTarget, archive_folder
from workflows.embedded_cloud.parameters import parameter_values

_CODE_PROPERTIES = {
    "AWS::Serverless::Function": ("CodeUri", "Bucket", "Key"),
    "AWS::Serverless::LayerVersion": ("ContentUri", "Bucket", "Key"),
    "AWS::Lambda::Function": ("Code", "S3Bucket", "S3Key"),
    "AWS::Lambda::LayerVersion": ("Content", "S3Bucket", "S3Key"),
}
"""Property that may name a local folder, and what the archive's bucket and key are called in its place."""


@dataclass(frozen=True)
class PackagedTemplate:
    """A template that CloudFormation takes.

    Attributes
    ----------
    body
        JSON text.
    artifacts
        S3 key of every archive that it refers to, with the file to upload.
    parameters
        Value of every parameter.
    """

    body: str
    artifacts: dict[str, Path] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)


def package_template(
    template: Path, parameters: Mapping[str, str], bucket: str, cache_dir: Path
) -> PackagedTemplate:
    """Package folders and inline state machines; transforms are left to CloudFormation.

    Parameters
    ----------
    template
        Template file; relative paths in it start at its folder.
    parameters
        Values of its parameters that have no default, or are not to have it.
    bucket
        Where the archives will be.
    cache_dir
        For builds and archives.

    Raises
    ------
    EmbeddedCloudError
        Whatever is wrong with the template, its parameters or its folders.
    """
    try:
        text = template.read_text()
    except OSError as error:
        raise EmbeddedCloudError(f"Cannot read the template {template}: {error.strerror}") from error
    try:
        document = transforms.parse(text)
    except EmbeddedCloudError as error:
        raise EmbeddedCloudError(f"{template}: {error}") from error
    values = parameter_values(document, parameters)
    if any(_differs_by_loop(resource) for _, resource in _resources(document["Resources"], looped_only=True)):
        left = [name for name in transforms.declared(document) if name != language_extensions.TRANSFORM]
        document = language_extensions.expand({**document, "Transform": left}, values)
    artifacts: dict[str, Path] = {}
    for logical_id, resource in _resources(document["Resources"]):
        _inline_definition(resource, template.parent)
        artifacts |= _package_code(logical_id, resource, document, template.parent, values, bucket, cache_dir)
    return PackagedTemplate(json.dumps(document), artifacts, values)


def _resources(
    members: Mapping[str, Any], *, looped_only: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield logical id and body of every resource, those in loops too."""
    for name, member in members.items():
        if not name.startswith(language_extensions.FOR_EACH):
            if not looped_only:
                yield name, member
        elif isinstance(member, list) and isinstance(member[-1], dict):
            yield from _resources(member[-1])


def _differs_by_loop(resource: Mapping[str, Any]) -> bool:
    """Whether what is packaged is another for each round of the loop that the resource is in."""
    properties = resource.get("Properties") or {}
    name = _CODE_PROPERTIES.get(str(resource.get("Type")), ("DefinitionUri",))[0]
    return "BuildMethod" in (resource.get("Metadata") or {}) or "${" in json.dumps(properties.get(name))


def _inline_definition(resource: dict[str, Any], base: Path) -> None:
    """Put a state machine's local definition file into the template; substitutions are CloudFormation's."""
    properties = resource.get("Properties") or {}
    if resource["Type"] == "AWS::Serverless::StateMachine" and isinstance(
        properties.get("DefinitionUri"), str
    ):
        uri = properties["DefinitionUri"]
        if not uri.startswith("s3://"):
            properties["Definition"] = _read_definition(base / uri)
            del properties["DefinitionUri"]
    if resource["Type"] == "AWS::StepFunctions::StateMachine" and isinstance(
        properties.get("DefinitionS3Location"), str
    ):
        properties["DefinitionString"] = json.dumps(
            _read_definition(base / properties.pop("DefinitionS3Location"))
        )


def _read_definition(path: Path) -> Any:
    try:
        text = path.read_text()
    except OSError as error:
        raise EmbeddedCloudError(
            f"Cannot read the state machine definition {path}: {error.strerror}"
        ) from error
    try:
        return json.loads(text) if path.suffix == ".json" else _parse_yaml(text)
    except ValueError as error:
        raise EmbeddedCloudError(f"{path} is not JSON: {error}") from error


def _parse_yaml(text: str) -> Any:
    from samtranslator.yaml_helper import yaml_parse  # 0.3 s

    return yaml_parse(text)


def _package_code(
    logical_id: str,
    resource: dict[str, Any],
    document: Mapping[str, Any],
    base: Path,
    values: Mapping[str, str],
    bucket: str,
    cache_dir: Path,
) -> dict[str, Path]:
    known = _CODE_PROPERTIES.get(resource["Type"])
    if known is None:
        return {}
    name, bucket_name, key_name = known
    properties = resource.setdefault("Properties", {})
    uri = properties.get(name, _global(document, resource["Type"], name))
    if not isinstance(uri, str) or uri.startswith("s3://"):
        return {}

    def first(*candidates: Any, default: str) -> str:
        return next((found for found in (_resolve(item, values) for item in candidates) if found), default)

    is_layer = "Layer" in resource["Type"]
    metadata = resource.get("Metadata") or {}
    runtime = first(
        properties.get("Runtime"),
        _global(document, resource["Type"], "Runtime"),
        *_items(properties.get("CompatibleRuntimes")),
        default="python3.13",
    )
    architecture = first(
        *_items(properties.get("Architectures")),
        *_items(_global(document, resource["Type"], "Architectures")),
        *_items(properties.get("CompatibleArchitectures")),
        metadata.get("BuildArchitecture"),
        default="x86_64",
    )
    method = _resolve(metadata.get("BuildMethod"), values)
    target = BuildTarget(logical_id, method, runtime, architecture, is_layer)
    path = base / uri
    archive = path if path.suffix == ".zip" and path.is_file() else archive_folder(path, target, cache_dir)
    key = f"{logical_id if is_layer else 'code'}/{archive.stem}"
    properties[name] = {bucket_name: bucket, key_name: key}
    return {key: archive}


def _global(document: Mapping[str, Any], resource_type: str, name: str) -> Any:
    section = resource_type.rsplit("::", 1)[-1] if "Serverless" in resource_type else ""
    return ((document.get("Globals") or {}).get(section) or {}).get(name)


def _items(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, list) else [value]


def _resolve(value: Any, parameters: Mapping[str, str]) -> str | None:
    """Resolve a literal or a Ref to a parameter; anything else is unknown before deployment."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and set(value) == {"Ref"}:
        return parameters.get(str(value["Ref"]))
    return None
