"""The embedded cloud with the checkout's own template deployed to it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lamella.client import Clients, Stack, one_line
from lamella.errors import CloudError, InputError
from workflows.cli.console import Output
from workflows.embedded_cloud.errors import EmbeddedCloudError
from workflows.embedded_cloud.launcher import EmbeddedCloud

CHECKOUT = Path(__file__).resolve().parents[2]
STACK_NAME = "lamella"
CACHE = CHECKOUT / "build" / "embedded_cloud"
# All workers of a gang are started by this machine's processors, and not each by one of its own.
_START_DEADLINE_S = "600"
_ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


def template_path() -> Path:
    """The template of this checkout.

    Raises
    ------
    InputError
        If Lamella was installed without it.
    """
    path = CHECKOUT / "template.yaml"
    if not path.is_file():
        raise InputError(
            f"there is no {path}: the embedded cloud deploys the template of a checkout of Lamella"
        )
    return path


@contextmanager
def deployed_cloud(
    output: Output,
    *,
    port: int = 0,
    state_dir: Path | None = None,
    parameters: Mapping[str, str] | None = None,
) -> Iterator[tuple[EmbeddedCloud, Stack]]:
    """An embedded cloud of one's own, deployed; it is gone, with all its processes, at the end.

    Parameters
    ----------
    parameters
        Of the template, other than its defaults.

    Raises
    ------
    CloudError
        If it does not start, or the template does not deploy.
    """
    template_path()
    output.say("starting the embedded cloud")
    with _told():
        cloud = EmbeddedCloud.start(state_dir, port, cache_dir=CACHE)
    try:
        output.say("deploying template.yaml (the first time, this builds the Lambda layer)")
        yield cloud, deploy_stack(cloud, STACK_NAME, parameters)
    finally:
        cloud.stop()


def deploy_stack(cloud: EmbeddedCloud, name: str, parameters: Mapping[str, str] | None = None) -> Stack:
    """Deploy the template to a running cloud, or update the stack of that name.

    Parameters
    ----------
    parameters
        Of the template, other than its defaults.

    Raises
    ------
    CloudError
        If the template does not deploy.
    """
    # The SAM translator takes half a second to import.
    from workflows.embedded_cloud.deploy import deploy

    with _told("template.yaml did not deploy to the embedded cloud: "):
        outputs = deploy(
            cloud.endpoint_url,
            template_path(),
            name,
            local_parameters() | dict(parameters or {}),
            cache_dir=CACHE,
        )
    return Stack.of_outputs(name, outputs, Clients.connect(cloud.environment()))


def local_parameters() -> dict[str, str]:
    """The template's parameters: functions run here, under the Python that runs this, and start one by one.

    Raises
    ------
    InputError
        If Lambda has no such processor.
    """
    machine = platform.machine().lower()
    if machine not in _ARCHITECTURES:
        raise InputError(f"Lambda has no architecture like this machine's ({machine}): use x86_64 or arm64")
    return {
        "Runtime": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "Architecture": _ARCHITECTURES[machine],
        "StartDeadline": _START_DEADLINE_S,
    }


@contextmanager
def _told(what: str = "") -> Iterator[None]:
    try:
        yield
    except EmbeddedCloudError as error:
        raise CloudError(what + one_line(str(error))) from error
