"""Changes to how moto finds the service that a request is for."""

from __future__ import annotations

from moto import backends

from workflows.embedded_cloud.patches.context import CloudContext


def list_services_once(_context: CloudContext) -> None:
    """Moto looks through its own directory twice for each request, as long as the request itself takes."""
    services = frozenset(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: services


PATCHES = (list_services_once,)
