"""What patches need to know of the cloud that they are for."""

from __future__ import annotations

from dataclasses import dataclass

from workflows.embedded_cloud.lambda_functions import LambdaFunctions
from workflows.embedded_cloud.stacks.response_inbox import ResponseInbox


@dataclass(frozen=True)
class CloudContext:
    """The cloud's own address, the functions that it runs, and where custom resources answer."""

    endpoint_url: str
    functions: LambdaFunctions
    inbox: ResponseInbox
