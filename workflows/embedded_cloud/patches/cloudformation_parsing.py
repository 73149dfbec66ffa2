"""Changes to how moto reads templates."""

from __future__ import annotations

import re
from typing import Any

from moto.cloudformation import parsing, responses
from moto.cloudformation.exceptions import ValidationError

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


def find_in_map_with_functions(_context: CloudContext) -> None:
    """Fn::FindInMap takes functions for every key, and a DefaultValue; moto takes some of the functions."""
    original = parsing.clean_json

    def clean_json(resource_json: Any, resources_map: Any) -> Any:
        if not isinstance(resource_json, dict) or "Fn::FindInMap" not in resource_json:
            return original(resource_json, resources_map)
        keys, default = list(resource_json["Fn::FindInMap"]), None
        if isinstance(keys[-1], dict) and "DefaultValue" in keys[-1]:
            default = keys.pop()
        found: Any = resources_map._template.get("Mappings") or {}
        for key in keys:
            name = str(clean_json(key, resources_map))
            if not isinstance(found, dict) or name not in found:
                if default is not None:
                    return clean_json(default["DefaultValue"], resources_map)
                raise ValidationError(
                    message=f"Template error: Unable to get mapping for {'::'.join(map(str, keys))}"
                )
            found = found[name]
        return found

    parsing.clean_json = clean_json


def templates_at_our_own_address(_context: CloudContext) -> None:
    """TemplateURL may point at this cloud's S3; moto takes the first part of 127.0.0.1 for a bucket."""
    original = responses.get_stack_from_s3_url
    ours = re.compile(r"http://(?:127\.0\.0\.1|localhost):\d+/(?P<bucket>[^/]+)/(?P<key>[^?]+)(?:\?.*)?")

    def get_stack_from_s3_url(template_url: str, account_id: str, partition: str) -> str:
        match = ours.fullmatch(template_url)
        url = f"https://{match['bucket']}.s3.amazonaws.com/{match['key']}" if match else template_url
        return str(original(url, account_id=account_id, partition=partition))

    responses.get_stack_from_s3_url = get_stack_from_s3_url


PATCHES = (
    drop_no_value_in_lists,
    split_default_lists,
    get_att_with_dots,
    find_in_map_with_functions,
    refuse_outputs_of_undefined_resources,
    templates_at_our_own_address,
)
