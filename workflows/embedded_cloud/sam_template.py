"""A SAM template and its folders → a CloudFormation template and the archives that it refers to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.utils.py27hash_fix import to_py27_compatible_template, undo_mark_unicode_str_in_template
from samtranslator.yaml_helper import yaml_parse

from workflows.embedded_cloud import language_extensions
from workflows.embedded_cloud.errors import EmbeddedCloudError
from workflows.embedded_cloud.packaging import BuildTarget, archive_folder

SAM_TRANSFORM = "AWS::Serverless-2016-10-31"
_REGION = "us-east-1"

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


def _managed_policies() -> dict[str, str]:
    """Names of AWS managed policies → ARNs, for SAM's Policies property."""
    from moto.iam.aws_managed_policies import aws_managed_policies_data  # 10 MB

    return {name: policy["Arn"] for name, policy in json.loads(aws_managed_policies_data).items()}


def package_template(
    template: Path, parameters: Mapping[str, str], bucket: str, cache_dir: Path
) -> PackagedTemplate:
    """Expand loops, package folders, inline state machines and apply the SAM transform.

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
        document = yaml_parse(template.read_text())
    except OSError as error:
        raise EmbeddedCloudError(f"Cannot read the template {template}: {error.strerror}") from error
    except Exception as error:
        raise EmbeddedCloudError(f"{template} is not YAML or JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict):
        raise EmbeddedCloudError(f"{template} has no Resources")
    values = _parameter_values(document, parameters)
    transforms = document.pop("Transform", None) or []
    transforms = [transforms] if isinstance(transforms, str) else list(transforms)
    if language_extensions.TRANSFORM in transforms:
        document = language_extensions.expand(document, values)
    document = json.loads(json.dumps(document, default=str))
    artifacts: dict[str, Path] = {}
    for logical_id, resource in document["Resources"].items():
        _inline_definition(resource, template.parent)
        artifacts |= _package_code(logical_id, resource, document, template.parent, values, bucket, cache_dir)
    if SAM_TRANSFORM in transforms:
        document = _apply_sam(document, values)
    return PackagedTemplate(json.dumps(document), artifacts, values)


def _parameter_values(document: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    slots: Mapping[str, Any] = document.get("Parameters") or {}
    unknown = sorted(set(given) - set(slots))
    if unknown:
        raise EmbeddedCloudError(f"The template has no parameter {', '.join(unknown)}")
    values = {name: _as_parameter(slot["Default"]) for name, slot in slots.items() if "Default" in slot}
    values |= {name: str(value) for name, value in given.items()}
    missing = [name for name in slots if name not in values]
    if missing:
        raise EmbeddedCloudError(f"Parameters without a value: {', '.join(missing)}")
    for name, slot in slots.items():
        allowed = [_as_parameter(value) for value in slot.get("AllowedValues", [])]
        if allowed and values[name] not in allowed:
            raise EmbeddedCloudError(
                f"Parameter {name} is {values[name]!r}, must be one of {', '.join(allowed)}"
            )
    return values


def _as_parameter(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(str(item) for item in value) if isinstance(value, list) else str(value)


def _apply_sam(document: dict[str, Any], values: dict[str, str]) -> dict[str, Any]:
    """Do what samtranslator.translator.transform.transform does, in a region that need not be configured."""
    document["Transform"] = SAM_TRANSFORM
    parameters = dict(values)
    to_py27_compatible_template(document, parameters)
    translator = Translator(None, Parser(), boto_session=boto3.session.Session(region_name=_REGION))
    try:
        transformed: dict[str, Any] = undo_mark_unicode_str_in_template(
            translator.translate(document, parameters, get_managed_policy_map=_managed_policies)
        )
        translator.metrics.publish()  # to nobody: it complains otherwise
    except InvalidDocumentException as error:
        causes = "; ".join(str(cause.message) for cause in error.causes) or error.message
        raise EmbeddedCloudError(f"The SAM template is not valid: {causes}") from error
    for logical_id, resource in transformed["Resources"].items():
        if resource["Type"].startswith("AWS::Serverless::"):
            raise EmbeddedCloudError(
                f"The SAM template is not valid: {logical_id}: there is no {resource['Type']}"
            )
    return transformed


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
        return json.loads(text) if path.suffix == ".json" else yaml_parse(text)
    except ValueError as error:
        raise EmbeddedCloudError(f"{path} is not JSON: {error}") from error


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
