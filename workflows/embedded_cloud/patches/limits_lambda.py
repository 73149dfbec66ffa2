"""Limits of Lambda that moto does not have.

docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

from moto.awslambda.exceptions import InvalidParameterValueException
from moto.awslambda.models import LambdaBackend, LambdaFunction

from workflows.embedded_cloud.code_store import UNZIPPED_LIMIT_BYTES
from workflows.embedded_cloud.patches.context import CloudContext

LAYERS = 5
ENVIRONMENT_BYTES = 4096
_RANGES: Mapping[str, tuple[int, int]] = {"Timeout": (1, 900), "MemorySize": (128, 10_240)}
_STORAGE_MB = (512, 10_240)


def limit_functions(_context: CloudContext) -> None:
    """Timeout, memory, /tmp, environment, layers, code and layers unzipped are bounded; moto takes any."""
    original_create = LambdaBackend.create_function
    original_configure = LambdaFunction.update_configuration
    original_code = LambdaFunction.update_function_code

    def create_function(self: Any, spec: dict[str, Any]) -> Any:
        check_settings(spec)
        function = original_create(self, spec)
        try:
            _check_unzipped(self, function)
        except InvalidParameterValueException:
            self.delete_function(function.function_name, None)
            raise
        return function

    def update_configuration(self: Any, config_updates: dict[str, Any]) -> Any:
        check_settings(config_updates)
        return original_configure(self, config_updates)

    def update_function_code(self: Any, updated_spec: dict[str, Any]) -> Any:
        archive = updated_spec.get("ZipFile")
        if isinstance(archive, bytes):
            _check_bytes(unzipped_bytes(archive))
        return original_code(self, updated_spec)

    LambdaBackend.create_function = create_function
    LambdaFunction.update_configuration = update_configuration
    LambdaFunction.update_function_code = update_function_code


def check_settings(spec: Mapping[str, Any]) -> None:
    """Refuse what Lambda refuses of a function's configuration.

    Raises
    ------
    InvalidParameterValueException
        If a setting is beyond its bounds.
    """
    numbers = {name: spec.get(name) for name in _RANGES}
    numbers["EphemeralStorage"] = (spec.get("EphemeralStorage") or {}).get("Size")
    for name, value in numbers.items():
        least, most = _RANGES.get(name, _STORAGE_MB)
        if value is not None and not least <= int(value) <= most:
            side, bound = ("less", most) if int(value) > most else ("greater", least)
            raise InvalidParameterValueException(
                f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: "
                f"Member must have value {side} than or equal to {bound}"
            )
    variables = (spec.get("Environment") or {}).get("Variables") or {}
    if len(json.dumps(variables, separators=(",", ":")).encode()) > ENVIRONMENT_BYTES:
        raise InvalidParameterValueException(
            "Lambda was unable to configure your environment variables because the environment variables you "
            "have provided exceeded the 4KB limit."
        )
    if len(spec.get("Layers") or []) > LAYERS:
        raise InvalidParameterValueException(f"Cannot reference more than {LAYERS} layers.")


def unzipped_bytes(archive: bytes) -> int:
    """What a package takes when it is unzipped; 0 for what is no archive, which is told of elsewhere."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            return sum(entry.file_size for entry in opened.infolist())
    except zipfile.BadZipFile:
        return 0


def _check_unzipped(backend: Any, function: Any) -> None:
    size = unzipped_bytes(getattr(function, "code_bytes", None) or b"")
    for layer in function.layers:
        version = backend.layers_versions_by_arn(layer["Arn"])
        size += unzipped_bytes(version.code_bytes) if version is not None else 0
    _check_bytes(size)


def _check_bytes(size: int) -> None:
    if size >= UNZIPPED_LIMIT_BYTES:
        raise InvalidParameterValueException(
            f"Unzipped size must be smaller than {UNZIPPED_LIMIT_BYTES} bytes"
        )


PATCHES = (limit_functions,)
