"""What patches need to know of the cloud that they are for."""

from __future__ import annotations

from dataclasses import dataclass

from workflows.embedded_cloud.lambda_functions import LambdaFunctions

LARGEST_MEMORY_MB = 10_240


@dataclass(frozen=True)
class CloudContext:
    """The cloud's own address, the functions that it runs, and the memory that the account may give one."""

    endpoint_url: str
    functions: LambdaFunctions
    largest_memory_mb: int = LARGEST_MEMORY_MB
