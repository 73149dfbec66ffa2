"""Functions, as moto keeps them, run in the Lambda service."""

from __future__ import annotations

import base64
import json
from typing import Any

from moto.awslambda.exceptions import InvalidParameterValueException
from moto.awslambda.models import (
    LambdaBackend,
    LambdaFunction,
    LayerVersion,
    lambda_backends,
)
from moto.ec2.models import ec2_backends

from workflows.embedded_cloud.errors import EmbeddedCloudError
from workflows.embedded_cloud.interpreters import find_interpreter
from workflows.embedded_cloud.invocation import Invocation
from workflows.embedded_cloud.lambda_service import TooManyRequestsError
from workflows.embedded_cloud.patches.context import CloudContext

_CFN_PROPERTIES = (
    "Architectures",
    "Description",
    "Environment",
    "EphemeralStorage",
    "Layers",
    "LoggingConfig",
    "MemorySize",
    "PackageType",
    "Publish",
    "ReservedConcurrentExecutions",
    "Timeout",
    "TracingConfig",
    "VpcConfig",
)

# What a function is where its template says nothing.
_DEFAULTS: dict[str, Any] = {
    "Architectures": ["x86_64"],
    "Description": "",
    "Environment": {},
    "EphemeralStorage": {"Size": 512},
    "Layers": [],
    "LoggingConfig": {},
    "MemorySize": 128,
    "Tags": [],
    "Timeout": 3,
    "TracingConfig": {"Mode": "PassThrough"},
    "VpcConfig": {},
}


def run_functions_as_processes(context: CloudContext) -> None:
    """Other services that call a function reach the Lambda service; moto would start a Docker container.

    Event sources (SQS) wait for the result; services that only notify (SNS, S3, Logs) do not, as on AWS.
    """

    def invoke(self: Any, body: str, _request_headers: Any, response_headers: Any) -> str:
        if not _waits_for_result(body):
            context.functions.invoke_async(self, Invocation(body.encode()))
            return ""
        try:
            outcome = context.functions.invoke(self, Invocation(body.encode()))
        except TooManyRequestsError:
            response_headers["x-amz-function-error"] = "Unhandled"
            return ""
        if outcome.function_error:
            response_headers["x-amz-function-error"] = outcome.function_error
        return outcome.payload.decode()

    def _invoke_lambda(self: Any, event: Any = None) -> tuple[str, bool, str]:
        body = event if isinstance(event, str) else json.dumps(event or {})
        context.functions.invoke_async(self, Invocation(body.encode()))
        return "", False, ""

    LambdaFunction.invoke = invoke
    LambdaFunction._invoke_lambda = _invoke_lambda


def refuse_runtimes_that_do_not_run_here(_context: CloudContext) -> None:
    """A function whose Runtime nothing on this machine runs is refused when it is made."""
    original = LambdaFunction.__init__

    def init(self: Any, account_id: str, spec: dict[str, Any], region: str, version: str | int = 1) -> None:
        if spec.get("PackageType", "Zip") != "Zip":
            raise InvalidParameterValueException(
                "container images cannot run in the embedded cloud: use a zip package"
            )
        try:
            find_interpreter(str(spec.get("Runtime")))
        except EmbeddedCloudError as error:
            raise InvalidParameterValueException(str(error)) from error
        original(self, account_id, spec, region, version)

    LambdaFunction.__init__ = init


def keep_vpc_config(_context: CloudContext) -> None:
    """A function tells of the network that it is in; moto makes it up, or fails for what is not said.

    There is no network here: a function reaches what its machine does.
    """

    def vpc_config(self: Any) -> dict[str, Any]:
        given = self._vpc_config or {}
        subnets, groups = list(given.get("SubnetIds", [])), list(given.get("SecurityGroupIds", []))
        found = {
            subnet.vpc_id
            for zone in ec2_backends[self.account_id][self.region].subnets.values()
            for subnet in zone.values()
            if subnet.id in subnets
        }
        return {
            "SubnetIds": subnets,
            "SecurityGroupIds": groups,
            "VpcId": next(iter(found), "vpc-0123456789abcdef0" if subnets else ""),
            "Ipv6AllowedForDualStack": str(given.get("Ipv6AllowedForDualStack", False)).lower() == "true",
        }

    LambdaFunction.vpc_config = property(vpc_config)


