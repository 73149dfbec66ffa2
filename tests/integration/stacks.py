"""Further stacks of the project's template on the tests' cloud."""

from __future__ import annotations

from lamella.client import Clients, Stack
from workflows.cli.cloud import CACHE, local_parameters, template_path
from workflows.embedded_cloud import EmbeddedCloud, deploy


def put_stack(cloud: EmbeddedCloud, name: str, **parameters: str) -> Stack:
    """Deploy the template under a name, or update the stack that has it."""
    outputs = deploy(
        cloud.endpoint_url, template_path(), name, local_parameters() | parameters, cache_dir=CACHE
    )
    return Stack.of_outputs(name, outputs, Clients.connect(cloud.environment()))
