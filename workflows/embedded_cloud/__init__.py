"""A local AWS: moto's services and a Lambda service that runs every execution environment as a process.

Knows nothing of what runs on it; it takes any SAM template.
"""

from __future__ import annotations

from workflows.embedded_cloud.deploy import delete, deploy
from workflows.embedded_cloud.errors import EmbeddedCloudError
from workflows.embedded_cloud.launcher import EmbeddedCloud

__all__ = ["EmbeddedCloud", "EmbeddedCloudError", "delete", "deploy"]