def keep_logging_config(_context: CloudContext) -> None:
    """LoggingConfig (format, group, level) is part of a function; moto forgets it."""
    original_init = LambdaFunction.__init__
    original_update = LambdaFunction.update_configuration
    original_get = LambdaFunction.get_configuration

    def init(self: Any, account_id: str, spec: dict[str, Any], region: str, version: str | int = 1) -> None:
        original_init(self, account_id, spec, region, version)
        self.logging_config = dict(spec.get("LoggingConfig") or {})

    def update_configuration(self: Any, config_updates: dict[str, Any]) -> Any:
        if "LoggingConfig" in config_updates:
            self.logging_config = dict(config_updates["LoggingConfig"])
        return original_update(self, config_updates)

    def get_configuration(self: Any, on_create: bool = False) -> dict[str, Any]:
        configuration: dict[str, Any] = original_get(self, on_create)
        defaults = {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{self.function_name}"}
        return {**configuration, "LoggingConfig": {**defaults, **self.logging_config}}

    LambdaFunction.__init__ = init
    LambdaFunction.update_configuration = update_configuration
    LambdaFunction.get_configuration = get_configuration


def keep_all_function_properties(_context: CloudContext) -> None:
    """Moto's AWS::Lambda::Function ignores Layers, LoggingConfig, Architectures, Tags and more."""
    original_update = LambdaFunction.update_from_cloudformation_json.__func__

    def create(
        cls: Any,
        /,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **_kwargs: Any,
    ) -> Any:
        properties = cloudformation_json["Properties"]
        code = dict(properties["Code"])
        if "ZipFile" in code:  # in a template it is the source, not an archive
            code["ZipFile"] = _base64(cls._create_zipfile_from_plaintext_code(code["ZipFile"]))
        spec = {
            "Code": code,
            "FunctionName": resource_name,
            "Handler": properties.get("Handler"),
            "Role": properties["Role"],
            "Runtime": properties.get("Runtime"),
            **{key: properties[key] for key in _CFN_PROPERTIES if key in properties},
            "Tags": {tag["Key"]: tag["Value"] for tag in properties.get("Tags", [])},
        }
        if "EphemeralStorage" in spec:
            spec["EphemeralStorage"] = {"Size": int(spec["EphemeralStorage"]["Size"])}
        for key in ("MemorySize", "Timeout", "ReservedConcurrentExecutions"):
            if key in spec:
                spec[key] = int(spec[key])
        return lambda_backends[account_id][region_name].create_function(spec)

    def update(
        cls: Any,
        original_resource: Any,
        new_resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
    ) -> Any:
        properties = {**_DEFAULTS, **cloudformation_json["Properties"]}
        properties["Environment"] = {"Variables": {}, **properties["Environment"]}
        for key in ("MemorySize", "Timeout"):
            properties[key] = int(properties[key])
        original_resource.tracing_config = properties["TracingConfig"]
        original_resource.ephemeral_storage = int(properties["EphemeralStorage"]["Size"])
        original_resource.architectures = properties["Architectures"]
        original_resource.tags = {tag["Key"]: str(tag["Value"]) for tag in properties["Tags"]}
        find_interpreter(str(properties.get("Runtime")))
        if "ZipFile" in properties["Code"]:
            source = properties["Code"]["ZipFile"]
            properties["Code"] = {"ZipFile": _base64(cls._create_zipfile_from_plaintext_code(source))}
        changed = {**cloudformation_json, "Properties": properties}
        reserved = properties.get("ReservedConcurrentExecutions")
        original_resource.reserved_concurrency = None if reserved is None else int(reserved)
        return original_update(cls, original_resource, new_resource_name, changed, account_id, region_name)

    LambdaFunction.create_from_cloudformation_json = classmethod(create)
    LambdaFunction.update_from_cloudformation_json = classmethod(update)


def layer_versions_keep_their_name(_context: CloudContext) -> None:
    """A layer has its LayerName and architectures, and Ref gives the ARN of its version; moto has none."""
    original = LayerVersion.create_from_cloudformation_json.__func__

    def create(
        cls: Any,
        /,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **kwargs: Any,
    ) -> Any:
        properties = cloudformation_json["Properties"]
        name = properties.get("LayerName", resource_name)
        version = original(cls, name, cloudformation_json, account_id, region_name, **kwargs)
        version.compatible_architectures = list(properties.get("CompatibleArchitectures", []))
        return version

    LayerVersion.create_from_cloudformation_json = classmethod(create)
    LayerVersion.physical_resource_id = property(lambda self: self.arn)
    LayerVersion.has_cfn_attr = classmethod(lambda *_: False)


def layer_versions_go_with_their_stack(_context: CloudContext) -> None:
    """A layer's version goes with its stack, or when another takes its place; moto keeps all of them."""

    def delete(
        _cls: Any, resource_name: str, _cloudformation_json: Any, account_id: str, region_name: str
    ) -> None:
        layer, version = resource_name.rsplit(":", 1)
        lambda_backends[account_id][region_name].delete_layer_version(layer, version)

    LayerVersion.delete_from_cloudformation_json = classmethod(delete)


def stop_environments_of_deleted_functions(context: CloudContext) -> None:
    """Execution environments end with their function."""
    original = LambdaBackend.delete_function

    def delete_function(self: Any, function_name: str, qualifier: str | None = None) -> None:
        original(self, function_name, qualifier)
        context.functions.retire_deleted()

    LambdaBackend.delete_function = delete_function


def _waits_for_result(body: str) -> bool:
    try:
        records = json.loads(body).get("Records") or [{}]
    except (ValueError, AttributeError):
        return False
    return bool(records[0].get("eventSource") == "aws:sqs")


def _base64(data: bytes) -> str:

    return base64.b64encode(data).decode()


PATCHES = (
    run_functions_as_processes,
    refuse_runtimes_that_do_not_run_here,
    keep_vpc_config,
    keep_logging_config,
    keep_all_function_properties,
    layer_versions_keep_their_name,
    layer_versions_go_with_their_stack,
    stop_environments_of_deleted_functions,
)
