"""Between moto, which keeps the functions that were deployed, and the Lambda service, which runs them."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moto.awslambda.models import LambdaFunction, lambda_backends

from workflows.embedded_cloud.callers import access_key_of
from workflows.embedded_cloud.code_store import CodeStore
from workflows.embedded_cloud.errors import EmbeddedCloudError
from workflows.embedded_cloud.interpreters import find_interpreter
from workflows.embedded_cloud.invocation import FunctionConfig, Invocation, Outcome
from workflows.embedded_cloud.lambda_service import LambdaService
from workflows.embedded_cloud.runtime_directory import build_runtime_directory

DEFAULT_RETRIES = 2


class LambdaFunctions:
    """Runs moto's functions.

    Parameters
    ----------
    service
        The Lambda service.
    code
        Where deployment packages are unzipped.
    runtimes
        Where runtime directories are made.
    """

    def __init__(self, service: LambdaService, code: CodeStore, runtimes: Path) -> None:
        self._service = service
        self._code = code
        self._runtimes = runtimes
        self._lock = threading.Lock()

    @property
    def concurrency(self) -> int:
        """Executions that the account may have at once."""
        return self._service.concurrency

    def config_of(self, function: LambdaFunction) -> FunctionConfig:
        """Everything that an execution environment of the function needs, its code unzipped.

        Raises
        ------
        EmbeddedCloudError
            If no interpreter runs it, or its code is not a zip archive.
        """
        if function.package_type != "Zip":
            raise EmbeddedCloudError(
                f"Function {function.function_name}: container images cannot run here, only zip packages"
            )
        interpreter = find_interpreter(str(function.run_time))
        with self._lock:
            runtime_directory = build_runtime_directory(self._runtimes, interpreter)
        logging: Mapping[str, Any] = getattr(function, "logging_config", None) or {}
        return FunctionConfig(
            name=function.function_name,
            arn=function.function_arn,
            version=str(function.version),
            handler=str(function.handler),
            runtime=str(function.run_time),
            python=interpreter.version,
            executable=interpreter.executable,
            runtime_directory=runtime_directory,
            code=self._code.unzip(function.code_bytes, _hexadecimal(function.code_sha_256)),
            layers=tuple(self._layer(function, layer["Arn"]) for layer in function.layers),
            environment=tuple(sorted((key, str(value)) for key, value in function.environment_vars.items())),
            memory_mb=int(function.memory_size),
            access_key=access_key_of(str(function.role)),
            temporary_storage_mb=int(function.ephemeral_storage),
            timeout_s=int(function.timeout),
            region=function.region,
            log_group=str(logging.get("LogGroup") or f"/aws/lambda/{function.function_name}"),
            log_json=logging.get("LogFormat") == "JSON",
            log_level=logging.get("ApplicationLogLevel"),
            tracing=function.tracing_config.get("Mode") == "Active",
        )

    def invoke(self, function: LambdaFunction, invocation: Invocation) -> Outcome:
        """Invoke and wait.

        Raises
        ------
        TooManyRequestsError
            If there is no execution to spare.
        """
        return self._service.invoke(self.config_of(function), invocation, _reserved(function))

    def invoke_async(self, function: LambdaFunction, invocation: Invocation) -> None:
        """Queue an invocation, retried as the function's EventInvokeConfig says."""
        retries = DEFAULT_RETRIES
        for config in function.event_invoke_config:
            retries = int(config.config.get("MaximumRetryAttempts", retries))
        self._service.invoke_async(lambda: self.config_of(function), invocation, retries, _reserved(function))

    def retire_deleted(self) -> None:
        """Stop environments of functions that do not exist any more."""
        existing = {
            (function.region, function.function_name)
            for account in list(lambda_backends.values())
            for backend in list(account.values())
            for function in backend.list_functions()
        }
        self._service.retire(lambda config: (config.region, config.name) in existing)

    def _layer(self, function: LambdaFunction, arn: str) -> Path:
        version = lambda_backends[function.account_id][function.region].layers_versions_by_arn(arn)
        if version is None:
            raise EmbeddedCloudError(f"Function {function.function_name}: layer version {arn} does not exist")
        return self._code.unzip(version.code_bytes, _hexadecimal(version.code_sha_256))


def _reserved(function: LambdaFunction) -> int | None:
    return None if function.reserved_concurrency is None else int(function.reserved_concurrency)


def _hexadecimal(base64_digest: str) -> str:
    return base64.b64decode(base64_digest).hex()
