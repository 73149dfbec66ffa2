"""What patches need to know of the cloud that they are for."""

from __future__ import annotations

from dataclasses import dataclass

from workflows.embedded_cloud.lambda_functions import LambdaFunctions


@dataclass(frozen=True)
class CloudContext:
    """The cloud's own address, and the functions that it runs."""

    endpoint_url: str
    functions: LambdaFunctions
