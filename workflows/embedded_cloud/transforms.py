"""What CloudFormation makes of a template before it creates anything: AWS::LanguageExtensions, then SAM."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import boto3

from workflows.embedded_cloud import language_extensions
from workflows.embedded_cloud.errors import EmbeddedCloudError
from workflows.embedded_cloud.parameters import parameter_values

SAM_TRANSFORM = "AWS::Serverless-2016-10-31"
_REGION = "us-east-1"


def parse(text: str) -> dict[str, Any]:
    """Read a template, JSON or YAML with CloudFormation's short forms.

    Raises
    ------
    EmbeddedCloudError
        If it is neither, or has no resources.
    """
    try:
        document = json.loads(text)
    except ValueError:
        document = _parse_yaml(text)
    if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict):
        raise EmbeddedCloudError("Template format error: At least one Resources member must be defined.")
    plain: dict[str, Any] = json.loads(json.dumps(document, default=str))  # YAML has dates, and shares nodes
    return plain


def declared(document: Mapping[str, Any]) -> list[str]:
    """Names of the transforms that a template asks for."""
    transforms = document.get("Transform") or []
    return [transforms] if isinstance(transforms, str) else [str(each) for each in transforms]


def process(
    document: Mapping[str, Any], given: Mapping[str, Any], pseudo_parameters: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Check the parameters and apply the transforms that the template declares.

    Parameters
    ----------
    document
        A parsed template whose folders are packaged.
    given
        Values of its parameters.
    pseudo_parameters
        Of the stack, ``AWS::StackName`` for one.

    Raises
    ------
    EmbeddedCloudError
        Whatever is wrong with the template or its parameters, in CloudFormation's words.
    """
    values = parameter_values(document, given)
    transforms = declared(document)
    processed = {key: value for key, value in document.items() if key != "Transform"}
    unknown = sorted(set(transforms) - {language_extensions.TRANSFORM, SAM_TRANSFORM})
    if unknown:
        raise EmbeddedCloudError(f"No transform named {unknown[0]} found.")
    if language_extensions.TRANSFORM in transforms:
        try:
            processed = language_extensions.expand(processed, {**(pseudo_parameters or {}), **values})
        except EmbeddedCloudError as error:
            raise EmbeddedCloudError(
                f"Transform {language_extensions.TRANSFORM} failed with: {error}"
            ) from error
    else:
        _require_plain_policies(processed["Resources"])
    # Loops repeat what they contain; the transform below changes it in place.
    processed = json.loads(json.dumps(processed))
    return _apply_sam(processed, values) if SAM_TRANSFORM in transforms else processed


def _require_plain_policies(resources: Mapping[str, Any]) -> None:
    """Functions in these need AWS::LanguageExtensions."""
    for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
        for body in resources.values():
            if isinstance(body, dict) and not isinstance(body.get(policy, ""), str):
                raise EmbeddedCloudError(f"Template format error: Every {policy} member must be a string.")


def _parse_yaml(text: str) -> Any:
    from samtranslator.yaml_helper import yaml_parse  # 0.3 s that JSON need not spend

    try:
        return yaml_parse(text)
    except Exception as error:
        raise EmbeddedCloudError(f"Template format error: not YAML or JSON: {error}") from error


def _apply_sam(document: dict[str, Any], values: dict[str, str]) -> dict[str, Any]:
    """Do what samtranslator.translator.transform.transform does, in a region that need not be configured."""
    from samtranslator.model.exceptions import InvalidDocumentException
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator
    from samtranslator.utils.py27hash_fix import (
        to_py27_compatible_template,
        undo_mark_unicode_str_in_template,
    )

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
        raise _sam_error([str(cause.message) for cause in error.causes] or [str(error.message)]) from error
    for logical_id, resource in transformed["Resources"].items():
        if str(resource.get("Type")).startswith("AWS::Serverless::"):
            raise _sam_error([f"Resource with id [{logical_id}] is invalid. There is no {resource['Type']}"])
    return transformed


def _sam_error(causes: list[str]) -> EmbeddedCloudError:
    return EmbeddedCloudError(
        f"Transform {SAM_TRANSFORM} failed with: Invalid Serverless Application Specification document. "
        f"Number of errors found: {len(causes)}. {'; '.join(causes)}"
    )


def _managed_policies() -> dict[str, str]:
    """Names of AWS managed policies → ARNs, for SAM's Policies property."""
    from moto.iam.aws_managed_policies import aws_managed_policies_data  # 10 MB

    return {
        name: f"arn:aws:iam::aws:policy{policy['Path']}{name}"
        for name, policy in json.loads(aws_managed_policies_data).items()
    }
