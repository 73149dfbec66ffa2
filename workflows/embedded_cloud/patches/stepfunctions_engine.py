"""Changes to how moto's Step Functions runs state machines."""

from __future__ import annotations

import json
import sys
import threading
import uuid
from typing import Any

import boto3
import moto.stepfunctions.models as sfn_models
import yaml
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.core.config import default_user_config
from moto.s3.models import s3_backends
from moto.stepfunctions.models import StateMachine
from moto.stepfunctions.parser import models as parser_models
from moto.stepfunctions.parser.asl.component.common.error_name.custom_error_name import CustomErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEvent,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.eval_component import EvalComponent
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration import iteration_worker
from moto.stepfunctions.parser.asl.component.state.exec.state_task.lambda_eval_utils import (
    LambdaFunctionErrorException,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_aws_sdk import (
    StateTaskServiceAwsSdk,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_lambda import (
    StateTaskServiceLambda,
)
from moto.stepfunctions.parser.asl.utils import boto_client
from moto.stepfunctions.parser.asl.utils.encoding import to_json_str
from moto.stepfunctions.parser.models import StepFunctionsParserBackend

from workflows.embedded_cloud.patches.context import CloudContext

_CLIENT_POOL_CONNECTIONS = 1000


def execute_state_machines(_context: CloudContext) -> None:
    """Moto only pretends to run executions unless this is on; machines of templates too."""
    default_user_config["stepfunctions"] = {"execute_state_machine": True}
    sfn_models.stepfunctions_backends = parser_models.stepfunctions_parser_backends


def call_services_at_our_port(context: CloudContext) -> None:
    """The engine makes a client per task, for localhost:5000. One per service is kept, for our own port.

    Making a client costs more than most of the calls that are made with it.
    """
    original = boto_client.boto_client_for
    lock = threading.Lock()
    clients: dict[tuple[str, str], BaseClient] = {}

    def boto_client_for(region: str, service: str, **_credentials: Any) -> BaseClient:
        with lock:
            if (region, service) not in clients:
                session = boto3.session.Session("embedded", "embedded", region_name=region)
                clients[region, service] = session.client(  # type: ignore[call-overload]
                    service,
                    endpoint_url=context.endpoint_url,
                    config=Config(
                        parameter_validation=False,
                        retries={"total_max_attempts": 1},
                        connect_timeout=60,
                        read_timeout=99_999_999,
                        max_pool_connections=_CLIENT_POOL_CONNECTIONS,
                    ),
                )
            return clients[region, service]

    for module in list(sys.modules.values()):
        if getattr(module, "boto_client_for", None) is original:
            module.boto_client_for = boto_client_for  # type: ignore[attr-defined]


def read_definitions_as_templates_give_them(_context: CloudContext) -> None:
    """DefinitionSubstitutions, DefinitionS3Location, Definition, type, logging; moto has DefinitionString."""
    original_create = StateMachine.create_from_cloudformation_json.__func__
    original_update = StateMachine.update_from_cloudformation_json.__func__

    def create(
        cls: Any,
        /,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **kwargs: Any,
    ) -> Any:
        resource = _with_definition_string(cloudformation_json, account_id)
        machine = original_create(cls, resource_name, resource, account_id, region_name, **kwargs)
        machine.type = resource["Properties"].get("StateMachineType", "STANDARD")
        _observe(machine, resource["Properties"])
        return machine

    def update(
        cls: Any,
        original_resource: Any,
        new_resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
    ) -> Any:
        resource = _with_definition_string(cloudformation_json, account_id)
        machine = original_update(
            cls, original_resource, new_resource_name, resource, account_id, region_name
        )
        _observe(machine, resource["Properties"])
        return machine

    StateMachine.create_from_cloudformation_json = classmethod(create)
    StateMachine.update_from_cloudformation_json = classmethod(update)


def _observe(machine: Any, properties: Any) -> None:
    """Keep what a template says of logging and tracing, named as Step Functions' API names it."""
    logging, tracing = (
        properties.get("LoggingConfiguration") or {},
        properties.get("TracingConfiguration") or {},
    )
    destinations = [
        {"cloudWatchLogsLogGroup": {"logGroupArn": each["CloudWatchLogsLogGroup"]["LogGroupArn"]}}
        for each in logging.get("Destinations", [])
    ]
    machine.loggingConfiguration = {
        "level": logging.get("Level", "OFF"),
        "includeExecutionData": str(logging.get("IncludeExecutionData", False)).lower() == "true",
        **({"destinations": destinations} if destinations else {}),
    }
    machine.tracingConfiguration = {"enabled": str(tracing.get("Enabled", False)).lower() == "true"}


def state_machine_arn_attribute(_context: CloudContext) -> None:
    """Fn::GetAtt Machine.Arn exists on AWS; moto knows Ref only."""
    original_has = StateMachine.has_cfn_attr.__func__
    original_get = StateMachine.get_cfn_attribute

    def get(self: Any, attribute_name: str) -> Any:
        return self.arn if attribute_name == "Arn" else original_get(self, attribute_name)

    StateMachine.has_cfn_attr = classmethod(lambda cls, attr: attr == "Arn" or original_has(cls, attr))
    StateMachine.get_cfn_attribute = get


def name_executions(_context: CloudContext) -> None:
    """An execution started without a name gets a unique one; moto calls it "None" and refuses the next."""
    original = StepFunctionsParserBackend.start_execution

    def start_execution(
        self: Any,
        state_machine_arn: str,
        name: str | None = None,
        execution_input: str | None = None,
        *args: Any,
    ) -> Any:
        return original(self, state_machine_arn, name or str(uuid.uuid4()), execution_input, *args)

    StepFunctionsParserBackend.start_execution = start_execution


def name_lambda_errors_as_aws_does(_context: CloudContext) -> None:
    """A failure without an errorType is Lambda.Unknown on AWS; moto calls it Exception."""
    original = StateTaskServiceLambda._from_error

    def _from_error(self: Any, env: Any, ex: Exception) -> FailureEvent:
        event = original(self, env, ex)
        if isinstance(ex, LambdaFunctionErrorException) and _error_type(ex.payload) is None:
            event.error_name = CustomErrorName("Lambda.Unknown")
            event.event_details["taskFailedEventDetails"]["error"] = "Lambda.Unknown"
        elif (
            isinstance(ex, ClientError)
            and event.event_details["taskFailedEventDetails"]["error"].count("Lambda.") > 1
        ):
            event.error_name = CustomErrorName(
                event.event_details["taskFailedEventDetails"]["error"][len("Lambda.") :]
            )
        return event

    StateTaskServiceLambda._from_error = _from_error


def map_passes_on_states_errors(_context: CloudContext) -> None:
    """An iteration may fail with States.Timeout; moto then fails the Map with an error of its own."""

    def named(error_name: str | None) -> Any:
        if error_name is not None and error_name.startswith("States."):
            return StatesErrorName.from_name(error_name)
        return CustomErrorName(error_name)

    iteration_worker.CustomErrorName = named


def objects_as_json_text_in_sdk_calls(_context: CloudContext) -> None:
    """An object given for a blob, such as S3's Body, is sent as JSON text; moto hands boto3 the object."""
    original = StateTaskServiceAwsSdk._eval_service_task

    def _eval_service_task(
        self: Any,
        env: Any,
        resource_runtime_part: Any,
        normalised_parameters: dict[str, Any],
        state_credentials: Any,
    ) -> None:
        client = boto_client.boto_client_for(resource_runtime_part.region, self._get_boto_service_name())
        operation = client.meta.method_to_api_mapping.get(self._get_boto_service_action())
        if operation is not None:
            shape = client.meta.service_model.operation_model(operation).input_shape
            for name, member in (shape.members if shape else {}).items():
                value = normalised_parameters.get(name)
                if member.type_name == "blob" and value is not None and not isinstance(value, (str, bytes)):
                    normalised_parameters[name] = to_json_str(value, separators=(",", ":")).encode()
        original(self, env, resource_runtime_part, normalised_parameters, state_credentials)

    StateTaskServiceAwsSdk._eval_service_task = _eval_service_task


def quiet_engine(_context: CloudContext) -> None:
    """Errors are in the history; moto also logs each with a repr of the whole machine, at length."""
    EvalComponent._log_failure_event_exception = lambda *_, **__: None
    EvalComponent._log_exception = lambda *_, **__: None


def _error_type(payload: str) -> str | None:
    try:
        found = json.loads(payload).get("errorType")
    except (ValueError, AttributeError):
        return None
    return str(found) if found else None


def _with_definition_string(resource: Any, account_id: str) -> Any:
    properties = dict(resource["Properties"])
    definition = properties.get("DefinitionString")
    if definition is None and "Definition" in properties:
        definition = json.dumps(properties.pop("Definition"))
    if definition is None and "DefinitionS3Location" in properties:
        location = properties.pop("DefinitionS3Location")
        key = s3_backends[account_id]["aws"].get_object(
            location["Bucket"], location["Key"], location.get("Version")
        )
        text = key.value.decode() if key is not None else ""
        definition = json.dumps(yaml.safe_load(text))
    for name, value in (properties.pop("DefinitionSubstitutions", None) or {}).items():
        definition = str(definition).replace(f"${{{name}}}", str(value))
    properties["DefinitionString"] = definition
    properties.setdefault("RoleArn", f"arn:aws:iam::{account_id}:role/unspecified")
    return {**resource, "Properties": properties}


PATCHES = (
    execute_state_machines,
    call_services_at_our_port,
    read_definitions_as_templates_give_them,
    state_machine_arn_attribute,
    name_executions,
    name_lambda_errors_as_aws_does,
    map_passes_on_states_errors,
    objects_as_json_text_in_sdk_calls,
    quiet_engine,
)
